"""Photometric augmentation of crops.

Shift and scale are not here: they move the window through which a view is looked at (``pairs.py``),
so a crop is resampled once and its box stays exact even where it leaves the crop.

Grey and colour changes are affine in RGB, so that one matrix does all of them in one pass over the
crop. Everything else is an albumentations transform: the blur, and whatever a config adds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import albumentations as alb
import cv2
import numpy as np

# Of brightness, contrast and saturation: factors from 0.7 to 1.3; of hue: turns of the colour wheel.
_AMPLITUDES = np.array([0.3, 0.3, 0.3, 0.03])

Order = Sequence[int] | np.ndarray

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as OpenCV's grey
# Colour changes are matrices (3, 4), the last column of which is added.
_UNCHANGED = np.eye(3, 4)
_TO_GREY = np.column_stack([np.tile(_LUMA, (3, 1)), np.zeros(3)])


@dataclass(frozen=True)
class CropAugmentation:
    """How one crop of a pair is varied; probabilities and amplitudes of the published recipes.

    Source: pysot ``siamrpn_alex_dwxcorr_16gpu`` (template shift 4, scale .05, colour 1; search shift
    64, scale .18, blur .2, colour 1).
    Deviation: scale changes both sides alike (pysot draws one factor per axis), because a crop is a
    square window of its frame.

    Args:
        shift: Largest displacement of the crop along each axis, crop px.
        scale: Largest relative change of the crop's scale.
        blur: Probability of a blur.
        blur_limit: Largest kernel of the blur, px, odd.
        colour: Probability of a change of brightness, contrast, hue and saturation.
        grey: Probability of a grey crop.
        transforms: Albumentations transforms of pixels, applied last, each with its own ``p``.

    Raises:
        ValueError: If a probability or an amplitude is out of range.
    """

    shift: float = 0.0
    scale: float = 0.0
    blur: float = 0.0
    blur_limit: int = 7
    colour: float = 0.0
    grey: float = 0.0
    transforms: Sequence[alb.ImageOnlyTransform] = ()

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("blur", "colour", "grey"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation: expected {name} in [0, 1], got {self}")
        if self.shift < 0 or not 0 <= self.scale < 1:
            raise ValueError(f"augmentation: expected shift >= 0 and scale in [0, 1), got {self}")


class Photometric:
    """The part of an augmentation that changes pixels and leaves boxes alone.

    Args:
        options: What to vary.
    """

    def __init__(self, options: CropAugmentation) -> None:
        self._options = options
        limits = (3, options.blur_limit)
        # Whether to blur is drawn here, so that most crops pay nothing for it.
        self._blur = alb.Compose(
            [alb.OneOf([alb.GaussianBlur(blur_limit=limits), alb.MotionBlur(blur_limit=limits)], 1)]
        )
        self._more = alb.Compose(list(options.transforms))

    def __call__(self, crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a varied crop, uint8 ``(S, S, 3)``; the one given is left as it is."""
        grey, colour, blur = rng.random(3) < (
            self._options.grey,
            self._options.colour,
            self._options.blur,
        )
        if grey or colour:
            matrix = _TO_GREY if grey else _UNCHANGED
            if colour:
                matrix = colour_jitter(matrix, np.array(cv2.mean(crop)[:3]), *_drawn(rng))
            crop = np.asarray(cv2.transform(crop, matrix))
        if blur:
            crop = _applied(self._blur, crop, rng)
        if self._more.transforms:
            crop = _applied(self._more, crop, rng)
        return crop


def colour_jitter(
    matrix: np.ndarray,
    mean: np.ndarray,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    order: Order,
) -> np.ndarray:
    """Return a colour change followed by one of brightness, contrast, saturation and hue.

    These are the changes of ``albumentations.ColorJitter``: brightness scales, contrast blends with
    the crop's mean grey and saturation with each pixel's grey. Because they are one map here, values
    are rounded and cut off at 0 and 255 once, at the end, and not after each of them.

    Deviation: hue turns colours about the axis of greys in RGB, where albumentations turns HSV's hue,
    because that is linear; for small angles it changes pixels by as much on average. ColorJitter's
    passes cost 0.7 ms a pair, a fifth of the whole, and this a sixth of that.

    Args:
        matrix: What is done before, shape ``(3, 4)``; the last column is added.
        mean: Mean colour of the crop as it is, shape ``(3,)``.
        brightness: Factor.
        contrast: Factor.
        saturation: Factor.
        hue: Turns of the colour wheel.
        order: In which the four follow each other, a permutation of 0 to 3 as they stand here.

    Returns:
        All of it, shape ``(3, 4)``.
    """
    matrix = matrix.copy()
    for step in order:
        if step == 0:
            matrix *= brightness
        elif step == 1:
            grey = _LUMA @ (matrix[:, :3] @ mean + matrix[:, 3])
            matrix *= contrast
            matrix[:, 3] += (1 - contrast) * grey
        elif step == 2:
            matrix = saturation * matrix + (1 - saturation) * (_LUMA @ matrix)
        else:
            matrix = hue_turn(hue) @ matrix
    return matrix


def hue_turn(turns: float) -> np.ndarray:
    """Return the matrix ``(3, 3)`` that turns RGB about the axis of greys; 1/3 maps red to green."""
    cos, sin = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns) / np.sqrt(3)
    same, next_, last = (1 + 2 * cos) / 3, (1 - cos) / 3 + sin, (1 - cos) / 3 - sin
    return np.array([[same, last, next_], [next_, same, last], [last, next_, same]])


def _drawn(rng: np.random.Generator) -> tuple[float, float, float, float, Order]:
    brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4) * _AMPLITUDES
    return 1 + brightness, 1 + contrast, 1 + saturation, hue, rng.permutation(4)


def _applied(pipeline: alb.Compose, crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pipeline.set_random_seed(int(rng.integers(2**31)))
    image: np.ndarray = pipeline(image=crop)["image"]
    return image
