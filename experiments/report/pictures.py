"""The worst frames of each sequence and tracker, with ground truth and prediction drawn."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from callbacks.visualisation import WHITE, DrawnBox, draw_boxes
from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

WIDTH = 300  # px
DRAWN_LARGER = 2
"""Boxes are drawn on a picture so much larger, as lines and their rims are at least 1 px wide."""
JPEG_QUALITY = 72
MOST_PICTURES = 150
"""Pictures of a benchmark, so that the page stays small, the same number for each tracker."""


@dataclass(frozen=True)
class WorstFrame:
    """A frame that a tracker got wrong.

    Args:
        frame: Number of the frame, the first is 1.
        overlap: Overlap of prediction and ground truth.
        source: The picture as a ``data:`` address.
    """

    frame: int
    overlap: float
    source: str


@dataclass(frozen=True)
class WorstFrames:
    """The worst frames of one sequence under one tracker.

    Args:
        sequence: Name of the sequence.
        tracker: Name of the tracker.
        mean_overlap: Mean overlap over the frames whose ground truth counts.
        frames: The worst frames in order of time.
    """

    sequence: str
    tracker: str
    mean_overlap: float
    frames: tuple[WorstFrame, ...]


def worst_frames(
    benchmark: Benchmark,
    results: Mapping[str, Mapping[str, Any]],
    colours: Mapping[str, str],
    count: int = 3,
) -> list[WorstFrames]:
    """Return the worst frames, tracker by tracker, each one's worst sequences first.

    Frames of a sequence are kept apart, as neighbours show the same mistake. A sequence whose
    frames are not at hand gives none, nor does a result without one box a frame.

    Args:
        benchmark: The benchmark; only the chosen frames are decoded.
        results: Result of each sequence by tracker and sequence.
        colours: Colour of each tracker's box, hexadecimal RGB.
        count: Frames of each sequence.
    """
    chosen = []
    for tracker, by_sequence in results.items():
        found = []
        for sequence in benchmark:
            overlaps = frame_overlaps(sequence, by_sequence.get(sequence.name))
            if overlaps is not None and np.isfinite(overlaps).any():
                found.append((float(np.nanmean(overlaps)), sequence, overlaps))
        found.sort(key=lambda entry: entry[0])
        for mean, sequence, overlaps in found[: max(1, MOST_PICTURES // (count * len(results)))]:
            boxes_xyxy = by_sequence[sequence.name].boxes_xyxy
            frames = []
            for t in spread_minima(overlaps, count):
                source = _picture(sequence, t, boxes_xyxy[t], colours[tracker])
                if source:
                    frames.append(WorstFrame(t + 1, float(overlaps[t]), source))
            if frames:
                chosen.append(WorstFrames(sequence.name, tracker, mean, tuple(frames)))
    return chosen


def frame_overlaps(sequence: TrackingSequence, result: Any) -> np.ndarray | None:
    """Return the overlap of each frame, ``(T,)``; NaN where no prediction or ground truth counts.

    None where the result does not hold one box a frame.
    """
    boxes_xyxy = getattr(result, "boxes_xyxy", None)
    if boxes_xyxy is None or boxes_xyxy.shape != sequence.boxes_xyxy.shape:
        return None
    overlaps = np.asarray(iou_xyxy(boxes_xyxy, sequence.boxes_xyxy), dtype=np.float64)
    counted = sequence.valid & np.isfinite(boxes_xyxy).all(axis=1)
    counted[0] = False  # the first box was given
    return np.where(counted, overlaps, np.nan)


def spread_minima(overlaps: np.ndarray, count: int) -> list[int]:
    """Return the frames of least overlap in order of time, a tenth of the sequence apart."""
    apart = max(1, len(overlaps) // 10)
    left = overlaps.copy()
    chosen: list[int] = []
    while len(chosen) < count and np.isfinite(left).any():
        t = int(np.nanargmin(left))
        chosen.append(t)
        left[max(0, t - apart + 1) : t + apart] = np.nan
    return sorted(chosen)


def _picture(sequence: TrackingSequence, t: int, box_xyxy: np.ndarray, colour: str) -> str:
    """Return a small JPEG of a frame as a ``data:`` address; empty if the frame is not at hand."""
    try:
        frame = np.asarray(sequence.frames[t])
    except FileNotFoundError:
        return ""
    width, height = WIDTH, max(1, round(frame.shape[0] * WIDTH / frame.shape[1]))
    size_wh = (DRAWN_LARGER * width, DRAWN_LARGER * height)
    scale = size_wh[0] / frame.shape[1]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(frame, size_wh, interpolation=interpolation))
    rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    drawn = draw_boxes(
        resized,
        [
            DrawnBox(sequence.boxes_xyxy[t] * scale, colour=WHITE),
            DrawnBox(box_xyxy * scale, colour=(rgb[0], rgb[1], rgb[2])),
        ],
    )
    drawn = np.asarray(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA))
    bgr = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode('ascii')}"
