"""RT-MDNet: MDNet on one dense feature map per frame."""

from lightning_trackers.methods.rtmdnet.module import RTMDNetModule
from lightning_trackers.methods.rtmdnet.network import RTMDNet
from lightning_trackers.methods.rtmdnet.tracker import RTMDNetTracker, SceneFeatures

__all__ = ["RTMDNet", "RTMDNetModule", "RTMDNetTracker", "SceneFeatures"]
