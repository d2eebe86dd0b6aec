"""GOT-10k's rule: average overlap (AO) and success rates over the frames of all sequences.

- The first frame is left out, and so are frames whose target is not visible at all (``cover`` 0).
- Both boxes are brought inside the image first: the corner is clipped, then the size by what is
  left. A box that sticks out at the left or top keeps its size and is moved, not cut.
- Overlaps are compared with ``>``.
- The benchmark's scores pool the frames of all sequences, so long ones weigh more; the
  repetitions of a tracker that is not deterministic are pooled as well.

Source: Huang, Zhao, Huang, GOT-10k, TPAMI 2021, Section 5.1; got-10k/toolkit 0.1.3
(``ExperimentGOT10k.report``, ``rect_iou``).
"""

import numpy as np
import torch
from torch import Tensor

AVERAGE_OVERLAP_THRESHOLDS = torch.from_numpy(np.linspace(0, 1, 101))
"""Overlaps 0, 0.01, ..., 1, spelt as the toolkit spells them."""


def bounded_overlaps(pred_xywh: Tensor, target_xywh: Tensor, image_wh: Tensor) -> Tensor:
    """Return the overlap of boxes that are brought inside the image first.

    Args:
        pred_xywh: Predictions as in the benchmark's files (1-based), ``(..., 4)``, px.
        target_xywh: Ground truth, ``(..., 4)``.
        image_wh: Width and height of the image, ``(2,)`` or ``(..., 2)``.

    Returns:
        Overlaps in [0, 1], float64 ``(...)``.
    """
    pred_xyxy, target_xyxy = (_bounded(b.double(), image_wh) for b in (pred_xywh, target_xywh))
    top_left = torch.maximum(pred_xyxy[..., :2], target_xyxy[..., :2])
    bottom_right = torch.minimum(pred_xyxy[..., 2:], target_xyxy[..., 2:])
    intersection = (bottom_right - top_left).clip(0).prod(dim=-1)
    areas = [(b[..., 2:] - b[..., :2]).prod(dim=-1) for b in (pred_xyxy, target_xyxy)]
    eps = torch.finfo(torch.float64).eps  # two boxes without area have overlap 0
    overlaps: Tensor = (intersection / (areas[0] + areas[1] - intersection + eps)).clip(0, 1)
    return overlaps


def overlap_counts(overlaps: Tensor) -> Tensor:
    """Return how many overlaps exceed 0, 0.01, ..., 1, int64 ``(101,)``."""
    thresholds = AVERAGE_OVERLAP_THRESHOLDS.to(overlaps.device)
    below = torch.bucketize(overlaps.nan_to_num(nan=0.0), thresholds)  # thresholds below each
    histogram = torch.bincount(below, minlength=len(thresholds) + 1)  # (102,)
    return histogram.flip(0).cumsum(dim=0).flip(0)[1:]


def _bounded(boxes_xywh: Tensor, image_wh: Tensor) -> Tensor:
    """Return the boxes inside the image as xyxy."""
    size = image_wh.to(boxes_xywh)
    corner = boxes_xywh[..., :2].clip(min=0).minimum(size)
    extent = boxes_xywh[..., 2:].clip(min=0).minimum(size - corner)
    return torch.cat([corner, corner + extent], dim=-1)
