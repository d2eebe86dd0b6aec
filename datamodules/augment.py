"""Photometric augmentation of crops.

Shift and scale are not here: they move the window through which a view is looked at (``pairs.py``),
so a crop is resampled once and its box stays exact even where it leaves the crop.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import albumentations as alb
import numpy as np


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

    Raises:
        ValueError: If a probability or an amplitude is out of range.
    """

    shift: float = 0.0
    scale: float = 0.0
    blur: float = 0.0
    blur_limit: int = 7
    colour: float = 0.0
    grey: float = 0.0

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
        exemplar: Augmentation of the exemplar crop.
        search: Augmentation of the search crop.
    """

    def __init__(self, exemplar: CropAugmentation, search: CropAugmentation) -> None:
        self._pipelines: Mapping[str, alb.Compose] = {
            "exemplar": _pipeline(exemplar),
            "search": _pipeline(search),
        }

    def __call__(self, crop: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
        """Return a varied crop, uint8 ``(S, S, 3)``; ``kind`` is ``exemplar`` or ``search``."""
        pipeline = self._pipelines[kind]
        if not pipeline.transforms:
            return crop
        pipeline.set_random_seed(int(rng.integers(2**31)))
        image: np.ndarray = pipeline(image=crop)["image"]
        return image


def _pipeline(options: CropAugmentation) -> alb.Compose:
    transforms: list[alb.BasicTransform] = []
    if options.grey:
        transforms.append(alb.ToGray(p=options.grey))
    if options.colour:
        transforms.append(
            alb.ColorJitter(
                brightness=(0.7, 1.3),
                contrast=(0.7, 1.3),
                saturation=(0.7, 1.3),
                hue=(-0.03, 0.03),
                p=options.colour,
            )
        )
    if options.blur:
        transforms.append(
            alb.OneOf(
                [
                    alb.GaussianBlur(blur_limit=(3, options.blur_limit)),
                    alb.MotionBlur(blur_limit=(3, options.blur_limit)),
                ],
                p=options.blur,
            )
        )
    return alb.Compose(transforms)
