"""Which boxes of a search region are compared with the exemplar, and as what.

Source: Zhang and Zhang, Hard Negative Samples Emphasis Tracker without Anchors, MM 2020, Section 3.3
and 4.1.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.ops import nms


class RoIs(NamedTuple):
    """Boxes to compare with the exemplar.

    Args:
        boxes_xyxy: k positives, k hard negatives, then the ground truth, shape ``(B, 2k + 1, 4)``, px.
        labels: 1 the target, 0 a hard negative, -1 a place that no box was found for; int8, shape
            ``(B, 2k + 1)``.
    """

    boxes_xyxy: Tensor
    labels: Tensor


@dataclass(frozen=True)
class HardNegativeSelection:
    """Selects positives and hard negatives among a network's own answers.

    The candidates are the boxes of the places with the highest scores, thinned out by non-maximum
    suppression. Those that overlap the ground truth by more than ``positive_iou`` are positives, those
    that overlap it by less than ``negative_iou`` are hard negatives, both taken in the order of their
    scores. Missing positives are ground truths shifted at random, which overlap it as much. Missing
    hard negatives are left out: the search region holds no more of them.

    Args:
        k: Positives and hard negatives a pair; with the ground truth there are 2k + 1 RoIs (Table 5).
        positive_iou: T_h.
        negative_iou: T_l.
        nms_iou: Overlap above which the lower-scored candidate goes.
        candidates: Places that are looked at; the paper gives no number. Beyond the best hundred of
            625, places are background that nobody would call hard.

    Raises:
        ValueError: If a number is out of range.
    """

    k: int = 5
    positive_iou: float = 0.8
    negative_iou: float = 0.3
    nms_iou: float = 0.7
    candidates: int = 100

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.k <= self.candidates:
            raise ValueError(
                f"selection: expected 1 <= k <= candidates, got {self.k} and {self.candidates}"
            )
        if not 0 < self.negative_iou <= self.positive_iou < 1 or not 0 < self.nms_iou <= 1:
            raise ValueError(
                "selection: expected 0 < negative_iou <= positive_iou < 1 and nms_iou in (0, 1], got "
                f"{self.negative_iou}, {self.positive_iou} and {self.nms_iou}"
            )

    @torch.no_grad()
    def __call__(
        self, boxes_xyxy: Tensor, scores: Tensor, target_xyxy: Tensor, generator: torch.Generator
    ) -> RoIs:
        """Return the RoIs of each search region.

        Args:
            boxes_xyxy: Box of every place, shape ``(B, N, 4)``, px.
            scores: Score of every place, shape ``(B, N)``, in [0, 1].
            target_xyxy: Ground truth, shape ``(B, 4)``, px.
            generator: Draws the shifts, on the device of the boxes.

        Raises:
            ValueError: If there are fewer places than k.
        """
        if scores.shape[1] < self.k:
            raise ValueError(f"selection: expected {self.k} places or more, got {scores.shape[1]}")
        best = scores.topk(min(self.candidates, scores.shape[1]), dim=1)  # (B, M), falling
        boxes = boxes_xyxy.gather(1, best.indices[..., None].expand(-1, -1, 4))  # (B, M, 4)
        stays = nms(boxes, best.values, self.nms_iou)  # (B, M)
        overlaps = iou_xyxy(boxes, target_xyxy[:, None])  # (B, M)
        positives, is_found = self._first(boxes, stays & (overlaps > self.positive_iou))
        negatives, is_hard = self._first(boxes, stays & (overlaps < self.negative_iou))
        shifted = shifted_boxes(target_xyxy, self.k, self.positive_iou, generator)  # (B, k, 4)
        positives = torch.where(is_found[..., None], positives, shifted)
        return RoIs(
            torch.cat([positives, negatives, target_xyxy[:, None]], dim=1),
            torch.cat(
                [
                    torch.ones_like(is_found, dtype=torch.int8),
                    is_hard.to(torch.int8) - 1,  # 0 or -1
                    torch.ones_like(is_found[:, :1], dtype=torch.int8),
                ],
                dim=1,
            ),
        )

    def _first(self, boxes: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first k chosen boxes of each row, and which of the k there are."""
        # A stable sort moves the chosen ones to the front and keeps their order.
        order = chosen.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, : self.k]
        return boxes.gather(1, order[..., None].expand(-1, -1, 4)), chosen.gather(1, order)


def shifted_boxes(
    boxes_xyxy: Tensor, count: int, least_iou: float, generator: torch.Generator
) -> Tensor:
    """Return each box shifted at random, so that it overlaps the unshifted one by ``least_iou`` or more.

    With shifts of a and b of a box's width and height the two share ``(1 - |a|)(1 - |b|)`` of its area,
    call it q, and their overlap is ``q / (2 - q)``. It is at least T where ``q >= 2 T / (1 + T)``. One
    of the two shifts is drawn evenly from all that are possible, the other from those that remain.

    Args:
        boxes_xyxy: Boxes, shape ``(B, 4)``.
        count: Shifted copies of each.
        least_iou: Smallest overlap T.
        generator: Source of chance, on the device of the boxes.

    Returns:
        Boxes, shape ``(B, count, 4)``.
    """
    device = boxes_xyxy.device
    shared = 2 * least_iou / (1 + least_iou)
    draws = torch.rand(len(boxes_xyxy), count, 3, device=device, generator=generator)
    first = (2 * draws[..., 0] - 1) * (1 - shared)
    second = (2 * draws[..., 1] - 1) * (1 - shared / (1 - first.abs()))
    swap = draws[..., 2:] < 0.5  # neither axis is to have the larger shifts
    pair = torch.stack([first, second], dim=-1)  # (B, count, 2)
    shifts = torch.where(swap, pair.flip(-1), pair)
    size = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])[:, None]  # (B, 1, 2)
    return boxes_xyxy[:, None] + (shifts * size).repeat(1, 1, 2)
