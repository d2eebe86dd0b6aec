"""Boxes drawn around a target, for training samples and for candidates of online trackers.

Source: Nam & Han, Learning Multi-Domain Convolutional Neural Networks for Visual Tracking, CVPR 2016,
Section 4.2 (Gaussian candidates and samples by overlap); py-MDNet ``SampleGenerator`` (uniform
samples, limits of centre and size).
"""

from collections.abc import Callable, Sequence

import numpy as np

from lightning_trackers.boxes import cxcywh_to_xyxy, iou_xyxy, xyxy_to_cxcywh

MIN_SIDE = 10.0  # px; py-MDNet also keeps boxes this much smaller than the frame
_ROUNDS = 20


def gaussian_boxes(
    rng: np.random.Generator,
    box_xyxy: np.ndarray,
    count: int,
    *,
    translation: float,
    scale: float,
    aspect: float = 1.0,
    frame_wh: tuple[int, int] | None = None,
) -> np.ndarray:
    """Draw boxes around a box, most of them near it.

    With g from a normal distribution of standard deviation 1/2, cut off at -1 and 1, the centre moves
    by ``translation`` times the mean of width and height times g along each axis, both sides are
    multiplied by ``scale`` to the power g, and the shape changes by ``aspect`` to the power g.

    Args:
        rng: Source of chance.
        box_xyxy: The box, shape ``(4,)``, px.
        count: Number of boxes.
        translation: Largest displacement, relative to the mean of width and height.
        scale: Largest factor of the size.
        aspect: Largest factor of the width and, inversely, of the height.
        frame_wh: If given, sides are at least 10 px and at most the frame's less 10 px, and centres
            lie in the frame.

    Returns:
        Boxes, float64, shape ``(count, 4)``.
    """

    def g(columns: int) -> np.ndarray:
        return np.clip(0.5 * rng.standard_normal((count, columns)), -1, 1)

    return _moved(box_xyxy, g(2) * translation, scale ** g(1), aspect ** g(1), frame_wh)


def uniform_boxes(
    rng: np.random.Generator,
    box_xyxy: np.ndarray,
    count: int,
    *,
    translation: float,
    scale: float,
    aspect: float = 1.0,
    frame_wh: tuple[int, int] | None = None,
) -> np.ndarray:
    """Draw boxes around a box, all displacements and powers equally likely.

    As :func:`gaussian_boxes` with g uniform in [-1, 1].
    """

    def g(columns: int) -> np.ndarray:
        return rng.uniform(-1, 1, (count, columns))

    return _moved(box_xyxy, g(2) * translation, scale ** g(1), aspect ** g(1), frame_wh)


def radial_boxes(
    box_xyxy: np.ndarray, radius: float, *, steps: int, angles: int, scales: Sequence[float]
) -> np.ndarray:
    """Return boxes on circles around a box, for each scale: its centre, then circle by circle.

    Source: Tao et al., Siamese Instance Search for Tracking, CVPR 2016, Section 3.2 ("radius sampling").

    Args:
        box_xyxy: The box, shape ``(4,)``, px.
        radius: Of the largest circle, px.
        steps: Circles, evenly spaced.
        angles: Boxes on a circle, the first one to the right.
        scales: Factors of both sides.

    Returns:
        Boxes, float64, shape ``(len(scales) * (1 + steps * angles), 4)``.
    """
    box = xyxy_to_cxcywh(np.asarray(box_xyxy, dtype=np.float64))
    turn = 2 * np.pi * np.arange(angles) / angles
    circles = radius * np.arange(1, steps + 1) / max(1, steps)
    around = circles[:, None, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)  # (R, A, 2)
    offsets = np.concatenate([np.zeros((1, 2)), around.reshape(-1, 2)])  # (1 + R * A, 2)
    sizes = np.repeat(np.asarray(scales, dtype=np.float64), len(offsets))[:, None] * box[2:]
    centres = box[:2] + np.tile(offsets, (len(scales), 1))
    boxes: np.ndarray = cxcywh_to_xyxy(np.concatenate([centres, sizes], axis=1))
    return boxes


def boxes_by_overlap(
    draw: Callable[[int], np.ndarray],
    box_xyxy: np.ndarray,
    count: int,
    low: float = 0.0,
    high: float = 1.0,
) -> np.ndarray:
    """Keep drawing boxes until enough of them overlap a box as wished.

    Args:
        draw: Returns as many boxes as asked for, shape ``(n, 4)``.
        box_xyxy: The box, shape ``(4,)``, px.
        count: Number of boxes wanted.
        low: Smallest overlap (IoU) with the box.
        high: Largest overlap.

    Returns:
        Boxes, shape ``(n, 4)``; fewer than ``count`` where twenty rounds do not give as many.
    """
    found = np.empty((0, 4))
    for _ in range(_ROUNDS):
        drawn = draw(2 * count)
        overlap = iou_xyxy(drawn, np.asarray(box_xyxy, dtype=drawn.dtype))
        found = np.concatenate([found, drawn[(overlap >= low) & (overlap <= high)]])
        if len(found) >= count:
            break
    return found[:count]


def _moved(
    box_xyxy: np.ndarray,
    offset: np.ndarray,
    size: np.ndarray,
    shape: np.ndarray,
    frame_wh: tuple[int, int] | None,
) -> np.ndarray:
    box = xyxy_to_cxcywh(np.asarray(box_xyxy, dtype=np.float64))
    centre = box[:2] + offset * box[2:].mean()
    wh = box[2:] * size * np.concatenate([shape, 1 / shape], axis=1)
    if frame_wh is not None:
        limit = np.array(frame_wh, dtype=np.float64)
        wh = np.clip(wh, MIN_SIDE, np.maximum(MIN_SIDE, limit - MIN_SIDE))
        centre = np.clip(centre, 0, limit)
    boxes: np.ndarray = cxcywh_to_xyxy(np.concatenate([centre, wh], axis=1))
    return boxes
