"""What each official toolkit makes of one frame: overlap, centre error, normalised centre error.

All toolkits of one-pass evaluation count frames on curves; they disagree on which ground truth is
legal, what an illegal one scores, and what replaces a bad prediction. Here every toolkit is one
function over all frames of all sequences. Boxes are ``xywh`` px as the benchmark's files hold them
(1-based except TrackingNet), because that is what the rules are about: signs, rounding, NaN.

A frame that never succeeds has overlap -1 or NaN; one that is never precise has the error infinity
or NaN; one that is always precise has the error -1.

Sources: the toolkits named at each function; versions as in :data:`RULES`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

INFINITY = float("inf")


class Frames(NamedTuple):
    """Predictions beside the ground truth, the frames of all sequences one after another.

    Args:
        pred_xywh: Predictions, ``(..., N, 4)``; leading axes are trackers.
        target_xywh: Ground truth, ``(N, 4)``; NaN where there is none.
        valid: Frames whose ground truth counts by the benchmark's reader, bool ``(N,)``.
        absent: Frames annotated as not showing the target, bool ``(N,)``.
        run: Ascending number of the run that a frame belongs to, ``(N,)``.
    """

    pred_xywh: Tensor
    target_xywh: Tensor
    valid: Tensor
    absent: Tensor
    run: Tensor


class FrameErrors(NamedTuple):
    """What is counted on the curves.

    Args:
        overlaps: Overlaps, ``(..., N)``.
        centre_errors: Distances of the centres, ``(..., N)``, px.
        normalized_centre_errors: The same in widths and heights of the target, ``(..., N)``.
        counted: Frames in the denominator, bool ``(N,)``.
    """

    overlaps: Tensor
    centre_errors: Tensor
    normalized_centre_errors: Tensor
    counted: Tensor


@dataclass(frozen=True)
class CurveRule:
    """A curve and the score read from it.

    Args:
        thresholds: Abscissae, ascending.
        score: Key of the score.
        weights: The score is the sum of the curve's values times these.
        inclusive: Whether a value equal to the threshold passes.
    """

    thresholds: np.ndarray
    score: str
    weights: np.ndarray
    inclusive: bool


@dataclass(frozen=True)
class Rule:
    """One toolkit's one-pass evaluation.

    Args:
        title: The rule's owner, as in "OTB rule".
        source: Toolkit and version.
        frame_errors: What a frame scores.
        success: Curve of overlaps.
        precision: Curve of centre errors.
        normalized_precision: Curve of normalised centre errors.
        origin: Coordinate of the first pixel in the benchmark's files.
    """

    title: str
    source: str
    frame_errors: Callable[[Frames], FrameErrors]
    success: CurveRule = field(default_factory=lambda: _success(np.arange(21) / 20))
    precision: CurveRule = field(default_factory=lambda: _precision_at_20px())
    normalized_precision: CurveRule = field(default_factory=lambda: _normalized_at_a_fifth())
    origin: float = 1.0


def otb(frames: Frames) -> FrameErrors:
    """OTB's MATLAB toolkit: ``calcSeqErrRobust``, ``genPerfMat``.

    The first prediction is replaced by the ground truth. Ground truth that is not valid fails
    overlap and passes precision. A prediction without positive size, or all NaN, repeats the box
    before it, except where the ground truth holds a NaN. ``min`` and ``max`` skip NaN as MATLAB's
    do: a prediction whose x alone is NaN has the overlap |target| / |prediction|, even above 1.
    """
    pred = _first_replaced(frames)
    x, y, w, h = pred.unbind(-1)
    bad = (w <= 0) | (h <= 0) | (x.isnan() & y.isnan() & w.isnan() & h.isnan())
    bad &= ~frames.target_xywh.isnan().any(dim=-1)
    pred = _repeated(pred, bad, frames.run)
    return _scored(
        _overlaps(pred, frames.target_xywh, skip_nan=True),
        *_distances(pred, frames.target_xywh),
        illegal=~frames.valid,
    )


def lasot(frames: Frames) -> FrameErrors:
    """LaSOT's MATLAB toolkit: ``calc_seq_err_robust``, ``eval_tracker``.

    Absent frames are taken out first, fail everything and stay in the denominator. In the others
    the OTB rule holds, but any NaN in a prediction makes it repeat the box before it.
    """
    seen = (~frames.absent).nonzero()[:, 0]
    frames_seen = Frames(frames.pred_xywh[..., seen, :], *(column[seen] for column in frames[1:]))
    pred = _first_replaced(frames_seen)
    bad = (pred[..., 2:] <= 0).any(dim=-1) | pred.isnan().any(dim=-1)
    pred = _repeated(pred, bad, frames_seen.run)
    errors = _scored(
        _overlaps(pred, frames_seen.target_xywh, skip_nan=True),
        *_distances(pred, frames_seen.target_xywh),
        illegal=~frames_seen.valid,
    )
    everywhere = pred.new_full(frames.pred_xywh.shape[:-1], INFINITY)  # (..., N)
    return FrameErrors(
        (-everywhere).index_copy(-1, seen, errors.overlaps),
        everywhere.index_copy(-1, seen, errors.centre_errors),
        everywhere.index_copy(-1, seen, errors.normalized_centre_errors),
        torch.ones_like(frames.absent),
    )


def trackingnet(frames: Frames) -> FrameErrors:
    """TrackingNet's devkit: boxes are rounded to integers, half to even; nothing is repaired."""
    target = frames.target_xywh.round()
    pred = _first_replaced(frames).round()
    centre, normalized = _distances(pred, target)
    return FrameErrors(_overlaps(pred, target), centre, normalized, torch.ones_like(frames.valid))


def got10k(frames: Frames) -> FrameErrors:
    """The got10k toolkit's experiments on others' benchmarks (OTB, UAV123, NfS, LaSOT).

    Ground truth with a NaN is taken out of numerator and denominator; all other ground truth
    counts, whatever its size, and nothing is repaired.
    """
    pred = _first_replaced(frames)
    eps = float(np.finfo(float).eps)
    overlaps = _overlaps(pred, frames.target_xywh, eps=eps).clip(0, 1)
    centre, normalized = _distances(pred, frames.target_xywh, smallest=1.0)
    known = ~frames.target_xywh.isnan().any(dim=-1)
    return FrameErrors(overlaps, centre, normalized, known)


def pysot(frames: Frames) -> FrameErrors:
    """Pysot's toolkit (``success_overlap``, ``success_error``), the first frame as it is given.

    Absent frames fail. Overlap asks for a positive size of the ground truth; precision for a
    positive centre (pixel ``x + (w - 1) / 2``), else the frame passes.
    """
    pred, target = frames.pred_xywh, frames.target_xywh
    overlaps = _overlaps(pred, target).clip(0, 1)
    overlaps = torch.where((target[:, 2:] > 0).all(dim=-1), overlaps, -1.0)

    def error(unit: Tensor) -> Tensor:
        pred_centre, target_centre = _pixel_centres(pred) / unit, _pixel_centres(target) / unit
        distance = _length(target_centre - pred_centre)
        distance = torch.where((target_centre > 0).all(dim=-1), distance, -1.0)
        return distance.masked_fill(frames.absent, INFINITY)

    return FrameErrors(
        overlaps.masked_fill(frames.absent, -1.0),
        error(torch.ones_like(target[:, 2:])),
        error(target[:, 2:] + 1e-16),
        torch.ones_like(frames.absent),
    )


def pytracking(frames: Frames) -> FrameErrors:
    """Pytracking's ``calc_seq_err_robust``: illegal ground truth fails precision as well.

    The normalised error of such a frame passes, though, and absent frames fail everything.
    """
    errors = pytracking_uav(frames)
    illegal = ~(frames.target_xywh > 0).all(dim=-1)
    return errors._replace(
        centre_errors=errors.centre_errors.masked_fill(illegal | frames.absent, INFINITY),
        normalized_centre_errors=errors.normalized_centre_errors.masked_fill(
            frames.absent, INFINITY
        ),
    )


def pytracking_uav(frames: Frames) -> FrameErrors:
    """Pytracking's rule for UAV123: as :func:`otb`, but only a size of zero is repaired."""
    pred = _first_replaced(frames)
    pred = _repeated(pred, (pred[..., 2:] == 0).any(dim=-1), frames.run)
    legal = (frames.target_xywh > 0).all(dim=-1)  # NaN is not greater than 0
    return _scored(
        _overlaps(pred, frames.target_xywh),
        *_distances(pred, frames.target_xywh),
        illegal=~legal | frames.absent,
    )


def _first_replaced(frames: Frames) -> Tensor:
    """Return the predictions, ``(..., N, 4)``, with each run's first replaced by its target."""
    first = _is_first(frames.run)[:, None]
    return torch.where(first, frames.target_xywh, frames.pred_xywh)


def _is_first(run: Tensor) -> Tensor:
    """Return whether a frame begins a run, bool ``(N,)``."""
    return torch.cat([run.new_ones(1, dtype=torch.bool), run[1:] != run[:-1]])[: len(run)]


def _repeated(pred: Tensor, bad: Tensor, run: Tensor) -> Tensor:
    """Return the predictions ``(..., N, 4)`` with each bad one replaced by the last good one."""
    if not bad.any():
        return pred
    frame = torch.arange(len(run), device=pred.device)
    # The first frame of a run is never replaced, so nothing is carried from one run to the next.
    latest = torch.where(bad & ~_is_first(run), 0, frame).cummax(dim=-1).values
    return pred.gather(-2, latest[..., None].expand_as(pred))


def _overlaps(a_xywh: Tensor, b_xywh: Tensor, *, skip_nan: bool = False, eps: float = 0) -> Tensor:
    """Return intersection over union as the toolkits compute it: sizes are taken as they are.

    Two boxes without area give NaN, unless ``eps`` is added to the union.
    """
    largest, smallest = (torch.fmax, torch.fmin) if skip_nan else (torch.maximum, torch.minimum)
    (ax, ay, aw, ah), (bx, by, bw, bh) = a_xywh.unbind(-1), b_xywh.unbind(-1)
    width = (smallest(ax + aw, bx + bw) - largest(ax, bx)).clip(0)
    height = (smallest(ay + ah, by + bh) - largest(ay, by)).clip(0)
    intersection = width * height
    overlaps: Tensor = intersection / (aw * ah + bw * bh - intersection + eps)
    # (x + w) - x may exceed w in the last digit: that alone must not lift an overlap above 1.
    return overlaps.where(overlaps > 1 + 1e-9, overlaps.clip(max=1))


def _distances(
    pred_xywh: Tensor, target_xywh: Tensor, smallest: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return the distances of the centres, ``(..., N)``, in px and in sizes of the target.

    A size below ``smallest`` counts as that.
    """
    size = target_xywh[:, 2:]
    difference = _pixel_centres(pred_xywh) - _pixel_centres(target_xywh)
    normalized = difference / (size if smallest is None else size.clip(smallest))
    return _length(difference), _length(normalized)


def _pixel_centres(boxes_xywh: Tensor) -> Tensor:
    """Return the pixel in the middle of each box, ``(..., N, 2)``."""
    return boxes_xywh[..., :2] + (boxes_xywh[..., 2:] - 1) / 2


def _length(vectors: Tensor) -> Tensor:
    """Return the Euclidean length of vectors ``(..., 2)``; several times as fast as ``norm``."""
    x, y = vectors.unbind(-1)
    return (x * x + y * y).sqrt()


def _scored(
    overlaps: Tensor, centre: Tensor, normalized: Tensor, *, illegal: Tensor
) -> FrameErrors:
    """Return the errors with illegal frames failing overlap and passing precision."""
    return FrameErrors(
        overlaps.masked_fill(illegal, -1.0),
        centre.masked_fill(illegal, -1.0),
        normalized.masked_fill(illegal, -1.0),
        torch.ones_like(illegal),
    )


def _mean(count: int) -> np.ndarray:
    return np.full(count, 1 / count)


def _area(count: int) -> np.ndarray:
    """Weights of the trapezoid rule over [0, 1]."""
    weights = np.full(count, 1 / (count - 1))
    weights[[0, -1]] /= 2
    return weights


def _at(index: int, count: int) -> np.ndarray:
    weights = np.zeros(count)
    weights[index] = 1
    return weights


def _success(thresholds: np.ndarray) -> CurveRule:
    return CurveRule(thresholds, "success_auc", _mean(21), inclusive=False)


def _precision_at_20px() -> CurveRule:
    return CurveRule(np.arange(51.0), "precision_20px", _at(20, 51), inclusive=True)


def _normalized_at_a_fifth() -> CurveRule:
    thresholds = np.arange(51) / 100
    return CurveRule(thresholds, "normalized_precision", _at(20, 51), inclusive=True)


# Thresholds are spelt as the toolkits spell them: 3 * 0.05 is not 0.15, and TrackingNet's ``>=``
# would notice.
RULES = {
    "otb": Rule("OTB", "OTB tracker_benchmark v1.0, MATLAB (also TC-128, UAV123, NfS)", otb),
    "lasot": Rule("LaSOT", "LaSOT_Evaluation_Toolkit, MATLAB, 95bf38a", lasot),
    "trackingnet": Rule(
        "TrackingNet",
        "TrackingNet-devkit 79783f2, metrics.py",
        trackingnet,
        CurveRule(np.linspace(0, 1, 21), "success", _area(21), inclusive=True),
        CurveRule(np.linspace(0, 50, 21), "precision", _area(21), inclusive=True),
        CurveRule(np.linspace(0, 0.5, 21), "normalized_precision", _area(21), inclusive=True),
        origin=0.0,
    ),
    "got10k": Rule(
        "got10k toolkit",
        "got10k toolkit 0.1.3; normalised precision of git 956e728",
        got10k,
        _success(np.linspace(0, 1, 21)),
        normalized_precision=CurveRule(
            np.linspace(0, 0.5, 51), "normalized_precision", _mean(51), inclusive=True
        ),
    ),
    "pysot": Rule(
        "pysot", "STVIR/pysot toolkit d04028f", pysot, _success(np.arange(0, 1.05, 0.05))
    ),
    "pytracking": Rule("pytracking", "pytracking 7eb9e74 (OTB, NfS, LaSOT)", pytracking),
    "pytracking_uav": Rule("pytracking UAV123", "pytracking 7eb9e74 (UAV123)", pytracking_uav),
}
"""Named rules. Benchmarks' own: otb, lasot, trackingnet; the others are named options."""


def rule_named(name: str) -> Rule:
    """Return a rule.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in RULES:
        raise ValueError(f"rule: expected one of {sorted(RULES)}, got {name!r}")
    return RULES[name]
