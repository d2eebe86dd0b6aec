"""Heads: from features of exemplar and search region to scores and boxes."""

from lightning_trackers.heads.fcos import FCOSHead, PointMaps
from lightning_trackers.heads.rpn import DepthwiseRPN, Kernels, Proposals, UpChannelRPN

__all__ = ["DepthwiseRPN", "FCOSHead", "Kernels", "PointMaps", "Proposals", "UpChannelRPN"]
