"""One-pass evaluation: the success and precision curves of any number of sequences at once.

The frames of all sequences lie one after another; results of several trackers may be stacked in
front. Each toolkit's treatment of frames stands in
:mod:`lightning_trackers.metrics.functional.ope_rules`; ``rule`` names it. With the rule of OTB:

- the first prediction is replaced by the ground truth, and counted;
- a prediction without a positive size repeats the one before it;
- a frame without valid ground truth has overlap -1 (never a success) and centre error -1 (always
  precise), and stays in the denominator;
- overlaps are compared with ``>``, errors with ``<=``. A perfect tracker therefore has a success
  AUC of 20/21: no overlap exceeds the last threshold, 1.

Source: Wu, Lim, Yang, Object Tracking Benchmark, TPAMI 2015, Section 5.1, and its MATLAB toolkit
v1.0 (``calcSeqErrRobust``, ``genPerfMat``); normalised precision: Müller et al., TrackingNet, ECCV
2018, Section 5.1, with thresholds and value at 0.20 as in the LaSOT toolkit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_trackers.boxes import xyxy_to_xywh
from lightning_trackers.metrics.functional.ope_rules import (
    RULES,
    CurveRule,
    FrameErrors,
    Frames,
    Rule,
    rule_named,
)

SUCCESS_THRESHOLDS = torch.from_numpy(RULES["otb"].success.thresholds)
"""Overlaps 0, 0.05, ..., 1."""
PRECISION_THRESHOLDS = torch.from_numpy(RULES["otb"].precision.thresholds)
"""Centre errors 0, 1, ..., 50 px."""
NORMALIZED_PRECISION_THRESHOLDS = torch.from_numpy(RULES["otb"].normalized_precision.thresholds)
"""Centre errors 0, 0.01, ..., 0.50 of the target's width and height."""


@dataclass(frozen=True)
class OnePassCurves:
    """The curves of some sequences, each value the share of frames that pass a threshold.

    Args:
        success: Shape ``(..., S, K)``, one row a sequence.
        precision: Shape ``(..., S, K')``.
        normalized_precision: Shape ``(..., S, K'')``.
        rule: The rule they were counted under.
    """

    success: Tensor
    precision: Tensor
    normalized_precision: Tensor
    rule: Rule

    def scores(self) -> dict[str, Tensor]:
        """Return the scores that the rule reads from the curves, each ``(..., S)``.

        The score of a benchmark is the mean over its sequences.
        """
        return {
            curve.score: values @ torch.from_numpy(curve.weights).to(values)
            for curve, values in (
                (self.rule.success, self.success),
                (self.rule.precision, self.precision),
                (self.rule.normalized_precision, self.normalized_precision),
            )
        }


def one_pass_curves(
    pred_xywh: Tensor,
    target_xywh: Tensor,
    valid: Tensor,
    *,
    lengths: Sequence[int] | Tensor | None = None,
    absent: Tensor | None = None,
    groups: Sequence[int] | Tensor | None = None,
    rule: str = "otb",
) -> OnePassCurves:
    """Count the curves of many sequences, and of many trackers, in one go.

    Boxes are ``xywh`` px as in the benchmark's files; :func:`to_file_xywh` converts the project's.

    Args:
        pred_xywh: Predictions, the first frames included, ``(..., N, 4)``; leading axes are
            trackers, the frames of all sequences lie one after another.
        target_xywh: Ground truth, ``(N, 4)``.
        valid: Frames whose ground truth counts by the benchmark's reader, bool ``(N,)``.
        lengths: Frames of each run, summing to N; one run by default.
        absent: Frames annotated as not showing the target, bool ``(N,)``; none by default.
        groups: Number of the sequence that each run belongs to, 0 to S - 1; every run is a sequence
            of its own by default. TRE and SRE count all runs of a sequence together.
        rule: Name of a rule, see :data:`ope_rules.RULES`.

    Returns:
        Curves, one row per sequence.

    Raises:
        ValueError: If the shapes do not belong together, or the rule is unknown.
    """
    chosen = rule_named(rule)
    frames = _frames(pred_xywh, target_xywh, valid, lengths, absent)
    errors = chosen.frame_errors(frames)
    group = frames.run
    if groups is not None:
        groups = torch.as_tensor(groups, device=pred_xywh.device)
        if groups.shape != (int(frames.run[-1]) + 1,):
            raise ValueError(
                f"groups: expected one number per run, {int(frames.run[-1]) + 1}, got shape "
                f"{tuple(groups.shape)}"
            )
        group = groups[frames.run]
    return OnePassCurves(
        _curve(errors.overlaps, errors.counted, group, chosen.success, rising=False),
        _curve(errors.centre_errors, errors.counted, group, chosen.precision, rising=True),
        _curve(
            errors.normalized_centre_errors,
            errors.counted,
            group,
            chosen.normalized_precision,
            rising=True,
        ),
        chosen,
    )


def frame_errors(
    pred_xywh: Tensor,
    target_xywh: Tensor,
    valid: Tensor,
    *,
    lengths: Sequence[int] | Tensor | None = None,
    absent: Tensor | None = None,
    rule: str = "otb",
) -> FrameErrors:
    """Return what each frame scores; arguments as for :func:`one_pass_curves`."""
    chosen = rule_named(rule)
    return chosen.frame_errors(_frames(pred_xywh, target_xywh, valid, lengths, absent))


def to_file_xywh(boxes_xyxy: Tensor, rule: str = "otb") -> Tensor:
    """Convert the project's boxes (xyxy, 0-based) to those of the benchmark's files, float64.

    Nine decimals are kept: x2 - x1 is not always the width that x2 was made from, but a width of
    33.5 has to stay one where rules round or compare.
    """
    boxes_xywh = xyxy_to_xywh(boxes_xyxy.double())
    boxes_xywh[..., :2] += rule_named(rule).origin
    return boxes_xywh.round(decimals=9)


def overlaps(pred_boxes_xyxy: Tensor, target_boxes_xyxy: Tensor, valid: Tensor) -> Tensor:
    """Return the overlap of every frame under the OTB rule, float64 ``(T,)``, -1 if not valid.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    return _of_one(pred_boxes_xyxy, target_boxes_xyxy, valid).overlaps


def centre_errors(pred_boxes_xyxy: Tensor, target_boxes_xyxy: Tensor, valid: Tensor) -> Tensor:
    """Return the distance of the centres under the OTB rule, float64 ``(T,)``, px, or -1.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    return _of_one(pred_boxes_xyxy, target_boxes_xyxy, valid).centre_errors


def normalized_centre_errors(
    pred_boxes_xyxy: Tensor, target_boxes_xyxy: Tensor, valid: Tensor
) -> Tensor:
    """Return the distance of the centres in target widths and heights, float64 ``(T,)``, or -1.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    return _of_one(pred_boxes_xyxy, target_boxes_xyxy, valid).normalized_centre_errors


def success_curve(frame_overlaps: Tensor) -> Tensor:
    """Return the share of frames whose overlap exceeds 0, 0.05, ..., 1, shape ``(21,)``."""
    return _curve_of_one(frame_overlaps, RULES["otb"].success, rising=False)


def precision_curve(frame_errors: Tensor) -> Tensor:
    """Return the share of frames whose error is at most 0, 1, ..., 50 px, shape ``(51,)``."""
    return _curve_of_one(frame_errors, RULES["otb"].precision, rising=True)


def normalized_precision_curve(frame_errors: Tensor) -> Tensor:
    """Return the share of frames whose error is at most 0, 0.01, ..., 0.50, shape ``(51,)``."""
    return _curve_of_one(frame_errors, RULES["otb"].normalized_precision, rising=True)


def _of_one(pred_xyxy: Tensor, target_xyxy: Tensor, valid: Tensor) -> FrameErrors:
    return frame_errors(to_file_xywh(pred_xyxy), to_file_xywh(target_xyxy), valid)


def _curve_of_one(values: Tensor, rule: CurveRule, *, rising: bool) -> Tensor:
    counted = torch.ones_like(values, dtype=torch.bool)
    return _curve(values, counted, counted.long() - 1, rule, rising=rising)[0]


def _curve(
    values: Tensor, counted: Tensor, group: Tensor, rule: CurveRule, *, rising: bool
) -> Tensor:
    """Return the share of counted frames that pass each threshold, ``(..., S, K)``.

    Args:
        values: Overlaps or errors, ``(..., N)``; NaN never passes.
        counted: Frames in the denominator, bool ``(N,)``.
        group: Row of each frame, ``(N,)``.
        rule: Thresholds.
        rising: Whether values pass that are smaller than the threshold, instead of greater.
    """
    thresholds = torch.from_numpy(rule.thresholds).to(values)
    rows, bins = int(group.max()) + 1, len(thresholds) + 1
    if not counted.all():
        frames = counted.nonzero()[:, 0]
        values, group = values[..., frames], group[frames]
    # How many thresholds lie below a value (or at it) says which ones it passes; one histogram a
    # row replaces one comparison per frame and threshold.
    never = float("inf") if rising else -1.0
    below = _thresholds_below(
        # This makes infinities finite as well.
        values.nan_to_num(nan=never),
        thresholds,
        or_at=rule.inclusive != rising,
    )
    row = group.expand(values.shape)  # (..., N)
    trackers = values.shape[:-1]
    offset = torch.arange(trackers.numel(), device=values.device).reshape(*trackers, 1) * rows
    histogram = torch.bincount(
        ((offset + row) * bins + below).flatten(), minlength=trackers.numel() * rows * bins
    ).reshape(*trackers, rows, bins)  # (..., S, K + 1)
    if rising:
        passed = histogram.cumsum(dim=-1)[..., :-1]
    else:
        passed = histogram.flip(-1).cumsum(dim=-1).flip(-1)[..., 1:]
    total = torch.bincount(group, minlength=rows)  # (S,)
    return passed.double() / total[:, None]


def _thresholds_below(values: Tensor, thresholds: Tensor, *, or_at: bool) -> Tensor:
    """Return how many of some evenly spaced thresholds lie below each finite value (or at it).

    The same as ``torch.bucketize``, which searches, in a fraction of its time: the place follows
    from the spacing but for rounding, so it is off by one at most and two comparisons settle it.
    """
    infinity = thresholds.new_full((1,), float("inf"))
    bounded = torch.cat([-infinity, thresholds, infinity])
    per_unit = (len(thresholds) - 1) / (thresholds[-1] - thresholds[0])
    guess = ((values - thresholds[0]) * per_unit).ceil_().clamp_(0, len(thresholds)).long()
    lower, upper = bounded[guess], bounded[guess + 1]
    if or_at:
        return guess - (values < lower).long() + (values >= upper).long()
    return guess - (values <= lower).long() + (values > upper).long()


def _frames(
    pred_xywh: Tensor,
    target_xywh: Tensor,
    valid: Tensor,
    lengths: Sequence[int] | Tensor | None,
    absent: Tensor | None,
) -> Frames:
    """Return checked frames in float64."""
    count = len(target_xywh)
    if target_xywh.shape != (count, 4) or count == 0:
        raise ValueError(
            f"target boxes: expected shape (T, 4) with T >= 1, got {tuple(target_xywh.shape)}"
        )
    if pred_xywh.shape[-2:] != target_xywh.shape:
        raise ValueError(
            f"predicted boxes: expected the shape of the ground truth, {tuple(target_xywh.shape)}, "
            f"got {tuple(pred_xywh.shape)}"
        )
    absent = torch.zeros_like(valid) if absent is None else absent
    for name, flags in (("valid", valid), ("absent", absent)):
        if flags.shape != (count,) or flags.dtype != torch.bool:
            raise ValueError(
                f"{name}: expected {count} booleans, got {flags.dtype} of shape "
                f"{tuple(flags.shape)}"
            )
    device = target_xywh.device
    sizes = torch.as_tensor([count] if lengths is None else lengths, device=device)
    if sizes.ndim != 1 or (sizes < 1).any() or int(sizes.sum()) != count:
        raise ValueError(
            f"lengths: expected positive numbers that sum to {count} frames, got "
            f"{sizes.tolist()[:8]}{'...' if sizes.numel() > 8 else ''} of sum {int(sizes.sum())}"
        )
    run = torch.arange(len(sizes), device=device).repeat_interleave(sizes)
    return Frames(_by_columns(pred_xywh), _by_columns(target_xywh), valid, absent, run)


def _by_columns(boxes_xywh: Tensor) -> Tensor:
    """Return the boxes in float64, each column contiguous in memory: all rules work on columns."""
    return boxes_xywh.double().movedim(-1, 0).contiguous().movedim(0, -1)
