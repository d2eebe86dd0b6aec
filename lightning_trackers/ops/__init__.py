"""Pure tensor functions."""

from lightning_trackers.ops.correlation import xcorr, xcorr_depthwise
from lightning_trackers.ops.nms import nms
from lightning_trackers.ops.roi_align import roi_align

__all__ = ["nms", "roi_align", "xcorr", "xcorr_depthwise"]
