"""MDNet: a head of the target's own on shared convolutions; the ground SPGA stands on."""

from lightning_trackers.methods.mdnet.module import Branches, MDNetModule
from lightning_trackers.methods.mdnet.network import MDNet
from lightning_trackers.methods.mdnet.tracker import CropFeatures, MDNetTracker

__all__ = ["Branches", "CropFeatures", "MDNet", "MDNetModule", "MDNetTracker"]
