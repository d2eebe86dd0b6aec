"""SiamRPN and its variants with focal and shrinkage loss."""

from lightning_trackers.methods.siamrpn.module import SiamRPNModule
from lightning_trackers.methods.siamrpn.network import SiamRPN
from lightning_trackers.methods.siamrpn.targets import AnchorLabelling
from lightning_trackers.methods.siamrpn.tracker import SiamRPNSettings, SiamRPNTracker

__all__ = ["AnchorLabelling", "SiamRPN", "SiamRPNModule", "SiamRPNSettings", "SiamRPNTracker"]
