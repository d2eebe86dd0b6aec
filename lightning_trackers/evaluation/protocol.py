"""What an evaluation protocol is: how sequences are tracked, kept on disk and scored.

A benchmark names its protocol. Whoever runs benchmarks (the callback, the command line) knows only
this door, so one-pass evaluation and evaluation with re-initialisation are distributed, resumed and
reported in the same way.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.tracker import Tracker


class SequenceResult(Protocol):
    """What a tracker said about one sequence."""

    @property
    def name(self) -> str:
        """The sequence's name."""
        ...

    @property
    def times_s(self) -> np.ndarray:
        """Time of each step of the tracker without decoding, float64 ``(N,)``."""
        ...


Result = TypeVar("Result", bound=SequenceResult)


@dataclass(frozen=True)
class Curve:
    """A curve of a benchmark.

    Args:
        x: Abscissae, shape ``(N,)``.
        y: Ordinates, shape ``(N,)``.
        x_label: What x is, with its unit.
        y_label: What y is.
    """

    x: np.ndarray
    y: np.ndarray
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Scores:
    """How one tracker did on one benchmark.

    Args:
        scalars: Scores of the benchmark by log key, the headline first, e.g. ``success_auc``.
        curves: Curves by name, e.g. ``success``.
        sequences: Scores of each sequence by name, in the benchmark's order; the headline's key is
            among them where the protocol defines it for one sequence.
        attributes: Scores over the sequences or frames that carry an attribute, by its code.
    """

    scalars: dict[str, float]
    curves: dict[str, Curve] = field(default_factory=dict)
    sequences: dict[str, dict[str, float]] = field(default_factory=dict)
    attributes: dict[str, dict[str, float]] = field(default_factory=dict)


class Store(Protocol[Result]):
    """Result files of one tracker on one benchmark in an official layout; see ``results.py``."""

    def load(self, sequence: TrackingSequence) -> Result | None:
        """Return the saved result of a sequence, or None if it was not saved yet."""
        ...

    def save(self, result: Result) -> Result:
        """Write the result of a sequence; return it as :meth:`load` will."""
        ...


class EvaluationProtocol(Protocol[Result]):
    """How a benchmark is tracked and scored."""

    @property
    def name(self) -> str:
        """Name in reports, e.g. ``one-pass evaluation, OTB rule``."""
        ...

    @property
    def headline(self) -> str:
        """Key of the scalar that ranks trackers; higher is better."""
        ...

    def track(
        self,
        tracker: Tracker[Any],
        sequences: Iterable[TrackingSequence],
        *,
        lanes: int,
        on_frame: Callable[[str], None] | None = None,
    ) -> Iterator[Result]:
        """Follow the sequences in lockstep and yield each result as soon as it is complete.

        ``sequences`` is asked for the next one only when a lane is free, so it may be a queue that
        several processes share.
        """
        ...

    def store(
        self, folder: str | Path, fingerprint: str, *, overwrite: bool = False
    ) -> Store[Result]:
        """Open the result files of one tracker."""
        ...

    def score(self, benchmark: Benchmark, results: Mapping[str, Result]) -> Scores:
        """Score the results of every sequence of a benchmark, by name.

        One process does this for all, so a torchmetrics class used here must not synchronise.

        Raises:
            ValueError: If a sequence has no result, or one does not belong to it.
        """
        ...
