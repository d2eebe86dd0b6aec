"""Greedy non-maximum suppression, for a batch at a time."""

import torch
from torch import Tensor

from lightning_trackers.boxes import iou_xyxy


def nms(boxes_xyxy: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return which boxes stay when each one removes the lower-scored ones that overlap it.

    The best box stays, those that overlap it by more than the threshold go, and so on with the best one
    that is left. Of equal scores the earlier box counts as better.

    Args:
        boxes_xyxy: Boxes, shape ``(..., N, 4)``; leading axes are sets of their own.
        scores: Score of each box, shape ``(..., N)``.
        iou_threshold: Overlap from which on, itself excluded, a box is removed.

    Returns:
        Whether a box stays, bool, shape ``(..., N)``, in the order of the input.
    """
    order = scores.argsort(dim=-1, descending=True, stable=True)  # (..., N)
    ranked = boxes_xyxy.gather(-2, order[..., None].expand_as(boxes_xyxy))  # (..., N, 4)
    overlaps = iou_xyxy(ranked[..., :, None, :], ranked[..., None, :, :])  # (..., N, N)
    removes = torch.triu(overlaps > iou_threshold, diagonal=1)  # [i, j]: i, if it stays, removes j
    stays = torch.ones_like(order, dtype=torch.bool)
    # Greedy order without a loop over boxes: after n rounds the first n answers are final, and most
    # sets settle in a few rounds.
    while True:
        settled = ~(removes & stays[..., :, None]).any(-2)
        if torch.equal(settled, stays):
            return torch.empty_like(stays).scatter_(-1, order, stays)
        stays = settled
