"""One-pass evaluation over a benchmark, as a torchmetrics class."""

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_trackers.metrics.functional import ope
from lightning_trackers.metrics.functional.ope_rules import rule_named


class OnePassEvaluation(Metric):  # type: ignore[misc]  # torchmetrics is not followed by mypy
    """Success and precision: the curve of each sequence, averaged over sequences.

    ``update`` takes one whole sequence, so long and short ones weigh the same. Rules and sources
    stand in :mod:`lightning_trackers.metrics.functional.ope_rules`.

    Args:
        rule: Whose rule is followed: ``otb``, ``lasot``, ``trackingnet``, ``got10k``, ``pysot``,
            ``pytracking`` or ``pytracking_uav``.

    Raises:
        ValueError: If there is no rule of that name.
    """

    full_state_update = False
    higher_is_better = True

    sequences: Tensor
    success_sum: Tensor
    precision_sum: Tensor
    normalized_precision_sum: Tensor

    def __init__(self, rule: str = "otb") -> None:
        super().__init__()
        self.rule = rule
        named = rule_named(rule)
        for state, curve in (
            ("success_sum", named.success),
            ("precision_sum", named.precision),
            ("normalized_precision_sum", named.normalized_precision),
        ):
            zeros = torch.zeros(len(curve.thresholds), dtype=torch.float64)
            self.add_state(state, zeros, dist_reduce_fx="sum")
        self.add_state("sequences", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self,
        pred_boxes_xyxy: Tensor,
        target_boxes_xyxy: Tensor,
        valid: Tensor,
        absent: Tensor | None = None,
    ) -> None:
        """Add one sequence.

        Args:
            pred_boxes_xyxy: Predicted boxes, the first frame included, shape ``(T, 4)``, px.
            target_boxes_xyxy: Ground truth, shape ``(T, 4)``, px.
            valid: Frames whose ground truth counts, bool ``(T,)``.
            absent: Frames annotated as not showing the target, bool ``(T,)``; none by default.

        Raises:
            ValueError: If the shapes do not belong together.
        """
        curves = ope.one_pass_curves(
            ope.to_file_xywh(pred_boxes_xyxy, self.rule),
            ope.to_file_xywh(target_boxes_xyxy, self.rule),
            valid,
            absent=absent,
            rule=self.rule,
        )
        self.success_sum += curves.success[0]
        self.precision_sum += curves.precision[0]
        self.normalized_precision_sum += curves.normalized_precision[0]
        self.sequences += 1

    def compute(self) -> dict[str, Tensor]:
        """Return scores and curves, fractions in [0, 1].

        Returns:
            Scalars as the rule reads them from the curves: ``success_auc``, ``precision_20px`` and
            ``normalized_precision``, where TrackingNet's rule has ``success`` and ``precision``;
            ``success_curve``, ``precision_curve`` and ``normalized_precision_curve``, shapes
            ``(21,)``, ``(51,)`` and ``(51,)``, all ``(21,)`` with TrackingNet's. NaN if no sequence
            was added.
        """
        curves = ope.OnePassCurves(
            self.success_sum / self.sequences,
            self.precision_sum / self.sequences,
            self.normalized_precision_sum / self.sequences,
            rule_named(self.rule),
        )
        return {
            **curves.scores(),
            "success_curve": curves.success,
            "precision_curve": curves.precision,
            "normalized_precision_curve": curves.normalized_precision,
        }
