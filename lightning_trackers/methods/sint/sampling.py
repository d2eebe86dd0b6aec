"""The boxes of a frame that SINT compares with the target of another one.

Source: Tao et al., Siamese Instance Search for Tracking, CVPR 2016, Section 3.1 and 4.1; numbers of the
public SINT code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_trackers.box_sampling import radial_boxes
from lightning_trackers.boxes import iou_xyxy


@dataclass(frozen=True)
class BoxSampling:
    """Draws boxes around a target: the target itself, boxes on it, and boxes beside it.

    Args:
        boxes: Boxes a frame, the target's own included.
        positives: Most of the drawn ones that lie on the target; the paper gives no number.
        positive_overlap: They overlap it by more than this (IoU).
        negative_overlap: Those beside it overlap it by less.
        radius: Of the largest circle, relative to the mean of the target's sides; not in the paper.
        steps: Circles.
        angles: Boxes on a circle.
        scales: Their sizes, relative to the target; the tracker's, and sizes between.

    Raises:
        ValueError: If a number is out of range.
    """

    boxes: int = 64
    positives: int = 15
    positive_overlap: float = 0.7
    negative_overlap: float = 0.5
    radius: float = 1.0
    steps: int = 10
    angles: int = 16
    scales: Sequence[float] = (0.5**0.5, 0.85, 1.0, 1.18, 2**0.5)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.positives < self.boxes:
            raise ValueError(
                f"sampling: expected 0 <= positives < boxes, got {self.positives} of {self.boxes}"
            )
        if not 0 < self.negative_overlap <= self.positive_overlap < 1 or self.radius <= 0:
            raise ValueError(
                "sampling: expected 0 < negative_overlap <= positive_overlap < 1 and radius > 0, "
                f"got {self.negative_overlap}, {self.positive_overlap} and {self.radius}"
            )

    def __call__(
        self, targets_xyxy: Tensor, image_size: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return boxes of each image and what they are.

        Boxes whose centre lies outside the image are not drawn.

        Args:
            targets_xyxy: The target in each image, shape ``(B, 4)``, px.
            image_size: Side of the images, px.
            generator: Source of chance, on the device of the targets.

        Returns:
            Boxes, shape ``(B, boxes, 4)``, the target first; labels 1 on the target, 0 beside it, -1
            where no box was found, int8 ``(B, boxes)``.
        """
        drawn = self._grid(targets_xyxy)  # (B, M, 4)
        overlap = iou_xyxy(drawn, targets_xyxy[:, None])  # (B, M)
        centre = (drawn[..., :2] + drawn[..., 2:]) / 2
        inside = ((centre >= 0) & (centre <= image_size)).all(-1)
        order = torch.rand(overlap.shape, generator=generator, device=overlap.device)
        on = (overlap > self.positive_overlap) & inside
        beside = (overlap < self.negative_overlap) & inside
        chosen_on = _first(order, on, self.positives)
        chosen_beside = _first(order, beside, self.boxes - 1 - self.positives)
        chosen = torch.cat([chosen_on, chosen_beside], dim=1)  # (B, boxes - 1)
        boxes = drawn.gather(1, chosen[..., None].expand(-1, -1, 4))
        labels = torch.cat(
            [
                on.gather(1, chosen_on).to(torch.int8) * 2 - 1,  # 1 or -1
                beside.gather(1, chosen_beside).to(torch.int8) - 1,  # 0 or -1
            ],
            dim=1,
        )
        own = labels.new_ones(len(labels), 1)
        return torch.cat([targets_xyxy[:, None], boxes], 1), torch.cat([own, labels], 1)

    def _grid(self, targets_xyxy: Tensor) -> Tensor:
        """Return the boxes to choose from, ``(B, 4)`` to ``(B, M, 4)``."""
        # Around a square of side 1; circles follow the mean side and sizes each side of its own.
        unit = radial_boxes(
            np.array([-0.5, -0.5, 0.5, 0.5]),
            self.radius,
            steps=self.steps,
            angles=self.angles,
            scales=self.scales,
        )
        grid = torch.from_numpy(unit).to(targets_xyxy)  # (M, 4)
        centre, side = (grid[:, :2] + grid[:, 2:]) / 2, grid[:, 2:] - grid[:, :2]  # (M, 2)
        wh = targets_xyxy[:, None, 2:] - targets_xyxy[:, None, :2]  # (B, 1, 2)
        middle = (targets_xyxy[:, None, 2:] + targets_xyxy[:, None, :2]) / 2
        places = middle + centre * wh.mean(-1, keepdim=True)  # (B, M, 2)
        return torch.cat([places - side * wh / 2, places + side * wh / 2], dim=-1)


def _first(order: Tensor, wanted: Tensor, count: int) -> Tensor:
    """Return ``count`` places in an order, those that are wanted before the others, ``(B, count)``."""
    return (order + (~wanted)).argsort(dim=1)[:, :count]
