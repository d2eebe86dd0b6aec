"""One-pass evaluation: overlap, centre error, and the success and precision curves.

One sequence at a time. Boxes are ``xyxy`` px, shape ``(T, 4)``, the first frame included;
``valid`` ``(T,)`` says which frames have a ground truth that counts (the reader knows its
benchmark's rule). The rules are those of the OTB toolkit:

- the first prediction is replaced by the ground truth, and counted;
- a prediction without a positive size repeats the one before it;
- a frame without valid ground truth has overlap -1 (never a success) and centre error -1 (always
  precise), and stays in the denominator;
- overlaps are compared with ``>``, errors with ``<=``. A perfect tracker therefore has a success
  AUC of 20/21: no overlap exceeds the last threshold, 1.

Source: Wu, Lim, Yang, Object Tracking Benchmark, TPAMI 2015, Section 5.1, and its MATLAB toolkit
v1.0 (``calcSeqErrRobust``, ``genPerfMat``); normalised precision: Müller et al., TrackingNet, ECCV
2018, Section 5.1, with thresholds and value at 0.20 as in the LaSOT toolkit.
Deviation: the toolkit repairs a NaN prediction only where all four numbers are NaN and the ground
truth is not, because MATLAB's ``min`` skips NaN; here any NaN or infinity repeats the box before.
Results that trackers of this project write hold neither.
"""

import torch
from torch import Tensor

from lightning_trackers.boxes import iou_xyxy, xyxy_to_cxcywh

SUCCESS_THRESHOLDS = torch.arange(21, dtype=torch.float64) / 20
"""Overlaps 0, 0.05, ..., 1."""
PRECISION_THRESHOLDS = torch.arange(51, dtype=torch.float64)
"""Centre errors 0, 1, ..., 50 px."""
NORMALIZED_PRECISION_THRESHOLDS = torch.arange(51, dtype=torch.float64) / 100
"""Centre errors 0, 0.01, ..., 0.50 of the target's width and height."""

PRECISION_INDEX = 20
"""Where the precision curve holds its score: 20 px."""
NORMALIZED_PRECISION_INDEX = 20
"""Where the normalised precision curve holds its score: 0.20."""


def overlaps(pred_boxes_xyxy: Tensor, target_boxes_xyxy: Tensor, valid: Tensor) -> Tensor:
    """Return the overlap of every frame, float64 ``(T,)``, in [0, 1], or -1 where not valid.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    pred, target = _prepared(pred_boxes_xyxy, target_boxes_xyxy, valid)
    return _only_valid(iou_xyxy(pred, target), valid)


def centre_errors(pred_boxes_xyxy: Tensor, target_boxes_xyxy: Tensor, valid: Tensor) -> Tensor:
    """Return the distance of the centres of every frame, float64 ``(T,)``, px, or -1.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    pred, target = _prepared(pred_boxes_xyxy, target_boxes_xyxy, valid)
    difference = xyxy_to_cxcywh(pred)[:, :2] - xyxy_to_cxcywh(target)[:, :2]
    return _only_valid(difference.norm(dim=1), valid)


def normalized_centre_errors(
    pred_boxes_xyxy: Tensor, target_boxes_xyxy: Tensor, valid: Tensor
) -> Tensor:
    """Return the distance of the centres in target widths and heights, float64 ``(T,)``, or -1.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    pred, target = _prepared(pred_boxes_xyxy, target_boxes_xyxy, valid)
    target_cxcywh = xyxy_to_cxcywh(target)
    difference = xyxy_to_cxcywh(pred)[:, :2] - target_cxcywh[:, :2]
    return _only_valid((difference / target_cxcywh[:, 2:]).norm(dim=1), valid)


def success_curve(frame_overlaps: Tensor) -> Tensor:
    """Return the share of frames whose overlap exceeds 0, 0.05, ..., 1, shape ``(21,)``."""
    thresholds = SUCCESS_THRESHOLDS.to(frame_overlaps.device)
    return (frame_overlaps > thresholds[:, None]).double().mean(dim=1)  # (21, T) -> (21,)


def precision_curve(frame_errors: Tensor) -> Tensor:
    """Return the share of frames whose error is at most 0, 1, ..., 50 px, shape ``(51,)``."""
    thresholds = PRECISION_THRESHOLDS.to(frame_errors.device)
    return (frame_errors <= thresholds[:, None]).double().mean(dim=1)  # (51, T) -> (51,)


def normalized_precision_curve(frame_errors: Tensor) -> Tensor:
    """Return the share of frames whose error is at most 0, 0.01, ..., 0.50, shape ``(51,)``."""
    thresholds = NORMALIZED_PRECISION_THRESHOLDS.to(frame_errors.device)
    return (frame_errors <= thresholds[:, None]).double().mean(dim=1)  # (51, T) -> (51,)


def _prepared(pred: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float64, the first prediction replaced and bad ones repaired."""
    count = len(target)
    if target.shape != (count, 4) or count == 0:
        raise ValueError(
            f"target_boxes_xyxy: expected shape (T, 4) with T >= 1, got {tuple(target.shape)}"
        )
    if pred.shape != target.shape:
        raise ValueError(
            f"pred_boxes_xyxy: expected the shape of the ground truth, {tuple(target.shape)}, "
            f"got {tuple(pred.shape)}"
        )
    if valid.shape != (count,) or valid.dtype != torch.bool:
        raise ValueError(
            f"valid: expected {count} booleans, got {valid.dtype} of shape {tuple(valid.shape)}"
        )
    pred, target = pred.double(), target.double()
    pred = torch.cat([target[:1], pred[1:]])
    good = pred.isfinite().all(dim=1) & (pred[:, 2:] > pred[:, :2]).all(dim=1)
    # Frame 0 has nothing before it. Elsewhere: the latest good frame up to this one.
    frame = torch.arange(count, device=pred.device)
    latest_good = torch.where(good, frame, 0).cummax(dim=0).values
    return pred[latest_good], target


def _only_valid(values: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, values, -1.0)
