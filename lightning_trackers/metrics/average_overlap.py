"""GOT-10k's average overlap over a benchmark, as a torchmetrics class."""

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_trackers.metrics.functional.average_overlap import (
    AVERAGE_OVERLAP_THRESHOLDS,
    bounded_overlaps,
    overlap_counts,
)
from lightning_trackers.metrics.functional.ope import to_file_xywh


class AverageOverlap(Metric):  # type: ignore[misc]  # torchmetrics is not followed by mypy
    """Average overlap and success rates over the frames of all sequences.

    ``update`` takes one run over one sequence; a repetition is another update. Rule and source
    stand in :mod:`lightning_trackers.metrics.functional.average_overlap`.
    """

    full_state_update = False
    higher_is_better = True

    overlap_sum: Tensor
    counts: Tensor
    frames: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("overlap_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        counts = torch.zeros(len(AVERAGE_OVERLAP_THRESHOLDS), dtype=torch.long)
        self.add_state("counts", counts, dist_reduce_fx="sum")
        self.add_state("frames", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self,
        pred_boxes_xyxy: Tensor,
        target_boxes_xyxy: Tensor,
        valid: Tensor,
        image_hw: tuple[int, int],
    ) -> None:
        """Add one run over one sequence.

        Args:
            pred_boxes_xyxy: Predicted boxes, the first frame included, shape ``(T, 4)``, px.
            target_boxes_xyxy: Ground truth, shape ``(T, 4)``, px.
            valid: Frames whose target is visible (``cover > 0``), bool ``(T,)``.
            image_hw: Height and width of the image, px.

        Raises:
            ValueError: If the shapes do not belong together.
        """
        count = len(target_boxes_xyxy)
        if pred_boxes_xyxy.shape != (count, 4) or target_boxes_xyxy.shape != (count, 4):
            raise ValueError(
                "boxes: expected predictions and ground truth of shape (T, 4), got "
                f"{tuple(pred_boxes_xyxy.shape)} and {tuple(target_boxes_xyxy.shape)}"
            )
        if valid.shape != (count,) or valid.dtype != torch.bool:
            raise ValueError(
                f"valid: expected {count} booleans, got {valid.dtype} of shape {tuple(valid.shape)}"
            )
        overlaps = bounded_overlaps(
            to_file_xywh(pred_boxes_xyxy)[1:][valid[1:]],
            to_file_xywh(target_boxes_xyxy)[1:][valid[1:]],
            torch.tensor(image_hw[::-1]),
        )
        self.overlap_sum += overlaps.sum()
        self.counts += overlap_counts(overlaps)
        self.frames += len(overlaps)

    def compute(self) -> dict[str, Tensor]:
        """Return scores, fractions in [0, 1].

        Returns:
            ``average_overlap``, ``success_rate_50``, ``success_rate_75`` and ``success_curve``
            ``(101,)``. All are NaN if no frame was counted.
        """
        success = self.counts / self.frames.double()
        return {
            "average_overlap": self.overlap_sum / self.frames,
            "success_rate_50": success[50],
            "success_rate_75": success[75],
            "success_curve": success,
        }
