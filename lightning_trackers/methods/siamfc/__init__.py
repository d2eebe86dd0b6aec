"""SiamFC and its variants with focal and shrinkage loss."""

from lightning_trackers.methods.siamfc.module import SiamFCModule
from lightning_trackers.methods.siamfc.network import SiamFC
from lightning_trackers.methods.siamfc.tracker import SiamFCSettings, SiamFCTracker

__all__ = ["SiamFC", "SiamFCModule", "SiamFCSettings", "SiamFCTracker"]
