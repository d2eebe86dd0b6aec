"""VOT's supervised experiment: a tracker that loses its target is started again.

Start in the first frame; where the overlap with the ground truth is 0 the tracker has failed, four
frames are skipped, and in the fifth it is started anew. Every sequence is run several times, unless
the first runs agree. Many sequences are followed in lockstep.

Source: Kristan et al., A Novel Performance Evaluation Methodology for Single-Target Trackers, TPAMI
2016, Section 3; MATLAB toolkit 7.0.2 (``tracker_run``, ``experiment_supervised``).
Deviation: the toolkit hands over the polygon and the tracker's wrapper turns it into a box; here
``start_box`` says how. Trackers of this project answer with upright boxes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, Literal

import numpy as np

from lightning_trackers.boxes import cxcywh_to_xyxy, xywh_to_xyxy, xyxy_to_xywh
from lightning_trackers.evaluation.one_pass import DECODING_THREADS
from lightning_trackers.evaluation.protocol import Curve, Scores
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.tracker import Prediction, State, Tracker
from lightning_trackers.evaluation.vot_results import (
    DECIMALS,
    SupervisedResult,
    VOTResultStore,
)
from lightning_trackers.metrics.functional import vot
from lightning_trackers.metrics.functional.region_overlap import (
    FAILED,
    INITIALISED,
    NO_RESULT,
    is_code,
    region_overlaps,
)

StartBox = Literal["bounding", "area"]
Average = Literal["pooled", "weighted_mean", "mean"]

AGREEING_RUNS = 3
"""So many equal runs show a deterministic tracker; no more are made."""
AGREEMENT = 0.999
"""Overlap above which two regions count as equal."""


@dataclass(frozen=True)
class VOTSupervised:
    """The supervised experiment of a year, as an evaluation protocol.

    Args:
        year: 2013 to 2019: which pixels count, and over which lengths EAO averages.
        toolkit: Whose reading where they differ, see
            :mod:`lightning_trackers.metrics.functional.vot`; the challenge's own by default.
        average: Accuracy and failures over all frames, as the results papers print them, or the
            mean over tags, as tables of the MATLAB report do.
        repetitions: Runs of each sequence; fewer where the first three agree.
        start_box: Box of a polygon that the tracker starts from: ``bounding`` its extremes;
            ``area`` an upright box of its area around its centre, as pysot and got10k do.

    Raises:
        ValueError: If an option is unknown.
    """

    year: int
    toolkit: vot.Toolkit = "matlab"
    average: Average = "pooled"
    repetitions: int = 15
    start_box: StartBox = "bounding"

    def __post_init__(self) -> None:
        """Check the options."""
        _ = self.rule
        if self.average not in ("pooled", "weighted_mean", "mean"):
            raise ValueError(
                f"average: expected pooled, weighted_mean or mean, got {self.average!r}"
            )
        if self.repetitions < 1:
            raise ValueError(f"repetitions: expected at least 1, got {self.repetitions}")
        if self.start_box not in ("bounding", "area"):
            raise ValueError(f"start_box: expected bounding or area, got {self.start_box!r}")

    @cached_property
    def rule(self) -> vot.Rule:
        """The rule of the year."""
        return vot.rule_of(self.year, self.toolkit)

    @property
    def name(self) -> str:
        """Name in reports."""
        reading = "" if self.toolkit == "matlab" else f", {self.toolkit}"
        reading += "" if self.average == "pooled" else f", {self.average} over tags"
        return f"supervised experiment, VOT{self.year} rule{reading}"

    @property
    def headline(self) -> str:
        """EAO; before VOT2015, which had none, the share of 30-frame stretches survived."""
        return "eao" if self.rule.eao_interval else "reliability"

    def track(
        self,
        tracker: Tracker[Any],
        sequences: Iterable[TrackingSequence],
        *,
        lanes: int = 8,
        on_frame: Callable[[str], None] | None = None,
    ) -> Iterator[SupervisedResult]:
        """Run every sequence, up to ``lanes`` at once; see ``EvaluationProtocol.track``.

        A result does not depend on ``lanes``. The runs of a sequence follow one another on its
        lane.

        Raises:
            ValueError: If ``lanes`` is not positive; while iterating, if a tracker refuses a start
                box or does not answer with one finite box per target.
            RuntimeError: While iterating, if a frame cannot be read.
        """
        if lanes < 1:
            raise ValueError(f"lanes: expected at least 1, got {lanes}")
        return _track(self, tracker, iter(sequences), lanes, on_frame or (lambda name: None))

    def store(
        self, folder: str | Path, fingerprint: str, *, overwrite: bool = False
    ) -> VOTResultStore:
        """Open the result files of one tracker.

        The fingerprint also names what of the protocol results depend on.
        """
        options = f"{self.rule.rasterisation}, {self.repetitions} runs, {self.start_box} start box"
        return VOTResultStore(folder, f"{fingerprint.strip()}; {options}", overwrite=overwrite)

    def score(self, benchmark: Benchmark, results: Mapping[str, SupervisedResult]) -> Scores:
        """Score the results of every sequence of a benchmark, by name.

        Returns:
            ``eao`` (from VOT2015 on), ``accuracy``, ``robustness`` (failures per 100 frames, lower
            is better), ``failures`` and ``reliability``; the expected overlap curve; accuracy and
            failures of each sequence; the same and EAO of each tag.

        Raises:
            ValueError: If a sequence has no result, or one does not belong to it.
        """
        missing = [sequence.name for sequence in benchmark if sequence.name not in results]
        if missing:
            raise ValueError(f"{benchmark.name}: no result for {missing}")
        overlaps = {
            sequence.name: vot.sequence_overlaps(
                annotation_of(sequence), results[sequence.name].runs, self.rule
            )
            for sequence in benchmark
        }
        return self._scores(overlaps)

    def _scores(self, overlaps: Mapping[str, vot.SequenceOverlaps]) -> Scores:
        everything = list(overlaps.values())
        table = vot.tag_table(everything)
        curves = {
            tag: vot.expected_overlap_curve(everything, tag, self.toolkit)
            for tag, row in table.items()
            if row.frames
        }
        interval = self.rule.eao_interval
        attributes = {tag: _numbers(table[tag]) | self._eao(curve) for tag, curve in curves.items()}
        whole = attributes.pop("all")
        if self.toolkit == "python":
            whole = self._eao(curves["all"]) | _numbers(vot.python_accuracy_robustness(everything))
        elif self.average != "pooled":
            mean = vot.tag_mean(table, weighted=self.average == "weighted_mean")
            whole = self._eao(curves["all"]) | _numbers(mean)
        lengths = np.arange(1, len(curves["all"]) + 1)
        return Scores(
            scalars={self.headline: whole[self.headline], **whole},
            curves={
                "expected_overlap": Curve(
                    lengths, curves["all"], "sequence length (frames)", "expected average overlap"
                )
            }
            if interval
            else {},
            sequences={
                name: _numbers(vot.accuracy_robustness([one])) for name, one in overlaps.items()
            },
            attributes=attributes,
        )

    def _eao(self, curve: np.ndarray) -> dict[str, float]:
        interval = self.rule.eao_interval
        if interval is None:
            return {}
        return {"eao": vot.expected_average_overlap(curve, interval, self.toolkit)}


def annotation_of(sequence: TrackingSequence) -> vot.Annotation:
    """Return the ground truth of a sequence in the form in which the metrics take it.

    The first frame is decoded for its size, unless ``frames`` has an attribute ``frame_wh``.
    """
    frame_wh = getattr(sequence.frames, "frame_wh", None)
    if frame_wh is None:
        height, width = sequence.frames[0].shape[:2]
        frame_wh = width, height
    return vot.Annotation(
        sequence.name, target_regions(sequence), frame_wh, dict(sequence.frame_attributes)
    )


def target_regions(sequence: TrackingSequence) -> np.ndarray:
    """Return the ground truth as regions, float64 ``(T, 8)``: polygons, or boxes where none are."""
    regions = np.full((len(sequence), 8), np.nan)
    regions[:, :4] = xyxy_to_xywh(sequence.boxes_xyxy)
    if sequence.polygons is not None:
        known = np.isfinite(sequence.polygons).all(axis=1)
        regions[known] = sequence.polygons[known]
    return regions


def box_of_region(region: np.ndarray, kind: StartBox = "bounding") -> np.ndarray:
    """Return the upright box of a polygon or rectangle, xyxy, float64 ``(4,)``, px.

    Args:
        region: One region, float64 ``(8,)``.
        kind: ``bounding``: the extremes of its corners. ``area``: around the mean of its corners,
            in the proportions of the bounding box, with the area of the parallelogram that the
            first three corners span, and one pixel added to width and height (the rule of pysot's
            and got10k's toolkits).
    """
    if np.isnan(region[4]):
        return xywh_to_xyxy(region[:4])
    corners = region.reshape(4, 2)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if kind == "bounding":
        return np.concatenate([low, high])
    sides = np.linalg.norm(corners[:2] - corners[1:3], axis=1)
    scale = np.sqrt(sides.prod() / (high - low).prod())
    return cxcywh_to_xyxy(np.concatenate([corners.mean(axis=0), scale * (high - low) + 1]))


def _numbers(row: vot.AccuracyRobustness) -> dict[str, float]:
    return {
        "accuracy": row.accuracy,
        "robustness": row.robustness,
        "failures": row.failures,
        "reliability": row.reliability,
    }


def _track(
    protocol: VOTSupervised,
    tracker: Tracker[State],
    waiting: Iterator[TrackingSequence],
    lanes: int,
    on_frame: Callable[[str], None],
) -> Iterator[SupervisedResult]:
    pool = ThreadPoolExecutor(min(lanes, DECODING_THREADS), thread_name_prefix="decode")
    running: list[_Lane[State]] = []
    try:
        while True:
            while len(running) < lanes and (sequence := next(waiting, None)) is not None:
                running.append(_Lane(protocol, sequence, pool))
            if not running:
                return
            # A lane that has just been started joins the step of the next turn.
            stepping = [lane for lane in running if lane.state is not None]
            for lane in running:
                on_frame(lane.sequence.name)
                if lane.state is None:
                    lane.start(tracker)
            if stepping:
                _step(tracker, stepping)
            yield from [lane.result() for lane in running if lane.is_complete]
            running = [lane for lane in running if not lane.is_complete]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _step(tracker: Tracker[State], stepping: "list[_Lane[State]]") -> None:
    """Take every lane one frame further."""
    frames = [lane.frame() for lane in stepping]
    states = [lane.state for lane in stepping if lane.state is not None]
    step_start = perf_counter()
    predictions = tracker.step(states, frames)
    time_s = (perf_counter() - step_start) / len(stepping)
    if len(predictions) != len(stepping):
        raise ValueError(
            f"tracker: expected {len(stepping)} predictions for {len(stepping)} targets, got "
            f"{len(predictions)}"
        )
    for lane, frame, prediction in zip(stepping, frames, predictions, strict=True):
        lane.append(frame, prediction, time_s)


class _Lane(Generic[State]):
    """One sequence on its way: finished runs, and the current one's regions and next frame."""

    def __init__(
        self, protocol: VOTSupervised, sequence: TrackingSequence, pool: ThreadPoolExecutor
    ) -> None:
        self.sequence = sequence
        self.state: State | None = None
        self.is_complete = False
        self._protocol, self._pool = protocol, pool
        self._target = target_regions(sequence)
        self._runs: list[np.ndarray] = []
        self._run_times_s: list[np.ndarray] = []
        self._now = 0
        self._regions, self._times_s = self._new_run()
        self._ahead: tuple[int, Future[np.ndarray]] | None = 0, self._decode(0)

    def frame(self) -> np.ndarray:
        """Wait for the current frame, and let the one after it be decoded."""
        number, ahead = self._ahead or (self._now, self._decode(self._now))
        if number != self._now:
            # Skipped after a failure. Two threads must not read one sequence at once.
            if not ahead.cancel():
                ahead.exception()
            ahead = self._decode(self._now)
        try:
            frame = ahead.result()
        except Exception as error:
            raise RuntimeError(f"{self._where()} could not be read: {error}") from error
        following = self._now + 1
        has_more = following < len(self.sequence)
        self._ahead = (following, self._decode(following)) if has_more else None
        return frame

    def start(self, tracker: Tracker[State]) -> None:
        frame = self.frame()
        box_xyxy = box_of_region(self._target[self._now], self._protocol.start_box)
        start = perf_counter()
        try:
            self.state = tracker.start(frame, box_xyxy.astype(np.float32))
        except ValueError as error:
            raise ValueError(f"{self._where()}: {error}") from error
        self._keep([INITIALISED], perf_counter() - start)

    def append(self, frame: np.ndarray, prediction: Prediction, time_s: float) -> None:
        box_xyxy = np.asarray(prediction.box_xyxy, dtype=np.float64)
        if box_xyxy.shape != (4,) or not np.isfinite([*box_xyxy, prediction.score]).all():
            raise ValueError(
                f"{self._where()}: expected a finite box x1 y1 x2 y2 and a finite score from the "
                f"tracker, got {box_xyxy.tolist()} and {prediction.score}"
            )
        # Rounded as in the file, so that what fails here fails there.
        region = [float(f"{value:.{DECIMALS}f}") for value in xyxy_to_xywh(box_xyxy)]
        if self._overlap(region, frame.shape[1], frame.shape[0]) > 0:
            self._keep(region, time_s)
            return
        self.state = None
        skipped = range(self._now + 1, min(self._now + vot.SKIPPED, len(self.sequence)))
        self._regions[skipped.start : skipped.stop, 0] = NO_RESULT
        self._keep([FAILED], time_s, following=skipped.stop)

    def result(self) -> SupervisedResult:
        times_s = np.stack(self._run_times_s, axis=1)  # (T, R)
        return SupervisedResult(self.sequence.name, tuple(self._runs), times_s)

    def _overlap(self, region: list[float], width: int, height: int) -> float:
        rule = self._protocol.rule
        predicted = np.full((1, 8), np.nan)
        predicted[0, :4] = region
        less = 0 if rule.toolkit == "python" else 1
        (overlap,) = region_overlaps(
            predicted,
            self._target[self._now, None],
            rasterisation=rule.rasterisation,
            bounds_wh=(width - less, height - less),
        )
        return float(overlap)

    def _keep(self, region: list[float], time_s: float, following: int | None = None) -> None:
        """Write the current frame's region and go on; the last frame ends the run."""
        self._regions[self._now, : len(region)] = region
        self._times_s[self._now] = time_s
        self._now = self._now + 1 if following is None else following
        if self._now == len(self.sequence):
            self._runs.append(self._regions)
            self._run_times_s.append(self._times_s)
            enough = len(self._runs) == self._protocol.repetitions
            self.is_complete = enough or _agree(self._runs)
            self._regions, self._times_s = self._new_run()
            self._now, self.state = 0, None

    def _new_run(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full((len(self.sequence), 8), np.nan), np.zeros(len(self.sequence))

    def _decode(self, index: int) -> Future[np.ndarray]:
        return self._pool.submit(self.sequence.frames.__getitem__, index)

    def _where(self) -> str:
        return f"sequence {self.sequence.name}, frame {self._now + 1} of {len(self.sequence)}"


def _agree(runs: list[np.ndarray]) -> bool:
    """Return whether the first runs are so many, and equal, that no more are needed."""
    if len(runs) < AGREEING_RUNS:
        return False
    first = runs[0]
    code = is_code(first)
    for other in runs[1:AGREEING_RUNS]:
        if not np.array_equal(first[code, 0], other[code, 0]) or is_code(other[~code]).any():
            return False
        overlaps = region_overlaps(first[~code], other[~code], rasterisation="vot2016")
        # Without an area two equal regions have no pixel in common.
        equal = (first[~code] == other[~code]) | np.isnan(first[~code])
        if not ((overlaps > AGREEMENT) | equal.all(axis=1)).all():
            return False
    return True
