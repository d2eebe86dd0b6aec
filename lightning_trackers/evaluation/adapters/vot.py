"""A tracker of this project inside the VOT toolkit: over TraX, or in a Python process of its own.

Regions go in and out in 0-based px, as the toolkit's Python version has them: a rectangle's first
pixel is (x, y) where its outer corner is here.

Source: TraX protocol version 4 and vot-trax 4.0.2 (``trax.Server``); vot-toolkit 0.9.0,
``vot/tracker/python.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from lightning_trackers.boxes import xywh_to_xyxy, xyxy_to_xywh
from lightning_trackers.evaluation.tracker import LiveTracker, Prediction, Tracker

ReadFrame = Callable[[str], np.ndarray]
"""Decodes an image file, uint8 RGB ``(H, W, 3)``."""


def serve_trax(tracker: Tracker[Any], read_frame: ReadFrame, name: str) -> None:
    """Answer a TraX client, until it quits, over standard input and output or ``TRAX_SOCKET``.

    Args:
        tracker: Any tracker of this project.
        read_frame: How image files are read.
        name: What the tracker calls itself.

    Raises:
        ImportError: If ``vot-trax`` is not installed.
    """
    try:
        trax: Any = import_module("trax")
    except ImportError as error:
        raise ImportError(
            "vot-trax is not installed; pip install vot-trax (see docs/adapters.md)"
        ) from error
    live = LiveTracker(tracker)
    formats = [trax.Region.RECTANGLE], [trax.Image.PATH]
    with trax.Server(*formats, tracker_name=name) as server:
        while True:
            request = server.wait()
            if request.type in (trax.TraxStatus.QUIT, trax.TraxStatus.ERROR):
                return
            frame = read_frame(next(iter(request.image.values())).path())
            if request.type == trax.TraxStatus.INITIALIZE:
                region = request.objects[0][0]
                box_xyxy = rectangle_xyxy(region.bounds())
                live.init(frame, box_xyxy)
                prediction = Prediction(box_xyxy, 1.0)
            else:
                prediction = live.update(frame)
            rectangle = trax.Rectangle.create(*_xywh(prediction))
            server.status([(rectangle, {"confidence": prediction.score})])


class InProcess:
    """The object that the toolkit's ``protocol = python`` asks for.

    Args:
        tracker: Any tracker of this project.
        read_frame: How image files are read.
    """

    multiobject = False

    def __init__(self, tracker: Tracker[Any], read_frame: ReadFrame) -> None:
        self._live = LiveTracker(tracker)
        self._read_frame = read_frame

    def init(self, frame: str, new: tuple[Any, Any]) -> tuple[tuple[float, ...], dict[str, float]]:
        """Begin to follow a target.

        Args:
            frame: Image file.
            new: The target's region, as the toolkit encodes it, and its properties.

        Returns:
            Rectangle x, y, width, height, and properties.

        Raises:
            ValueError: If the region is neither a rectangle nor a polygon, or there is more than
                one colour channel file.
        """
        box_xyxy = rectangle_xyxy(new[0])
        self._live.init(self._read_frame(_one_file(frame)), box_xyxy)
        return _xywh(Prediction(box_xyxy, 1.0)), {"confidence": 1.0}

    def update(self, frame: str) -> tuple[tuple[float, ...], dict[str, float]]:
        """Return the target's rectangle in the next frame, and the confidence in it."""
        prediction = self._live.update(self._read_frame(_one_file(frame)))
        return _xywh(prediction), {"confidence": float(prediction.score)}


def rectangle_xyxy(region: Sequence[Any]) -> np.ndarray:
    """Return the smallest rectangle around a region, xyxy, float64 ``(4,)``, px.

    Args:
        region: x, y, width, height; or at least three points (x, y).

    Raises:
        ValueError: If it is neither.
    """
    values = np.asarray(region, dtype=np.float64)
    if values.shape == (4,):
        return np.asarray(xywh_to_xyxy(values))
    if values.ndim == 2 and values.shape[1] == 2 and len(values) >= 3:
        return np.concatenate([values.min(axis=0), values.max(axis=0)])
    raise ValueError(
        f"region: expected x, y, width, height or points (x, y), got shape {values.shape}; set "
        "convert = rectangle in trackers.ini"
    )


def _one_file(frame: str | Mapping[str, str]) -> str:
    if isinstance(frame, str):
        return frame
    if "color" not in frame:
        raise ValueError(f"frame: expected a colour channel, got {sorted(frame)}")
    return frame["color"]


def _xywh(prediction: Prediction) -> tuple[float, ...]:
    return tuple(float(v) for v in xyxy_to_xywh(np.asarray(prediction.box_xyxy, np.float64)))
