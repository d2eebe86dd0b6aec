"""VOT's supervised experiment: accuracy, robustness and expected average overlap (EAO).

A tracker that loses its target (overlap 0) is started again five frames later. Accuracy leaves out
the ten frames from each start on; EAO and failures do not. Per-frame overlaps are made once by
:func:`sequence_overlaps`; everything else is arithmetic on them.

Source: Kristan et al., The Visual Object Tracking VOT2015 challenge results, ICCVW 2015, Section 3
(EAO); VOT2013 to VOT2019 results papers; MATLAB toolkit 7.0.2. Where other toolkits compute
something else under the same name, ``Rule.toolkit`` selects it: ``pysot`` (STVIR/pysot) and
``python`` (vot-toolkit 0.9).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from lightning_trackers.metrics.functional.region_overlap import (
    FAILED,
    INITIALISED,
    Rasterisation,
    is_code,
    is_rectangle,
    region_overlaps,
)

Toolkit = Literal["matlab", "pysot", "python"]

TAGS = ("camera_motion", "illum_change", "occlusion", "size_change", "motion_change")
"""Tags of frames; ``empty`` (none of them) and ``all`` are derived."""

BURN_IN = 10
SKIPPED = 5
"""From a failure to the next start, frames."""
SENSITIVITY = 30.0
"""Frames over which the robustness axis of accuracy-robustness plots asks for survival."""


@dataclass(frozen=True)
class Rule:
    """What differs between the years.

    Args:
        rasterisation: How overlaps are counted.
        eao_interval: First and last sequence length over which EAO averages; None without EAO.
        bounded_eao: Whether overlaps behind EAO stop at the frame's border.
        toolkit: Whose reading of EAO, accuracy and robustness.

    Raises:
        ValueError: If the toolkit is unknown or the interval is not one.
    """

    rasterisation: Rasterisation
    eao_interval: tuple[int, int] | None = None
    bounded_eao: bool = True
    toolkit: Toolkit = "matlab"

    def __post_init__(self) -> None:
        """Check the options."""
        if self.toolkit not in ("matlab", "pysot", "python"):
            raise ValueError(f"toolkit: expected matlab, pysot or python, got {self.toolkit!r}")
        if self.eao_interval is not None and not 1 <= self.eao_interval[0] <= self.eao_interval[1]:
            raise ValueError(f"eao_interval: expected 1 <= low <= high, got {self.eao_interval}")


RULES = {
    2013: Rule("vot2013", bounded_eao=False),
    2014: Rule("vot2013", bounded_eao=False),
    2015: Rule("vot2013", (108, 371), bounded_eao=False),
    2016: Rule("vot2016", (108, 371)),
    2017: Rule("vot2016", (100, 356)),
    2018: Rule("vot2016", (100, 356)),
    2019: Rule("vot2019", (46, 291)),
}
"""The rule of each challenge."""


def rule_of(year: int, toolkit: Toolkit = "matlab") -> Rule:
    """Return the rule of a year, read by a toolkit.

    ``pysot`` keeps a rectangle's end at ``x + w`` for every year, ``python`` has its own raster.

    Raises:
        ValueError: If the year had no supervised challenge.
    """
    if year not in RULES:
        raise ValueError(f"year: expected one of {sorted(RULES)}, got {year}")
    rasterisation: dict[str, Rasterisation] = {"pysot": "vot2016", "python": "vot2020"}
    rule = RULES[year]
    return replace(
        rule,
        rasterisation=rasterisation.get(toolkit, rule.rasterisation),
        bounded_eao=rule.bounded_eao or toolkit != "matlab",
        toolkit=toolkit,
    )


@dataclass(frozen=True)
class Annotation:
    """Ground truth of one sequence.

    Args:
        name: The sequence's name.
        regions: Ground truth, float64 ``(T, 8)``, see :mod:`.region_overlap`.
        frame_wh: Size of the frames, px.
        tags: Flags per frame by name, each bool ``(T,)``; a missing one is False throughout.
    """

    name: str
    regions: np.ndarray
    frame_wh: tuple[int, int]
    tags: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class SequenceOverlaps:
    """What the scores need to know of the runs on one sequence, R runs of T frames.

    Args:
        eao: Overlaps behind EAO, NaN at codes, float64 ``(R, T)``.
        accuracy: Overlaps behind accuracy, NaN at codes, burn-in included, float64 ``(R, T)``.
        started: Frames of initialisation, bool ``(R, T)``.
        failed: Frames of failure, bool ``(R, T)``.
        tags: Flags of the frames in the order of :data:`TAGS`, bool ``(5, T)``.
    """

    eao: np.ndarray
    accuracy: np.ndarray
    started: np.ndarray
    failed: np.ndarray
    tags: np.ndarray

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.eao[0])

    def tagged(self, tag: str) -> np.ndarray:
        """Return which frames have a tag, bool ``(T,)``.

        Raises:
            ValueError: If there is no such tag.
        """
        if tag == "all":
            return np.ones(self.length, dtype=bool)
        if tag == "empty":
            return np.asarray(~self.tags.any(axis=0))
        if tag not in TAGS:
            raise ValueError(f"tag: expected one of {(*TAGS, 'empty', 'all')}, got {tag!r}")
        return np.asarray(self.tags[TAGS.index(tag)])


@dataclass(frozen=True)
class AccuracyRobustness:
    """Accuracy and failures over some frames.

    Args:
        accuracy: Mean overlap; NaN if no frame counts.
        failures: Number of failures, a mean over runs.
        frames: Number of frames.
    """

    accuracy: float
    failures: float
    frames: float

    @property
    def robustness(self) -> float:
        """Failures per 100 frames, the R of the VOT2016 to VOT2019 papers; lower is better."""
        return 100 * self.failures / self.frames if self.frames else math.nan

    @property
    def reliability(self) -> float:
        """Probability of surviving :data:`SENSITIVITY` frames, the axis of A-R plots."""
        return math.exp(-SENSITIVITY * self.robustness / 100)


def sequence_overlaps(
    annotation: Annotation, runs: Sequence[np.ndarray], rule: Rule
) -> SequenceOverlaps:
    """Compare the runs on one sequence with its ground truth.

    Args:
        annotation: Ground truth.
        runs: The regions of each run, each float64 ``(T, 8)``.
        rule: The rule of the year.

    Raises:
        ValueError: If there is no run, or one has another length than the ground truth.
    """
    length = len(annotation.regions)
    shapes = {run.shape for run in runs}
    if shapes != {(length, 8)}:
        raise ValueError(
            f"sequence {annotation.name}: expected runs of {length} regions, shape "
            f"({length}, 8), got {sorted(shapes) or 'no run'}"
        )
    regions = np.concatenate(list(runs))  # (R T, 8)
    target = np.tile(annotation.regions, (len(runs), 1))
    code = np.where(is_code(regions), regions[:, 0], np.nan)
    width, height = annotation.frame_wh
    accuracy = region_overlaps(
        regions, target, rasterisation=rule.rasterisation, bounds_wh=(width, height)
    )
    if rule.toolkit == "python":
        eao = accuracy
        accuracy = np.where(np.isnan(code), accuracy, np.nan)
    elif rule.bounded_eao:
        eao = accuracy.copy()
        # The smaller bounds change nothing where neither region reaches them.
        differs = _reaches(regions, width - 1, height - 1) | _reaches(target, width - 1, height - 1)
        eao[differs] = region_overlaps(
            regions[differs],
            target[differs],
            rasterisation=rule.rasterisation,
            bounds_wh=(width - 1, height - 1),
        )
    else:
        eao = region_overlaps(regions, target, rasterisation=rule.rasterisation)
    absent = np.zeros(length, dtype=bool)
    shape = (len(runs), length)
    return SequenceOverlaps(
        eao=eao.reshape(shape),
        accuracy=accuracy.reshape(shape),
        started=(code == INITIALISED).reshape(shape),
        failed=(code == FAILED).reshape(shape),
        tags=np.stack([annotation.tags.get(tag, absent) for tag in TAGS]),
    )


def frame_accuracies(
    sequence: SequenceOverlaps, tag: str = "all", burn_in: int = BURN_IN
) -> np.ndarray:
    """Return each frame's overlap, a mean over the runs that count there, float64 ``(N,)``.

    Frames without the tag are taken out first and the burn-in is counted over the rest, as the
    toolkit does; a start that is taken out has no burn-in.

    Returns:
        Overlaps of the N frames with the tag; NaN where no run counts.
    """
    chosen = sequence.tagged(tag)
    overlaps = sequence.accuracy[:, chosen].copy()
    for run, start in zip(*np.nonzero(sequence.started[:, chosen]), strict=True):
        overlaps[run, start : start + burn_in] = np.nan
    counted = np.isfinite(overlaps)
    total = np.where(counted, overlaps, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / counted.sum(axis=0))


def accuracy_robustness(
    sequences: Sequence[SequenceOverlaps], tag: str = "all", burn_in: int = BURN_IN
) -> AccuracyRobustness:
    """Return accuracy and failures over all frames with a tag, the sequences pooled.

    Args:
        sequences: At least one sequence.
        tag: One of :data:`TAGS`, ``empty`` or ``all``.
        burn_in: Frames that do not count after a start, itself included.
    """
    overlaps = np.concatenate([frame_accuracies(s, tag, burn_in) for s in sequences])
    overlaps = overlaps[np.isfinite(overlaps)]
    failures = sum(float(s.failed[:, s.tagged(tag)].sum(axis=1).mean()) for s in sequences)
    frames = sum(int(s.tagged(tag).sum()) for s in sequences)
    return AccuracyRobustness(
        float(overlaps.mean()) if len(overlaps) else math.nan, failures, frames
    )


def tag_table(
    sequences: Sequence[SequenceOverlaps], burn_in: int = BURN_IN
) -> dict[str, AccuracyRobustness]:
    """Return accuracy and failures by tag: all, the five tags, empty."""
    tags = ("all", *TAGS, "empty")
    return {tag: accuracy_robustness(sequences, tag, burn_in) for tag in tags}


def tag_mean(
    table: Mapping[str, AccuracyRobustness], *, weighted: bool = True
) -> AccuracyRobustness:
    """Return the mean over the tags and ``empty``, as the tables of the MATLAB report show it.

    The results papers print the pooled values (tag ``all``) instead.

    Args:
        table: From :func:`tag_table`.
        weighted: Weigh each tag by its frames, the report's ``weighted_mean``; else its ``mean``.

    Returns:
        Means of accuracy, failures and frames; tags without frames do not count.
    """
    rows = [row for tag, row in table.items() if tag != "all" and row.frames > 0]
    if not rows:
        return AccuracyRobustness(math.nan, math.nan, 0)
    frames = np.array([row.frames for row in rows], dtype=np.float64)
    accuracies = np.array([row.accuracy for row in rows])
    weights = frames if weighted else np.ones_like(frames)
    known = np.isfinite(accuracies)  # every frame of a tag may lie in a burn-in
    return AccuracyRobustness(
        float(np.average(accuracies[known], weights=weights[known])) if known.any() else math.nan,
        float(np.average([row.failures for row in rows], weights=weights)),
        float(np.average(frames, weights=weights)),
    )


def python_accuracy_robustness(
    sequences: Sequence[SequenceOverlaps], burn_in: int = BURN_IN
) -> AccuracyRobustness:
    """Return the two numbers that vot-toolkit calls accuracy and robustness.

    Means over runs and then over sequences weighted by length; failures are counted per sequence,
    and ``frames`` is the mean length, as in the toolkit's A-R plot.
    """
    lengths = [s.length for s in sequences]
    accuracies, failures = [], []
    for s in sequences:
        runs = [
            frame_accuracies(
                replace(s, accuracy=s.accuracy[r : r + 1], started=s.started[r : r + 1]),
                burn_in=burn_in,
            )
            for r in range(len(s.accuracy))
        ]
        counted = [run[np.isfinite(run)] for run in runs]
        accuracies.append(np.mean([run.mean() if len(run) else 0.0 for run in counted]))
        failures.append(s.failed.sum(axis=1).mean())
    return AccuracyRobustness(
        float(np.average(accuracies, weights=lengths)),
        float(np.average(failures, weights=lengths)),
        float(np.mean(lengths)),
    )


def expected_overlap_curve(
    sequences: Sequence[SequenceOverlaps], tag: str = "all", toolkit: Toolkit = "matlab"
) -> np.ndarray:
    """Return the average overlap to expect on a sequence of N frames, N = 1, 2, ...

    Each run is cut into fragments: from a start to the next one, and from the last start to the
    end. What lies behind a failure counts as overlap 0, for as long as the longest sequence; what
    lies behind the end of a sequence does not count. A failure so late that the tracker is not
    started again leaves its fragment as if the tracker had survived.

    Args:
        sequences: At least one sequence.
        tag: Weighs each fragment by its share of frames with the tag. (For ``empty`` the MATLAB
            toolkit and pysot count the frames of the whole sequence; so does this.)
        toolkit: ``matlab``; ``pysot``: a start that would fall just behind the end counts, and the
            curve has single precision; ``python``: fragments end at the failure, also a late one,
            every run weighs the same, and the curve ends with the longest fragment.

    Returns:
        Float64 ``(L,)``, element N - 1 belongs to N frames; NaN where no fragment is that long.
    """
    pieces, lengths, weights = [], [], []
    for sequence in sequences:
        tagged = sequence.tagged(tag)
        for overlaps, failed, started in zip(
            sequence.eao, sequence.failed, sequence.started, strict=True
        ):
            cut = _fragments(overlaps, failed, started, toolkit)
            for first, end, survived in cut:
                pieces.append(np.nan_to_num(overlaps[first:end], nan=0.0))
                lengths.append(end - first if survived else -1)
                counted = tagged if tag == "empty" else tagged[first:end]
                share = counted.sum() / (end - first)
                weights.append(share if toolkit == "python" else share / len(sequence.eao))
    longest = max(map(len, pieces)) if toolkit == "python" else max(s.length for s in sequences)
    padded = np.zeros((len(pieces), longest))
    known = np.ones((len(pieces), longest), dtype=bool)
    for row, piece in enumerate(pieces):
        padded[row, : len(piece)] = piece
        if lengths[row] >= 0:
            known[row, lengths[row] :] = False
    # Element j is the mean of frames 1 to j: the first frame is given and does not count.
    padded[:, 0] = 0.0
    means = padded.cumsum(axis=1) / np.maximum(np.arange(longest), 1)
    weight = known * np.array(weights)[:, None]
    with np.errstate(invalid="ignore"):
        curve = (means * weight).sum(axis=0) / weight.sum(axis=0)
    curve[0] = 0.0 if toolkit == "python" else 1.0
    return np.asarray(curve if toolkit == "matlab" else curve.astype(np.float32), np.float64)


def expected_average_overlap(
    curve: np.ndarray, interval: tuple[int, int], toolkit: Toolkit = "matlab"
) -> float:
    """Return EAO: the mean of the curve over sequence lengths from ``low`` to ``high``, inclusive.

    Args:
        curve: From :func:`expected_overlap_curve`.
        interval: ``low`` and ``high``, frames.
        toolkit: ``python`` takes the interval one frame later.

    Returns:
        EAO in [0, 1], over the lengths that the curve knows; NaN if it knows none of them.
    """
    low, high = interval
    first = low if toolkit == "python" else low - 1
    values = curve[first : first + high - low + 1]
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


def _reaches(regions: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return which regions end behind the bounds, bool ``(T,)``."""
    x1, y1, x2, y2, x3, y3, x4, y4 = regions.T
    rectangle = is_rectangle(regions)  # x, y, w, h
    right = np.where(rectangle, x1 + x2, np.maximum(np.maximum(x1, x2), np.maximum(x3, x4)))
    bottom = np.where(rectangle, y1 + y2, np.maximum(np.maximum(y1, y2), np.maximum(y3, y4)))
    return np.asarray((right > width) | (bottom > height))


def _fragments(
    overlaps: np.ndarray, failed: np.ndarray, started: np.ndarray, toolkit: Toolkit
) -> list[tuple[int, int, bool]]:
    """Return begin, end (exclusive) and whether the tracker survived, for each fragment.

    Under ``pysot`` a fragment may end one frame behind the sequence, which lowers its weight.
    """
    length = len(overlaps)
    failures = np.flatnonzero(failed)
    if toolkit == "python":
        starts = np.flatnonzero(started)
        cut = [(int(a), int(b), False) for a, b in zip(starts, failures, strict=False) if b > a]
        if len(starts) > len(failures):
            cut.append((int(starts[-1]) if len(failures) else 0, length, True))
        return cut
    last_start = length if toolkit == "pysot" else length - 1
    points = [0, *(int(f) + SKIPPED for f in failures if f + SKIPPED <= last_start)]
    # The frame of the new start belongs to the old fragment too.
    cut = [(a, b + 1, False) for a, b in pairwise(points)]
    if points[-1] < length:
        cut.append((points[-1], length, True))
    return cut
