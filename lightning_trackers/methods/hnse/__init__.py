"""Hard negative samples emphasis tracker without anchors."""

from lightning_trackers.methods.hnse.emphasis import HardNegativeSelection, RoIs
from lightning_trackers.methods.hnse.module import HNSEModule
from lightning_trackers.methods.hnse.network import HNSE, RoIEmbedding
from lightning_trackers.methods.hnse.tracker import HNSESettings, HNSETracker

__all__ = [
    "HNSE",
    "HNSEModule",
    "HNSESettings",
    "HNSETracker",
    "HardNegativeSelection",
    "RoIEmbedding",
    "RoIs",
]
