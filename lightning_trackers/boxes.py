"""Box conversions, overlap and clipping.

Inside the project a box is float32 ``xyxy`` in pixels: edges are continuous, the origin is the outer
corner of the first pixel, width is ``x2 - x1``. Every function works on the last axis, takes numpy
arrays and tensors alike, and returns the kind it was given.
"""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)


def xywh_to_xyxy(boxes_xywh: Array) -> Array:
    """Convert left, top, width, height to two corners, shape ``(..., 4)``."""
    x, y, w, h = _columns(boxes_xywh)
    return _stack([x, y, x + w, y + h])


def xyxy_to_xywh(boxes_xyxy: Array) -> Array:
    """Convert two corners to left, top, width, height, shape ``(..., 4)``."""
    x1, y1, x2, y2 = _columns(boxes_xyxy)
    return _stack([x1, y1, x2 - x1, y2 - y1])


def cxcywh_to_xyxy(boxes_cxcywh: Array) -> Array:
    """Convert centre, width, height to two corners, shape ``(..., 4)``."""
    cx, cy, w, h = _columns(boxes_cxcywh)
    return _stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


def xyxy_to_cxcywh(boxes_xyxy: Array) -> Array:
    """Convert two corners to centre, width, height, shape ``(..., 4)``."""
    x1, y1, x2, y2 = _columns(boxes_xyxy)
    return _stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


def area_xyxy(boxes_xyxy: Array) -> Array:
    """Return the area in square pixels, shape ``(...)``; an inverted box has area 0."""
    x1, y1, x2, y2 = _columns(boxes_xyxy)
    area: Array = _at_least_zero(x2 - x1) * _at_least_zero(y2 - y1)
    return area


def iou_xyxy(a_xyxy: Array, b_xyxy: Array) -> Array:
    """Return intersection over union, broadcasting ``a`` against ``b``.

    Two boxes without area have overlap 0. For all pairs of ``(N, 4)`` and ``(M, 4)`` call
    ``iou_xyxy(a[:, None], b[None])``.

    Returns:
        Overlap in [0, 1], the broadcast shape of the inputs without their last axis.
    """
    ax1, ay1, ax2, ay2 = _columns(a_xyxy)
    bx1, by1, bx2, by2 = _columns(b_xyxy)
    width = _at_least_zero(_minimum(ax2, bx2) - _maximum(ax1, bx1))
    height = _at_least_zero(_minimum(ay2, by2) - _maximum(ay1, by1))
    intersection = width * height
    union = area_xyxy(a_xyxy) + area_xyxy(b_xyxy) - intersection
    # Where the union is 0 the intersection is 0 too, so any positive divisor gives 0.
    overlap: Array = intersection / (union + (union <= 0))
    return overlap


def clip_xyxy(boxes_xyxy: Array, frame_hw: tuple[int, int]) -> Array:
    """Cut boxes at the frame's border, shape ``(..., 4)``; a box outside keeps no area."""
    height, width = frame_hw
    x1, y1, x2, y2 = _columns(boxes_xyxy)
    return _stack([x1.clip(0, width), y1.clip(0, height), x2.clip(0, width), y2.clip(0, height)])


def _columns(boxes: Array) -> tuple[Array, Array, Array, Array]:
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"boxes: expected a last axis of 4, got shape {tuple(boxes.shape)}")
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _stack(columns: list[Array]) -> Array:
    if isinstance(columns[0], Tensor):
        return torch.stack(columns, dim=-1)
    return np.stack(columns, axis=-1)


def _at_least_zero(values: Array) -> Array:
    clipped: Array = values.clip(0)
    return clipped


def _minimum(a: Array, b: Array) -> Array:
    smaller: Array = torch.minimum(a, b) if isinstance(a, Tensor) else np.minimum(a, b)
    return smaller


def _maximum(a: Array, b: Array) -> Array:
    larger: Array = torch.maximum(a, b) if isinstance(a, Tensor) else np.maximum(a, b)
    return larger
