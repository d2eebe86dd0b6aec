"""Context-padded square windows and the exact maps between frame and crop.

A :class:`Window` is a square of the frame that is shown as a crop of ``size`` pixels. Both sides use
continuous edges (see ``boxes.py``), so frame -> crop -> frame is the identity up to rounding.

Source: Bertinetto et al., Fully-Convolutional Siamese Networks for Object Tracking, ECCVW 2016,
Section 2.2 (context margin and mean-colour padding).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Protocol

import cv2
import numpy as np

from lightning_trackers.boxes import Array


@dataclass(frozen=True)
class Window:
    """A square of the frame and the size in which it is shown.

    Args:
        cx: Centre, x, frame px.
        cy: Centre, y, frame px.
        side: Side of the square, frame px.
        size: Side of the crop, crop px.
    """

    cx: float
    cy: float
    side: float
    size: int

    def __post_init__(self) -> None:
        """Refuse a window that shows nothing.

        Raises:
            ValueError: If ``side`` or ``size`` is not positive, or a number is not finite.
        """
        finite = isfinite(self.cx) and isfinite(self.cy) and isfinite(self.side)
        if not (finite and self.side > 0 < self.size):
            raise ValueError(f"window: expected finite numbers and positive sizes, got {self}")

    @property
    def scale(self) -> float:
        """Crop pixels per frame pixel."""
        return self.size / self.side

    def to_crop(self, boxes_in_frame_xyxy: Array) -> Array:
        """Map boxes from frame to crop pixels, shape ``(..., 4)``."""
        boxes: Array = (boxes_in_frame_xyxy - self._origin(boxes_in_frame_xyxy)) * self.scale
        return boxes

    def to_frame(self, boxes_in_crop_xyxy: Array) -> Array:
        """Map boxes from crop to frame pixels, shape ``(..., 4)``."""
        boxes: Array = boxes_in_crop_xyxy / self.scale + self._origin(boxes_in_crop_xyxy)
        return boxes

    def moved(self, dx: float = 0.0, dy: float = 0.0, zoom: float = 1.0) -> "Window":
        """Return the window moved by ``dx, dy`` frame px with its side multiplied by ``zoom``."""
        return Window(self.cx + dx, self.cy + dy, self.side * zoom, self.size)

    @property
    def left_top(self) -> tuple[float, float]:
        """The corner of the first pixel shown, frame px."""
        return self.cx - self.side / 2, self.cy - self.side / 2

    def _origin(self, like: Array) -> Array:
        left, top = self.left_top
        if isinstance(like, np.ndarray):
            return np.array([left, top, left, top], dtype=like.dtype)
        return like.new_tensor([left, top, left, top])


@dataclass(frozen=True)
class Stretch:
    """A whole frame that is shown as a square; it has the maps of a :class:`Window`.

    Args:
        frame_wh: Width and height of the frame, px.
        size: Side of the crop, crop px.
    """

    frame_wh: tuple[int, int]
    size: int

    def to_crop(self, boxes_in_frame_xyxy: Array) -> Array:
        """Map boxes from frame to crop pixels, shape ``(..., 4)``."""
        boxes: Array = boxes_in_frame_xyxy * self._scale(boxes_in_frame_xyxy)
        return boxes

    def to_frame(self, boxes_in_crop_xyxy: Array) -> Array:
        """Map boxes from crop to frame pixels, shape ``(..., 4)``."""
        boxes: Array = boxes_in_crop_xyxy / self._scale(boxes_in_crop_xyxy)
        return boxes

    def shown(self, frame: np.ndarray) -> np.ndarray:
        """Return the frame as a crop, uint8 ``(size, size, 3)``."""
        # Where the frame is larger, whole areas are averaged: no pixel is skipped.
        smaller = max(self.frame_wh) > self.size
        way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(frame, (self.size, self.size), interpolation=way))

    def _scale(self, like: Array) -> Array:
        x, y = (self.size / side for side in self.frame_wh)
        if isinstance(like, np.ndarray):
            return np.array([x, y, x, y], dtype=like.dtype)
        return like.new_tensor([x, y, x, y])


class View(Protocol):
    """A frame that can be looked at through a window: decoded from disk, or drawn on demand."""

    box_xyxy: np.ndarray
    """Target box in this frame, shape ``(4,)``, px."""

    def crop(self, window: Window) -> np.ndarray:
        """Return what the window shows, uint8 RGB ``(size, size, 3)``."""
        ...


def exemplar_side(box_wh: tuple[float, float], context_amount: float = 0.5) -> float:
    """Return the side of the exemplar window, px.

    The margin p is ``context_amount * (w + h)``; the square has the area ``(w + p)(h + p)``.

    Source: Bertinetto et al. 2016, Section 2.2, with ``context_amount = 1/2`` as p = (w + h) / 4 on
    each side.
    """
    width, height = box_wh
    margin = context_amount * (width + height)
    return sqrt((width + margin) * (height + margin))


def exemplar_window(box_xyxy: np.ndarray, size: int, context_amount: float = 0.5) -> Window:
    """Return the exemplar window of ``size`` crop px around a box, shape ``(4,)``."""
    return search_window(box_xyxy, size, size, context_amount)


def search_window(
    box_xyxy: np.ndarray, search_size: int, exemplar_size: int, context_amount: float = 0.5
) -> Window:
    """Return the search window around a box, shape ``(4,)``.

    It shows the target at the exemplar's scale: its side is the exemplar's times
    ``search_size / exemplar_size``.
    """
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    side = exemplar_side((x2 - x1, y2 - y1), context_amount) * search_size / exemplar_size
    return Window((x1 + x2) / 2, (y1 + y2) / 2, side, search_size)


def to_frame_each(windows: Sequence[Window], boxes_in_crop_xyxy: np.ndarray) -> np.ndarray:
    """Map one box of each window to frame pixels, as :meth:`Window.to_frame` does, ``(B, 4)``."""
    scales = np.array([window.scale for window in windows])
    origins = np.array([window.left_top * 2 for window in windows])  # (B, 4)
    boxes: np.ndarray = boxes_in_crop_xyxy / scales[:, None] + origins
    return boxes


def crop(frame: np.ndarray, window: Window, fill: np.ndarray | None = None) -> np.ndarray:
    """Return what a window shows of a frame; outside the frame it shows ``fill``.

    Args:
        frame: Frame, uint8 RGB, shape ``(H, W, 3)``.
        window: Where to look; may lie partly or wholly outside.
        fill: Colour outside the frame, shape ``(3,)``; the frame's mean colour by default.

    Returns:
        Crop, uint8, shape ``(size, size, 3)``.
    """
    step = 1.0 / window.scale  # frame px per crop px
    return shown(frame, window.left_top, (step, step), (window.size, window.size), fill)


def crop_box(
    frame: np.ndarray,
    box_xyxy: np.ndarray,
    size: int,
    padding: int,
    fill: np.ndarray | None = None,
) -> np.ndarray:
    """Return a box and a margin around it as a square, stretched where the box is none.

    Source: Nam & Han, MDNet, CVPR 2016; py-MDNet (107 px with 16 px of padding).

    Args:
        frame: Frame, uint8 RGB, shape ``(H, W, 3)``.
        box_xyxy: The box, shape ``(4,)``, px.
        size: Side of the crop, crop px.
        padding: Margin on each side, crop px.
        fill: Colour outside the frame, shape ``(3,)``; the frame's mean colour by default.

    Returns:
        Crop, uint8, shape ``(size, size, 3)``; the box fills its middle ``size - 2 * padding`` px.
    """
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    inner = size - 2 * padding
    step_x, step_y = (x2 - x1) / inner, (y2 - y1) / inner
    corner = (x1 - padding * step_x, y1 - padding * step_y)
    return shown(frame, corner, (step_x, step_y), (size, size), fill)


def mean_colour(frame: np.ndarray) -> np.ndarray:
    """Return the mean colour of a frame, shape ``(3,)``, in [0, 255]."""
    return np.array(cv2.mean(frame)[:3])


def shown(
    frame: np.ndarray,
    corner: tuple[float, float],
    steps: tuple[float, float],
    size_wh: tuple[int, int],
    fill: np.ndarray | None = None,
) -> np.ndarray:
    """Return a part of a frame, stretched: from a corner on to the right and below.

    Args:
        frame: Frame, uint8 RGB, shape ``(H, W, 3)``.
        corner: Left and upper edge of the part, frame px; may lie outside.
        steps: Frame px per px of the result, along x and y.
        size_wh: Width and height of the result, px.
        fill: Colour outside the frame, shape ``(3,)``; the frame's mean colour by default.

    Returns:
        The part, uint8 RGB.
    """
    (left, top), (step_x, step_y), (columns, rows) = corner, steps, size_wh
    shrink_x, shrink_y = max(1, int(step_x)), max(1, int(step_y))
    # Only the part of the frame that is shown is touched, wider by what interpolation reaches: a
    # pixel before it, and one more block of pixels behind it.
    x1, y1 = int(np.floor(left)) - 1, int(np.floor(top)) - 1
    x2 = int(np.ceil(left + step_x * columns)) + shrink_x
    y2 = int(np.ceil(top + step_y * rows)) + shrink_y
    height, width = frame.shape[:2]
    if fill is None:  # the mean takes a look at every pixel, so only where it can show
        inside = x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height
        fill = np.zeros(3) if inside else mean_colour(frame)
    x1, y1, x2, y2 = max(0, x1), max(0, y1), min(width, x2), min(height, y2)
    if x1 >= x2 or y1 >= y2:
        return np.full((rows, columns, 3), np.rint(fill), dtype=np.uint8)
    patch = frame[y1:y2, x1:x2]
    if shrink_x > 1 or shrink_y > 1:
        # Bilinear sampling alone would skip pixels: average whole blocks first.
        patch = _shrink(patch, shrink_x, shrink_y)
    # Pixel centres: crop pixel u (centre u + 0.5) shows frame coordinate left + (u + 0.5) * step.
    to_patch = np.array(
        [
            [step_x / shrink_x, 0.0, (left - x1 + 0.5 * step_x) / shrink_x - 0.5],
            [0.0, step_y / shrink_y, (top - y1 + 0.5 * step_y) / shrink_y - 0.5],
        ]
    )
    # OpenCV 5 warps four channels in half the time of three, to the same values.
    warped = cv2.warpAffine(
        cv2.cvtColor(patch, cv2.COLOR_RGB2RGBA),
        to_patch,
        size_wh,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(*map(float, fill), 0.0),
    )
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB))


def _shrink(patch: np.ndarray, factor_x: int, factor_y: int) -> np.ndarray:
    """Average blocks of pixels; the last block of a row or column may be partial."""
    height, width = -(-patch.shape[0] // factor_y), -(-patch.shape[1] // factor_x)
    pad_y, pad_x = height * factor_y - patch.shape[0], width * factor_x - patch.shape[1]
    if pad_x or pad_y:
        patch = cv2.copyMakeBorder(patch, 0, pad_y, 0, pad_x, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA))
