"""What each anchor should answer, computed on the device for the whole batch.

Source: Li et al., SiamRPN, CVPR 2018, Section 3.3 (IoU > 0.6, < 0.3, 16 positives of 64 samples);
Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Section 3.4 (all proposals).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_trackers.boxes import cxcywh_to_xyxy, iou_xyxy, xyxy_to_cxcywh
from lightning_trackers.methods.siamrpn.anchors import encode


class AnchorTargets(NamedTuple):
    """Labels and offsets of all anchors.

    Args:
        labels: 1 target, 0 background, -1 ignored; int8, shape ``(B, A, H, W)``.
        box_deltas: Offsets to the target's box, shape ``(B, A, H, W, 4)``; they count where the
            label is 1.
    """

    labels: Tensor
    box_deltas: Tensor


@dataclass(frozen=True)
class AnchorLabelling:
    """Labels anchors by their overlap with the target.

    Args:
        positive_iou: From this overlap on an anchor is positive.
        negative_iou: Below it an anchor is negative; between the two it is ignored. Equal to
            ``positive_iou`` there is no ignored zone.
        max_positives: Positives drawn per pair; None takes all.
        max_samples: Positives and negatives drawn per pair; None takes all.
        negative_pair_samples: Negatives drawn in a pair whose target is another one, from the 7 × 7
            cells around that target, so that the network learns to refuse objects; None takes all
            anchors as negatives.

    Raises:
        ValueError: If the thresholds are not ordered in (0, 1].
    """

    positive_iou: float = 0.6
    negative_iou: float = 0.3
    max_positives: int | None = 16
    max_samples: int | None = 64
    negative_pair_samples: int | None = 16

    def __post_init__(self) -> None:
        """Check the thresholds."""
        if not 0 < self.negative_iou <= self.positive_iou <= 1:
            raise ValueError(
                f"labelling: expected 0 < negative_iou <= positive_iou <= 1, got "
                f"{self.negative_iou} and {self.positive_iou}"
            )

    def __call__(
        self,
        anchors_cxcywh: Tensor,
        boxes_xyxy: Tensor,
        is_positive: Tensor,
        generator: torch.Generator,
    ) -> AnchorTargets:
        """Return labels and offsets.

        Args:
            anchors_cxcywh: Anchors, shape ``(A, H, W, 4)``, crop px.
            boxes_xyxy: Target in each search crop, shape ``(B, 4)``, crop px.
            is_positive: Whether it is the exemplar's, shape ``(B,)``.
            generator: Draws the samples, on the device of the boxes.
        """
        boxes = boxes_xyxy[:, None, None, None]  # (B, 1, 1, 1, 4)
        overlaps = iou_xyxy(cxcywh_to_xyxy(anchors_cxcywh)[None], boxes)  # (B, A, H, W)
        same = is_positive[:, None, None, None]
        positives = (overlaps >= self.positive_iou) & same
        negatives = (overlaps < self.negative_iou) & same
        if self.negative_pair_samples is None:
            negatives = negatives | ~same
        else:
            near = self._near_target(anchors_cxcywh, boxes_xyxy) & ~same
            negatives = negatives | draw(
                near, _full(boxes_xyxy, self.negative_pair_samples), generator
            )
        if self.max_positives is not None:
            positives = draw(positives, _full(boxes_xyxy, self.max_positives), generator)
        if self.max_samples is not None:
            drawn = positives.flatten(1).sum(1)  # (B,)
            negatives = draw(negatives, self.max_samples - drawn, generator)
        labels = positives.to(torch.int8) - (~positives & ~negatives).to(torch.int8)
        return AnchorTargets(labels, encode(xyxy_to_cxcywh(boxes), anchors_cxcywh[None]))

    def _near_target(self, anchors_cxcywh: Tensor, boxes_xyxy: Tensor) -> Tensor:
        """Return which anchors lie in the 7 × 7 cells around each target, ``(B, A, H, W)``."""
        columns = anchors_cxcywh[0, 0, :, 0]  # (W,)
        rows = anchors_cxcywh[0, :, 0, 1]  # (H,)
        centre = xyxy_to_cxcywh(boxes_xyxy)[:, :2]
        column = (columns - centre[:, :1]).abs().argmin(1)  # (B,)
        row = (rows - centre[:, 1:]).abs().argmin(1)  # (B,)
        index = torch.arange(len(columns), device=boxes_xyxy.device)
        near_column = (index - column[:, None]).abs() <= 3  # (B, W)
        near_row = (index - row[:, None]).abs() <= 3  # (B, H)
        near = near_row[:, None, :, None] & near_column[:, None, None, :]  # (B, 1, H, W)
        return near.expand(-1, anchors_cxcywh.shape[0], -1, -1)


def draw(candidates: Tensor, counts: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random subset of at most ``counts[b]`` candidates in each batch item.

    Args:
        candidates: Which elements may be drawn, bool, shape ``(B, ...)``.
        counts: How many to draw, shape ``(B,)``.
        generator: Random numbers, on the device of the candidates.
    """
    flat = candidates.flatten(1)  # (B, N)
    keys = torch.rand(flat.shape, device=flat.device, generator=generator)
    keys = keys.masked_fill(~flat, 2.0)
    rank = keys.argsort(1).argsort(1)  # (B, N); candidates come first, in random order
    return ((rank < counts[:, None]) & flat).view_as(candidates)


def _full(like: Tensor, count: int) -> Tensor:
    return torch.full((len(like),), count, device=like.device)
