"""One-pass evaluation as a protocol: tracked once, kept in text files, scored by a named rule."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_trackers.evaluation.one_pass import TrackResult, track_one_pass
from lightning_trackers.evaluation.protocol import Curve, Scores
from lightning_trackers.evaluation.results import ResultStore
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.metrics.functional.average_overlap import (
    AVERAGE_OVERLAP_THRESHOLDS,
    bounded_overlaps,
    overlap_counts,
)
from lightning_trackers.metrics.functional.ope import one_pass_curves, to_file_xywh
from lightning_trackers.metrics.functional.ope_rules import rule_named
from lightning_trackers.metrics.functional.statistics import attribute_means


class _TrackedOnce:
    """Tracking and storing, which all protocols that start a tracker once have in common."""

    def track(
        self,
        tracker: Tracker[Any],
        sequences: Iterable[TrackingSequence],
        *,
        lanes: int,
        on_frame: Callable[[str], None] | None = None,
    ) -> Iterator[TrackResult]:
        """Follow the sequences in lockstep; see :func:`track_one_pass`."""
        return track_one_pass(tracker, sequences, lanes=lanes, on_frame=on_frame)

    def store(
        self, folder: str | Path, fingerprint: str, *, overwrite: bool = False
    ) -> ResultStore:
        """Open the result files of one tracker."""
        return ResultStore(folder, fingerprint, overwrite=overwrite)


@dataclass(frozen=True)
class OnePass(_TrackedOnce):
    """Success and precision of a single run, the mean over sequences.

    Args:
        rule: Whose rule is followed, see
            :data:`lightning_trackers.metrics.functional.ope_rules.RULES`.
        base_name: The name of the sequence that a run belongs to; the runs of one sequence are
            scored together, all their frames alike. By default every run is a sequence.
        title: What the runs are, for reports.

    Raises:
        ValueError: If there is no rule of that name.
    """

    rule: str = "otb"
    base_name: Callable[[str], str] | None = None
    title: str = "one-pass evaluation"

    def __post_init__(self) -> None:
        """Refuse an unknown rule."""
        rule_named(self.rule)

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"{self.title}, {rule_named(self.rule).title} rule"

    @property
    def headline(self) -> str:
        """Key of the score that ranks trackers."""
        return rule_named(self.rule).success.score

    def score(self, benchmark: Benchmark, results: Mapping[str, TrackResult]) -> Scores:
        """Score the results of every sequence of a benchmark.

        Returns:
            Scores; ``sequences`` goes by the names of the sequences that runs belong to.

        Raises:
            ValueError: If a sequence has no result, or one does not belong to it.
        """
        runs = _matched(benchmark, results)
        names: dict[str, int] = {}
        groups = [names.setdefault(self._base(run.name), len(names)) for run, _ in runs]
        frame_columns = [
            (
                result.boxes_xyxy,
                run.boxes_xyxy,
                run.valid,
                np.zeros_like(run.valid) if run.absent is None else run.absent,
            )
            for run, result in runs
        ]
        pred, target, valid, absent = (
            torch.from_numpy(np.concatenate(column)) for column in zip(*frame_columns, strict=True)
        )
        curves = one_pass_curves(
            to_file_xywh(pred, self.rule),
            to_file_xywh(target, self.rule),
            valid,
            lengths=[len(run) for run, _ in runs],
            absent=absent,
            groups=groups,
            rule=self.rule,
        )
        by_key = curves.scores()
        sequences = {
            name: {key: float(values[row]) for key, values in by_key.items()}
            for name, row in names.items()
        }
        attributes = {self._base(run.name): run.attributes for run, _ in runs}
        rule = curves.rule
        return Scores(
            {key: float(values.mean()) for key, values in by_key.items()},
            {
                "success": _mean_curve(
                    rule.success.thresholds, curves.success, "overlap threshold"
                ),
                "precision": _mean_curve(
                    rule.precision.thresholds, curves.precision, "centre error threshold, px"
                ),
                "normalized_precision": _mean_curve(
                    rule.normalized_precision.thresholds,
                    curves.normalized_precision,
                    "centre error threshold / target size",
                ),
            },
            sequences,
            attribute_means(sequences, attributes),
        )

    def _base(self, name: str) -> str:
        return name if self.base_name is None else self.base_name(name)


@dataclass(frozen=True)
class AverageOverlapOnePass(_TrackedOnce):
    """GOT-10k: average overlap and success rates over the frames of all sequences.

    The means over object classes that the paper calls mAO and mSR are added where every sequence
    names its class as its only attribute. Rule and source stand in
    :mod:`lightning_trackers.metrics.functional.average_overlap`.
    """

    name: str = "one-pass evaluation, GOT-10k rule"
    headline: str = "average_overlap"

    def score(self, benchmark: Benchmark, results: Mapping[str, TrackResult]) -> Scores:
        """Score the results of every sequence.

        The first frame of each is read for its size, unless ``frames`` has a ``frame_wh``.

        Raises:
            ValueError: If a sequence has no result, or one does not belong to it.
        """
        overlaps = {
            run.name: _visible_overlaps(run, result) for run, result in _matched(benchmark, results)
        }
        sequences = {name: _overlap_scores(values) for name, values in overlaps.items()}
        pooled = torch.cat(list(overlaps.values()))
        scalars = _overlap_scores(pooled)
        classes = attribute_means(sequences, {run.name: run.attributes for run in benchmark})
        if all(len(run.attributes) == 1 for run in benchmark):
            scalars |= {
                f"mean_{key}": float(np.mean([row[key] for row in classes.values()]))
                for key in scalars
            }
        curve = Curve(
            AVERAGE_OVERLAP_THRESHOLDS.numpy(),
            (overlap_counts(pooled).double() / len(pooled)).numpy(),
            "overlap threshold",
            "share of frames",
        )
        return Scores(scalars, {"success": curve}, sequences, classes)


def _matched(
    benchmark: Benchmark, results: Mapping[str, TrackResult]
) -> Sequence[tuple[TrackingSequence, TrackResult]]:
    """Return every sequence with its result."""
    missing = [sequence.name for sequence in benchmark if sequence.name not in results]
    if missing:
        raise ValueError(f"benchmark {benchmark.name}: no result for {', '.join(missing)}")
    pairs = [(sequence, results[sequence.name]) for sequence in benchmark]
    for sequence, result in pairs:
        if len(result.boxes_xyxy) != len(sequence):
            raise ValueError(
                f"sequence {sequence.name}: expected a box for each of its {len(sequence)} frames, "
                f"got {len(result.boxes_xyxy)}"
            )
    return pairs


def _mean_curve(thresholds: np.ndarray, values: Tensor, x_label: str) -> Curve:
    return Curve(thresholds, values.mean(dim=0).numpy(), x_label, "share of frames")


def _visible_overlaps(run: TrackingSequence, result: TrackResult) -> Tensor:
    """Return the overlaps that GOT-10k counts, ``(N,)``."""
    counted = run.valid.copy()
    counted[0] = False
    image_wh = getattr(run.frames, "frame_wh", None) or run.frames[0].shape[1::-1]
    pred, target = (
        to_file_xywh(torch.from_numpy(boxes_xyxy[counted]))
        for boxes_xyxy in (result.boxes_xyxy, run.boxes_xyxy)
    )
    return bounded_overlaps(pred, target, torch.tensor(image_wh))


def _overlap_scores(overlaps: Tensor) -> dict[str, float]:
    success = overlap_counts(overlaps).double() / len(overlaps)
    return {
        "average_overlap": float(overlaps.mean()),
        "success_rate_50": float(success[50]),
        "success_rate_75": float(success[75]),
    }
