"""Pure tensor functions."""

from lightning_trackers.ops.correlation import xcorr, xcorr_depthwise

__all__ = ["xcorr", "xcorr_depthwise"]
