"""One-pass evaluation over a benchmark, as a torchmetrics class."""

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_trackers.metrics.functional import ope


class OnePassEvaluation(Metric):  # type: ignore[misc]  # torchmetrics is not followed by mypy
    """Success and precision: the curve of each sequence, averaged over sequences.

    ``update`` takes one whole sequence, so long and short ones weigh the same. Rules and sources
    stand in :mod:`lightning_trackers.metrics.functional.ope`.
    """

    full_state_update = False
    higher_is_better = True

    sequences: Tensor
    success_sum: Tensor
    precision_sum: Tensor
    normalized_precision_sum: Tensor

    def __init__(self) -> None:
        super().__init__()
        for state, thresholds in (
            ("success_sum", ope.SUCCESS_THRESHOLDS),
            ("precision_sum", ope.PRECISION_THRESHOLDS),
            ("normalized_precision_sum", ope.NORMALIZED_PRECISION_THRESHOLDS),
        ):
            self.add_state(state, torch.zeros_like(thresholds), dist_reduce_fx="sum")
        self.add_state("sequences", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, pred_boxes_xyxy: Tensor, target_boxes_xyxy: Tensor, valid: Tensor) -> None:
        """Add one sequence.

        Args:
            pred_boxes_xyxy: Predicted boxes, the first frame included, shape ``(T, 4)``, px.
            target_boxes_xyxy: Ground truth, shape ``(T, 4)``, px.
            valid: Frames whose ground truth counts, bool ``(T,)``.

        Raises:
            ValueError: If the shapes do not belong together.
        """
        sequence = (pred_boxes_xyxy, target_boxes_xyxy, valid)
        self.success_sum += ope.success_curve(ope.overlaps(*sequence))
        self.precision_sum += ope.precision_curve(ope.centre_errors(*sequence))
        self.normalized_precision_sum += ope.normalized_precision_curve(
            ope.normalized_centre_errors(*sequence)
        )
        self.sequences += 1

    def compute(self) -> dict[str, Tensor]:
        """Return scores and curves, fractions in [0, 1].

        Returns:
            Scalars ``success_auc``, ``precision_20px`` and ``normalized_precision`` (at 0.20);
            curves ``success_curve`` ``(21,)``, ``precision_curve`` and
            ``normalized_precision_curve`` ``(51,)``. All are NaN if no sequence was added.
        """
        success = self.success_sum / self.sequences
        precision = self.precision_sum / self.sequences
        normalized_precision = self.normalized_precision_sum / self.sequences
        return {
            "success_auc": success.mean(),
            "precision_20px": precision[ope.PRECISION_INDEX],
            "normalized_precision": normalized_precision[ope.NORMALIZED_PRECISION_INDEX],
            "success_curve": success,
            "precision_curve": precision,
            "normalized_precision_curve": normalized_precision,
        }
