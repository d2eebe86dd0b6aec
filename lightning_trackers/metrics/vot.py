"""VOT's supervised experiment over a benchmark, as a torchmetrics class."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_trackers.metrics.functional import vot
from lightning_trackers.metrics.functional.vot import Annotation, Rule, SequenceOverlaps


class SupervisedEvaluation(Metric):  # type: ignore[misc]  # torchmetrics is not followed by mypy
    """EAO, accuracy and robustness, and the expected overlap curve.

    ``update`` takes the runs of one whole sequence. Nothing of the result is a mean over sequences,
    so the frames' overlaps are kept. Rules and sources stand in
    :mod:`lightning_trackers.metrics.functional.vot`.

    Args:
        rule: The rule of the year, e.g. ``vot.RULES[2018]``.
    """

    full_state_update = False
    higher_is_better = True

    kept: list[Tensor] | Tensor

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        # One stream of numbers, as sequences differ in length and ranks in how many they had.
        self.add_state("kept", default=[], dist_reduce_fx="cat")

    def update(self, annotation: Annotation, runs: Sequence[np.ndarray]) -> None:
        """Add the runs of one sequence.

        Args:
            annotation: Ground truth.
            runs: Regions of each run, each float64 ``(T, 8)``.

        Raises:
            ValueError: If there is no run, or one has another length than the ground truth.
        """
        overlaps = vot.sequence_overlaps(annotation, runs, self.rule)
        assert isinstance(self.kept, list)
        self.kept.append(_packed(overlaps).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return scores and the curve.

        Returns:
            Scalars ``accuracy``, ``robustness`` (failures per 100 frames), ``failures`` and, where
            the year has one, ``eao``; ``expected_overlap_curve`` ``(L,)``. All are NaN, and the
            curve empty, if no sequence was added.
        """
        kept = torch.cat(self.kept) if isinstance(self.kept, list) and self.kept else self.kept
        sequences = list(_unpacked(kept)) if isinstance(kept, Tensor) else []
        if not sequences:
            nothing = dict.fromkeys(("accuracy", "robustness", "failures", "eao"), torch.nan)
            scalars = {key: torch.tensor(value) for key, value in nothing.items()}
            return {**scalars, "expected_overlap_curve": torch.empty(0)}
        toolkit = self.rule.toolkit
        row = (
            vot.python_accuracy_robustness(sequences)
            if toolkit == "python"
            else vot.accuracy_robustness(sequences)
        )
        curve = vot.expected_overlap_curve(sequences, toolkit=toolkit)
        scores = {
            "accuracy": row.accuracy,
            "robustness": row.robustness,
            "failures": row.failures,
        }
        if self.rule.eao_interval is not None:
            scores["eao"] = vot.expected_average_overlap(curve, self.rule.eao_interval, toolkit)
        result = {key: torch.tensor(value, dtype=torch.float64) for key, value in scores.items()}
        return {**result, "expected_overlap_curve": torch.from_numpy(curve)}


def _packed(overlaps: SequenceOverlaps) -> Tensor:
    """Return R, T and all arrays in one row of numbers, float64 ``(N,)``."""
    arrays = (
        overlaps.eao,
        overlaps.accuracy,
        overlaps.started,
        overlaps.failed,
        overlaps.tags,
    )
    numbers = [np.array(overlaps.eao.shape), *(np.ravel(array) for array in arrays)]
    return torch.from_numpy(np.concatenate(numbers).astype(np.float64))


def _unpacked(numbers: Tensor) -> Iterator[SequenceOverlaps]:
    """Undo :func:`_packed` for any number of sequences in a row."""
    rest = numbers.cpu().numpy()
    while len(rest):
        runs, frames = (int(value) for value in rest[:2])
        size = runs * frames
        end = 2 + 4 * size + len(vot.TAGS) * frames
        eao, accuracy, started, failed = rest[2 : 2 + 4 * size].reshape(4, runs, frames)
        tags = rest[2 + 4 * size : end].reshape(len(vot.TAGS), frames)
        yield SequenceOverlaps(eao, accuracy, started > 0, failed > 0, tags > 0)
        rest = rest[end:]
