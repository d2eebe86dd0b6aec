"""SINT: the candidate that looks most like the target of the first frame."""

from lightning_trackers.methods.sint.network import Regions, SINTNetwork

__all__ = ["Regions", "SINTNetwork"]
