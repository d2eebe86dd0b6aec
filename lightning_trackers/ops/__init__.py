"""Pure tensor functions."""

from lightning_trackers.ops.adaptive_roi_align import adaptive_roi_align
from lightning_trackers.ops.correlation import xcorr, xcorr_depthwise
from lightning_trackers.ops.nms import nms
from lightning_trackers.ops.roi_align import roi_align
from lightning_trackers.ops.roi_pool import roi_pool

__all__ = ["adaptive_roi_align", "nms", "roi_align", "roi_pool", "xcorr", "xcorr_depthwise"]
