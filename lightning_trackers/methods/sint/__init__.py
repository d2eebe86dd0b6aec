"""SINT: the candidate that looks most like the target of the first frame."""

from lightning_trackers.methods.sint.module import SINTModule
from lightning_trackers.methods.sint.network import Regions, SINTNetwork
from lightning_trackers.methods.sint.sampling import BoxSampling
from lightning_trackers.methods.sint.tracker import SINTSettings, SINTState, SINTTracker

__all__ = [
    "BoxSampling",
    "Regions",
    "SINTModule",
    "SINTNetwork",
    "SINTSettings",
    "SINTState",
    "SINTTracker",
]
