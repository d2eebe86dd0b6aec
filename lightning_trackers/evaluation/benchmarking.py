"""Tracks a benchmark under its protocol, with as many processes as there are, and scores it.

No Lightning, no W&B: ``callbacks.benchmark_evaluation`` adds clips and logs.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lightning_trackers.evaluation.distribution import Deal, PeerError, Team
from lightning_trackers.evaluation.ope_protocol import OnePass
from lightning_trackers.evaluation.protocol import EvaluationProtocol, Scores, SequenceResult
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.files import remove_leftovers

log = logging.getLogger(__name__)

Results = Mapping[str, SequenceResult]


@dataclass(frozen=True)
class BenchmarkScores:
    """How one tracker did on one benchmark.

    Args:
        benchmark: Name of the benchmark.
        tracker: Name of the tracker.
        protocol: Name of the protocol.
        headline: Key of the score that ranks trackers.
        scores: What the protocol made of the results; no scalars where the ground truth is kept by
            those who run the benchmark.
        frames: Length of each sequence.
        fps: Frames divided by the time spent in the tracker, first frames and decoding excluded;
            where sequences are tracked in lockstep it is the throughput of all lanes together.
        sequence_fps: The same for each sequence.
        clip: Annotated clip, where one was written.
    """

    benchmark: str
    tracker: str
    protocol: str
    headline: str
    scores: Scores
    frames: dict[str, int] = field(default_factory=dict)
    fps: float = float("nan")
    sequence_fps: dict[str, float] = field(default_factory=dict)
    clip: Path | None = None

    @property
    def scalars(self) -> dict[str, float]:
        """Scores by log key, and ``fps``."""
        return {**self.scores.scalars, "fps": self.fps}

    @property
    def headline_score(self) -> float:
        """The score that ranks trackers; NaN where there is none."""
        return self.scores.scalars.get(self.headline, float("nan"))


class Progress(Protocol):
    """A progress bar."""

    def show(self, done: int) -> None:
        """Show how many frames are done."""
        ...


class _NoProgress:
    def show(self, done: int) -> None:
        pass


@dataclass(frozen=True)
class Keeping:
    """Where results are kept, so that an interrupted evaluation goes on where it stopped.

    Args:
        folder: Result files of one tracker on one benchmark.
        fingerprint: Names what the results depend on (weights, options).
        overwrite: Remove results of another fingerprint instead of refusing to go on.
    """

    folder: Path
    fingerprint: str
    overwrite: bool = False


def evaluate_benchmark(
    tracker: Tracker[Any],
    benchmark: Benchmark,
    name: str,
    *,
    team: Team,
    lanes: int,
    keeping: Keeping | None = None,
    progress: Callable[[str, int], AbstractContextManager["Progress"]] | None = None,
) -> tuple[BenchmarkScores, Results]:
    """Track a benchmark with all processes of a team and score it.

    Each sequence is tracked by one process, the longest first, and taken by whoever has a free
    lane. A process that is killed loses the sequences on its lanes; the others track what is
    left and then fail, and the next evaluation tracks what is missing.

    Args:
        tracker: The tracker; the same in every process.
        benchmark: What to track.
        name: Name of the tracker.
        team: The processes.
        lanes: Sequences that a process tracks in lockstep.
        keeping: Where results are kept; None keeps none.
        progress: Makes a progress bar out of a title and a number of frames; asked for in the
            first process, told of the frames of all.

    Returns:
        The scores, and in the first process the results of all sequences by name.

    Raises:
        FileExistsError: If the folder holds results of another fingerprint and is to be kept.
        ValueError: If a result file is damaged or belongs to other annotations.
        PeerError: If another process has failed or died.
    """
    protocol = protocol_of(benchmark)
    title = f"{benchmark.name}: {name}"
    stored: dict[str, SequenceResult] = {}

    def missing() -> list[int]:
        if keeping is not None:
            stored.update(_stored(protocol, benchmark, keeping))
        if stored:
            log.info(
                "%s: %d of %d sequences were tracked before", title, len(stored), len(benchmark)
            )
        left = [i for i, sequence in enumerate(benchmark) if sequence.name not in stored]
        # Longest first, so that processes, and lanes within them, end at about the same time.
        return sorted(left, key=lambda i: -len(benchmark.sequences[i]))

    sequences = [benchmark.sequences[i] for i in team.from_first(missing)]
    bar: AbstractContextManager[Progress] = nullcontext(_NoProgress())
    if progress is not None and team.is_first and sequences:
        bar = progress(title, sum(len(sequence) for sequence in sequences))
    deal = team.deal(len(sequences), lanes)
    tracked: dict[str, SequenceResult] = {}
    failure: Exception | None = None
    with bar as shown, deal.shown(shown.show):
        try:
            for result in _track(protocol, tracker, sequences, deal, lanes, keeping):
                tracked[result.name] = result
        except Exception as error:  # the others finish their sequences, then hear of it
            failure = error
        try:
            message = None if failure is None else f"{type(failure).__name__}: {failure}"
            shares = team.gathered((tracked, message))
            results = stored | {name: r for share, _ in shares for name, r in share.items()}
            problems = [message for _, message in shares if message is not None]
            scores = team.from_first(lambda: _scored(protocol, benchmark, name, results, problems))
        except PeerError:
            if failure is not None:
                raise failure from None
            raise
    if team.is_first:
        log.info("%s: %s", title, _line(scores))
    return scores, results


def protocol_of(benchmark: Benchmark) -> EvaluationProtocol[Any]:
    """Return how a benchmark is evaluated: in one pass under the OTB rule where it does not say."""
    return OnePass() if benchmark.protocol is None else benchmark.protocol


def _stored(
    protocol: EvaluationProtocol[Any], benchmark: Benchmark, keeping: Keeping
) -> dict[str, SequenceResult]:
    """Return the results that an earlier evaluation left; called by one process alone."""
    remove_leftovers(keeping.folder)
    try:
        store = protocol.store(keeping.folder, keeping.fingerprint)
    except FileExistsError:
        if not keeping.overwrite:
            raise
        store = protocol.store(keeping.folder, keeping.fingerprint, overwrite=True)
    loaded = {sequence.name: store.load(sequence) for sequence in benchmark}
    return {name: result for name, result in loaded.items() if result is not None}


def _track(
    protocol: EvaluationProtocol[Any],
    tracker: Tracker[Any],
    sequences: Sequence[TrackingSequence],
    deal: Deal,
    lanes: int,
    keeping: Keeping | None,
) -> Iterator[SequenceResult]:
    """Yield the results of this process, each after it was stored."""
    store = None if keeping is None else protocol.store(keeping.folder, keeping.fingerprint)
    # A sequence counts as many frames as it has, however often the protocol looks at each.
    left = {sequence.name: len(sequence) for sequence in sequences}

    def on_frame(name: str) -> None:
        if left[name] > 0:
            left[name] -= 1
            deal.advance(1)

    waiting = (sequences[number] for number in deal)
    for result in protocol.track(tracker, waiting, lanes=lanes, on_frame=on_frame):
        deal.advance(left.pop(result.name))
        yield result if store is None else store.save(result)
    deal.tell()


def _scored(
    protocol: EvaluationProtocol[Any],
    benchmark: Benchmark,
    name: str,
    results: Results,
    problems: Sequence[str],
) -> BenchmarkScores:
    """Score the results of all processes; called by one process alone."""
    if problems:
        raise PeerError(f"{len(problems)} process(es) of the evaluation failed: {problems[0]}")
    missing = [sequence.name for sequence in benchmark if sequence.name not in results]
    if missing:
        raise PeerError(
            f"{benchmark.name}: nobody tracked {missing}, because the process that shares out the "
            "sequences has died: start the same evaluation again to go on"
        )
    times_s = {sequence.name: results[sequence.name].times_s[1:] for sequence in benchmark}
    return BenchmarkScores(
        benchmark=benchmark.name,
        tracker=name,
        protocol=protocol.name,
        headline=protocol.headline,
        scores=protocol.score(benchmark, results),
        frames={sequence.name: len(sequence) for sequence in benchmark},
        fps=_rate(np.concatenate(list(times_s.values()))),
        sequence_fps={name: _rate(t) for name, t in times_s.items()},
    )


def _rate(times_s: np.ndarray) -> float:
    """Return steps per second; NaN where nothing was timed (one-frame sequences)."""
    spent_s = float(times_s.sum())
    return len(times_s) / spent_s if spent_s > 0 else float("nan")


def _line(scores: BenchmarkScores) -> str:
    """Return the scores as a line of the log."""
    parts = [f"{key} {value:.3f}" for key, value in scores.scores.scalars.items()]
    return ", ".join([*(parts or ["no scores"]), f"{scores.fps:.1f} frames/s"])
