"""Collect: which boxes a target learns from, and how long their features are remembered.

Source: Nam & Han, MDNet, CVPR 2016, Section 4.1 and 4.2; py-MDNet ``tracking/options.yaml``.
"""

from collections import deque
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lightning_trackers.box_sampling import (
    MIN_SIDE,
    boxes_by_overlap,
    gaussian_boxes,
    uniform_boxes,
)
from lightning_trackers.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from lightning_trackers.online.updating import Pool


@dataclass(frozen=True)
class SampleSettings:
    """How samples are drawn; the defaults are py-MDNet's.

    Translations and scales are those of :func:`~lightning_trackers.box_sampling.gaussian_boxes`.

    Args:
        initial_positives: Positive samples of the first frame.
        initial_negatives: Negative samples of the first frame.
        positives: Positive samples of a later frame.
        negatives: Negative samples of a later frame.
        positive_overlap: Least overlap (IoU) of a positive sample with the target.
        initial_negative_overlap: Largest overlap of a negative one in the first frame.
        negative_overlap: Largest overlap of a negative one in a later frame.
        positive_translation: Of positive samples, drawn near the target.
        positive_scale: As before.
        initial_negative_translation: Of negative samples of the first frame, drawn evenly.
        initial_negative_scale: As before.
        negative_translation: Of negative samples of a later frame, drawn evenly.
        negative_scale: As before.
        regression_samples: Samples of the box regression, drawn evenly.
        regression_overlap: Their least overlap.
        regression_translation: As before.
        regression_scale: As before.
        regression_aspect: Largest factor of the width and, inversely, of the height.
        initial_anywhere: Share of the first frame's negative samples that come from the whole frame.

    Raises:
        ValueError: If that share is not in [0, 1].
    """

    initial_positives: int = 500
    initial_negatives: int = 5000
    positives: int = 50
    negatives: int = 200
    positive_overlap: float = 0.7
    initial_negative_overlap: float = 0.5
    negative_overlap: float = 0.3
    positive_translation: float = 0.1
    positive_scale: float = 1.3
    initial_negative_translation: float = 1.0
    initial_negative_scale: float = 1.6
    negative_translation: float = 2.0
    negative_scale: float = 1.3
    regression_samples: int = 1000
    regression_overlap: float = 0.6
    regression_translation: float = 0.3
    regression_scale: float = 1.6
    regression_aspect: float = 1.1
    initial_anywhere: float = 0.5

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 <= self.initial_anywhere <= 1:
            raise ValueError(
                f"samples: expected initial_anywhere in [0, 1], got {self.initial_anywhere}"
            )

    def positive_boxes(
        self, rng: np.random.Generator, box_xyxy: np.ndarray, count: int, wh: tuple[int, int]
    ) -> np.ndarray:
        """Draw boxes of the target; none where the frame or the least side allow none, ``(n, 4)``."""
        draw = partial(
            gaussian_boxes,
            rng,
            box_xyxy,
            translation=self.positive_translation,
            scale=self.positive_scale,
            frame_wh=wh,
        )
        return boxes_by_overlap(draw, box_xyxy, count, low=self.positive_overlap)

    def initial_negative_boxes(
        self, rng: np.random.Generator, box_xyxy: np.ndarray, wh: tuple[int, int]
    ) -> np.ndarray:
        """Draw boxes beside the target of the first frame, shape ``(n, 4)``."""
        near = partial(
            uniform_boxes,
            rng,
            box_xyxy,
            translation=self.initial_negative_translation,
            scale=self.initial_negative_scale,
            frame_wh=wh,
        )
        anywhere = partial(whole_frame_boxes, rng, box_xyxy, frame_wh=wh)
        elsewhere = round(self.initial_negatives * self.initial_anywhere)
        counts = (self.initial_negatives - elsewhere, elsewhere)
        high = self.initial_negative_overlap
        return np.concatenate(
            [
                boxes_by_overlap(draw, box_xyxy, count, high=high)
                for draw, count in zip((near, anywhere), counts, strict=True)
            ]
        )

    def negative_boxes(
        self,
        rng: np.random.Generator,
        box_xyxy: np.ndarray,
        wh: tuple[int, int],
        overlap: float | None = None,
    ) -> np.ndarray:
        """Draw boxes beside the target, shape ``(n, 4)``."""
        draw = partial(
            uniform_boxes,
            rng,
            box_xyxy,
            translation=self.negative_translation,
            scale=self.negative_scale,
            frame_wh=wh,
        )
        high = self.negative_overlap if overlap is None else overlap
        return boxes_by_overlap(draw, box_xyxy, self.negatives, high=high)

    def regression_boxes(
        self, rng: np.random.Generator, box_xyxy: np.ndarray, wh: tuple[int, int]
    ) -> np.ndarray:
        """Draw boxes to learn the box regression from, shape ``(n, 4)``."""
        draw = partial(
            uniform_boxes,
            rng,
            box_xyxy,
            translation=self.regression_translation,
            scale=self.regression_scale,
            aspect=self.regression_aspect,
            frame_wh=wh,
        )
        low = self.regression_overlap
        return boxes_by_overlap(draw, box_xyxy, self.regression_samples, low=low)


def whole_frame_boxes(
    rng: np.random.Generator, box_xyxy: np.ndarray, count: int, *, frame_wh: tuple[int, int]
) -> np.ndarray:
    """Draw boxes of a box's size from all over the frame, no place twice.

    Places are those of a regular grid with at least ``4 * count`` points, over which the boxes stay
    in the frame.

    Args:
        rng: Source of chance.
        box_xyxy: The box whose size they have, shape ``(4,)``, px.
        count: Number of boxes.
        frame_wh: Width and height of the frame, px.

    Returns:
        Boxes, float64, shape ``(count, 4)``.
    """
    limit = np.array(frame_wh, dtype=np.float64)
    wh = xyxy_to_cxcywh(np.asarray(box_xyxy, dtype=np.float64))[2:]
    wh = np.clip(wh, MIN_SIDE, np.maximum(MIN_SIDE, limit - MIN_SIDE))
    side = int(np.ceil(2 * np.sqrt(count)))
    places = rng.permutation(side * side)[:count]
    share = np.stack([places % side, places // side], axis=1) / max(1, side - 1)  # in [0, 1]
    low, high = np.minimum(wh, limit) / 2, limit - np.minimum(wh, limit) / 2
    centres = low + share * (high - low)
    boxes: np.ndarray = cxcywh_to_xyxy(np.concatenate([centres, np.tile(wh, (count, 1))], axis=1))
    return boxes


class SampleMemory:
    """The features of the samples of the last frames.

    Args:
        long: Frames whose positive samples are remembered.
        short: Frames whose negative samples are remembered, and whose positive ones serve a
            short-term update.

    Raises:
        ValueError: If not ``1 <= short <= long``.
    """

    def __init__(self, long: int = 100, short: int = 30) -> None:
        if not 1 <= short <= long:
            raise ValueError(f"memory: expected 1 <= short <= long, got short={short} long={long}")
        self.short = short
        self._positives: deque[Tensor] = deque(maxlen=long)
        self._negatives: deque[Tensor] = deque(maxlen=short)

    def add(self, positives: Tensor, negatives: Tensor) -> None:
        """Remember the features of a frame's samples, ``(n, d)``; a frame may have none of a kind."""
        if len(positives):
            self._positives.append(positives)
        if len(negatives):
            self._negatives.append(negatives)

    def pool(self, *, recent: bool = False) -> Pool | None:
        """Return what can be learnt from, of the last ``short`` frames if ``recent``; None if nothing."""
        if not (self._positives and self._negatives):
            return None
        positives = list(self._positives)[-self.short if recent else 0 :]
        return Pool(torch.cat(positives), torch.cat(list(self._negatives)))

    def __len__(self) -> int:
        """Return the number of samples."""
        return sum(len(x) for x in (*self._positives, *self._negatives))
