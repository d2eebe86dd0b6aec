"""SiamFC and its variants with focal and shrinkage loss."""

from lightning_trackers.methods.siamfc.module import SiamFCModule
from lightning_trackers.methods.siamfc.network import SiamFC
from lightning_trackers.methods.siamfc.targets import response_labels
from lightning_trackers.methods.siamfc.tracker import SiamFCSettings, SiamFCState, SiamFCTracker

__all__ = [
    "SiamFC",
    "SiamFCModule",
    "SiamFCSettings",
    "SiamFCState",
    "SiamFCTracker",
    "response_labels",
]
