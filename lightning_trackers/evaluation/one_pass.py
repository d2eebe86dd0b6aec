"""One-pass evaluation: start in the first frame, follow to the last, never re-initialise.

Many sequences are followed in lockstep, so that one forward pass serves all of them.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Generic

import numpy as np

from lightning_trackers.evaluation.sequence import TrackingSequence
from lightning_trackers.evaluation.tracker import Prediction, State, Tracker

DECODING_THREADS = 4


@dataclass(frozen=True)
class TrackResult:
    """What a tracker said about one sequence; row 0 is the given first box, with score 1.

    Args:
        name: The sequence's name.
        boxes_xyxy: Predicted boxes, float64 ``(T, 4)``, px.
        scores: Confidence in [0, 1], float64 ``(T,)``.
        times_s: Time per frame without decoding, float64 ``(T,)``; row 0 is the start's.
    """

    name: str
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    times_s: np.ndarray

    def __post_init__(self) -> None:
        """Check that boxes, scores and times belong together.

        Raises:
            ValueError: If their lengths differ.
        """
        count = len(self.boxes_xyxy)
        shapes = (self.boxes_xyxy.shape, self.scores.shape, self.times_s.shape)
        if count == 0 or shapes != ((count, 4), (count,), (count,)):
            raise ValueError(
                f"result of {self.name}: expected boxes (T, 4), scores (T,) and times (T,) with "
                f"T >= 1, got {shapes}"
            )

    @property
    def fps(self) -> float:
        """Frames per second after the start, (T - 1) / sum of ``times_s[1:]``; NaN if T is 1."""
        spent_s = float(self.times_s[1:].sum())
        return (len(self.times_s) - 1) / spent_s if spent_s > 0 else float("nan")


def track_one_pass(
    tracker: Tracker[State],
    sequences: Iterable[TrackingSequence],
    *,
    lanes: int = 8,
    on_frame: Callable[[str], None] | None = None,
) -> Iterator[TrackResult]:
    """Follow every sequence and yield each result as soon as it is complete.

    Up to ``lanes`` sequences are followed at once; a finished one makes room for the next, which is
    taken from ``sequences`` only then. The result of a sequence does not depend on ``lanes`` (its
    times do: a step's wall time is shared equally among the sequences in it). While the tracker
    works on a frame, threads decode the next one of each lane; the frames of one sequence are read
    in order and never by two threads at once.

    Args:
        tracker: The tracker.
        sequences: What to follow.
        lanes: How many sequences to follow at once.
        on_frame: Called with the sequence's name after each of its frames, the first included.

    Returns:
        An iterator over results, in the order in which sequences end.

    Raises:
        ValueError: If ``lanes`` is not positive; while iterating, if a tracker refuses a first box
            or answers with something else than one finite box and score per target.
        RuntimeError: While iterating, if a frame cannot be read.
    """
    if lanes < 1:
        raise ValueError(f"lanes: expected at least 1, got {lanes}")
    return _track(tracker, iter(sequences), lanes, on_frame or (lambda name: None))


def _track(
    tracker: Tracker[State],
    waiting: Iterator[TrackingSequence],
    lanes: int,
    on_frame: Callable[[str], None],
) -> Iterator[TrackResult]:
    pool = ThreadPoolExecutor(min(lanes, DECODING_THREADS), thread_name_prefix="decode")
    running: list[_Lane[State]] = []
    try:
        while True:
            while len(running) < lanes and (sequence := next(waiting, None)) is not None:
                running.append(_Lane(sequence, tracker, pool))
                on_frame(sequence.name)
                # A sequence of one frame is complete already, and must not enter a step.
                if running[-1].is_complete:
                    yield running.pop().result()
            if not running:
                return
            _step(tracker, running)
            for lane in running:
                on_frame(lane.sequence.name)
            yield from [lane.result() for lane in running if lane.is_complete]
            running = [lane for lane in running if not lane.is_complete]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _step(tracker: Tracker[State], running: "list[_Lane[State]]") -> None:
    """Take every lane one frame further."""
    frames = [lane.next_frame() for lane in running]
    step_start = perf_counter()
    predictions = tracker.step([lane.state for lane in running], frames)
    time_s = (perf_counter() - step_start) / len(running)
    if len(predictions) != len(running):
        raise ValueError(
            f"tracker: expected {len(running)} predictions for {len(running)} targets, "
            f"got {len(predictions)}"
        )
    for lane, prediction in zip(running, predictions, strict=True):
        lane.append(prediction, time_s)


class _Lane(Generic[State]):
    """One sequence on its way: the tracker's state, the results so far, the next frame."""

    def __init__(
        self, sequence: TrackingSequence, tracker: Tracker[State], pool: ThreadPoolExecutor
    ) -> None:
        self.sequence = sequence
        self._pool = pool
        self._is_blind: bool = getattr(tracker, "blind", False)
        self._boxes_xyxy: list[np.ndarray] = []
        self._scores: list[float] = []
        self._times_s: list[float] = []
        self._ahead = self._decode(0)
        frame = self.next_frame()
        start = perf_counter()
        try:
            self.state = tracker.start(frame, sequence.start_xyxy.astype(np.float32))
        except ValueError as error:
            raise ValueError(f"{self._where(0)}: {error}") from error
        time_s = perf_counter() - start
        self._keep(sequence.start_xyxy, 1.0, time_s)

    @property
    def is_complete(self) -> bool:
        return len(self._boxes_xyxy) == len(self.sequence)

    def next_frame(self) -> np.ndarray:
        """Wait for the frame that was decoded ahead, and let the one after it be decoded.

        A blind tracker gets the first frame again and again.
        """
        index = len(self._boxes_xyxy)
        try:
            frame = self._ahead.result()
        except Exception as error:
            raise RuntimeError(f"{self._where(index)} could not be read: {error}") from error
        if index + 1 < len(self.sequence) and not self._is_blind:
            self._ahead = self._decode(index + 1)
        return frame

    def append(self, prediction: Prediction, time_s: float) -> None:
        box = np.asarray(prediction.box_xyxy, dtype=np.float64)
        if box.shape != (4,) or not np.isfinite([*box, prediction.score]).all():
            raise ValueError(
                f"{self._where(len(self._boxes_xyxy))}: expected a finite box x1 y1 x2 y2 and a "
                f"finite score from the tracker, got {box.tolist()} and {prediction.score}"
            )
        self._keep(box, float(prediction.score), time_s)

    def result(self) -> TrackResult:
        return TrackResult(
            self.sequence.name,
            np.stack(self._boxes_xyxy),
            np.array(self._scores),
            np.array(self._times_s),
        )

    def _keep(self, box_xyxy: np.ndarray, score: float, time_s: float) -> None:
        self._boxes_xyxy.append(box_xyxy.astype(np.float64))
        self._scores.append(score)
        self._times_s.append(time_s)

    def _decode(self, index: int) -> Future[np.ndarray]:
        return self._pool.submit(self.sequence.frames.__getitem__, index)

    def _where(self, index: int) -> str:
        return f"sequence {self.sequence.name}, frame {index + 1} of {len(self.sequence)}"
