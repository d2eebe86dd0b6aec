"""Box losses by overlap.

Source: Yu et al., UnitBox: An Advanced Object Detection Network, MM 2016; Eq. 7 of Zhang and Zhang,
Hard Negative Samples Emphasis Tracker without Anchors, MM 2020.
"""

import torch
from torch import Tensor

from lightning_trackers.boxes import iou_xyxy

_LEAST_IOU = 1e-6  # of boxes that do not touch, so that the loss stays finite


def iou_loss(boxes_xyxy: Tensor, targets_xyxy: Tensor) -> Tensor:
    """Return the mean of ``-ln IoU`` over pairs of boxes, and 0 if there are none.

    Args:
        boxes_xyxy: Predicted boxes, shape ``(N, 4)``.
        targets_xyxy: Ground truth, shape ``(N, 4)``.
    """
    overlaps = iou_xyxy(boxes_xyxy.float(), targets_xyxy.float())  # (N,)
    losses = -torch.log(overlaps.clamp(min=_LEAST_IOU))
    return losses.sum() / max(1, len(losses))
