"""SINT online: the candidate that is most like the target of the first frame, and nothing learns.

Source: Tao et al., Siamese Instance Search for Tracking, CVPR 2016, Section 3.2; Eq. 1 of Wang et al.,
SINT++, CVPR 2018; constants of the public SINT code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_trackers.box_sampling import radial_boxes
from lightning_trackers.boxes import cxcywh_to_xyxy, iou_xyxy, xyxy_to_cxcywh
from lightning_trackers.crops import Stretch, Window, crop, mean_colour, search_window
from lightning_trackers.evaluation.tracker import (
    Prediction,
    checked_frame,
    checked_frames,
    checked_start_box,
)
from lightning_trackers.methods.sint.network import Regions, SINTNetwork
from lightning_trackers.online.box_regression import BoxRegression
from lightning_trackers.siamese import to_images

Look = Window | Stretch


@dataclass(frozen=True)
class SINTSettings:
    """Constants of the tracker; lengths relative to what the network is shown.

    Args:
        image_size: Side of what the network is shown, px.
        context_amount: What it is shown: a window with this margin around a box of the first one's size,
            relative to width plus height; None shows the whole frame, stretched to a square.
        radius: Of the largest circle of candidates, relative to ``image_size``.
        steps: Circles.
        angles: Candidates on a circle.
        scales: Sizes of the candidates, relative to the first box.
        regression_alpha: Penalty of the box regression; 0 does without it.
        regression_angles: Samples on a circle, for the box regression.
        regression_scales: Their sizes, relative to the first box.
        regression_overlap: Their least overlap (IoU) with it.

    Raises:
        ValueError: If a value is out of range.
    """

    image_size: int = 512
    context_amount: float | None = None
    radius: float = 30 / 512
    steps: int = 10
    angles: int = 10
    scales: Sequence[float] = (0.5**0.5, 1.0, 2**0.5)
    regression_alpha: float = 1.0
    regression_angles: int = 20
    regression_scales: Sequence[float] = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
    regression_overlap: float = 0.6

    def __post_init__(self) -> None:
        """Check the ranges."""
        counts = min(self.image_size, self.steps, self.angles, self.regression_angles)
        if counts < 1 or not (0 < self.radius <= 0.5) or self.regression_alpha < 0:
            raise ValueError(
                "sint: expected sizes and counts of at least 1, radius in (0, 0.5] and "
                f"regression_alpha >= 0, got {self}"
            )
        if self.context_amount is not None and self.context_amount < 0:
            raise ValueError(
                f"sint: expected context_amount >= 0 or None, got {self.context_amount}"
            )
        for scales in (self.scales, self.regression_scales):
            if not scales or min(scales) <= 0:
                raise ValueError(f"sint: expected positive scales, got {scales}")


@dataclass
class SINTState:
    """What is kept of one target.

    Args:
        box_xyxy: The best candidate of the last frame, float64 ``(4,)``, px; without the regression,
            which is reported and not fed back.
        first_wh: Size of the first box, ``(2,)``, px.
        exemplar: The first box's vector, ``(D,)``.
        regression: The target's box regression; None without.
        fill: Colour outside the frame, ``(3,)``.
    """

    box_xyxy: np.ndarray
    first_wh: np.ndarray
    exemplar: Tensor
    regression: BoxRegression | None
    fill: np.ndarray


class SINTTracker:
    """Follows targets by comparing candidates with the first frame alone.

    One pass of the network over a frame serves all its candidates, and one pass serves all targets.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        settings: Constants.
    """

    def __init__(self, network: SINTNetwork, settings: SINTSettings) -> None:
        self.network = network
        self.settings = settings
        self._like = next(network.parameters())

    @torch.inference_mode()
    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> SINTState:
        """Begin to follow a target; see :class:`Tracker`."""
        box = checked_start_box(box_xyxy, checked_frame(frame).shape[:2]).astype(np.float64)
        fill, wh = mean_colour(frame), box[2:] - box[:2]
        look = self._look(frame, box, wh)
        shown = look.to_crop(box)
        samples = self._regression_boxes(shown)
        regions = self._regions(
            [frame], [look], [fill], np.concatenate([shown[None], samples])[None]
        )
        return SINTState(
            box, wh, regions.vectors[0, 0], self._regression(regions, shown, samples), fill
        )

    @torch.inference_mode()
    def step(self, states: Sequence[SINTState], frames: Sequence[np.ndarray]) -> list[Prediction]:
        """Find each target in its next frame; see :class:`Tracker`."""
        checked_frames(states, frames)
        if not states:
            return []
        looks = [
            self._look(frame, state.box_xyxy, state.first_wh)
            for state, frame in zip(states, frames, strict=True)
        ]
        candidates = np.stack(
            [self._candidates(s, look) for s, look in zip(states, looks, strict=True)]
        )  # (B, N, 4)
        regions = self._regions(frames, looks, [state.fill for state in states], candidates)
        exemplars = torch.stack([state.exemplar for state in states])  # (B, D)
        scores = torch.einsum("bnd,bd->bn", regions.vectors, exemplars)  # (B, N)
        best = scores.argmax(1)  # (B,)
        every = torch.arange(len(best), device=best.device)
        features = regions.first_level[every, best]  # (B, d)
        chosen = best.cpu().numpy()
        return [
            self._update(
                state, look, frame.shape[:2], candidates[b, n], features[b], float(scores[b, n])
            )
            for b, (state, look, frame, n) in enumerate(
                zip(states, looks, frames, chosen, strict=True)
            )
        ]

    def _look(self, frame: np.ndarray, box_xyxy: np.ndarray, first_wh: np.ndarray) -> Look:
        s = self.settings
        if s.context_amount is None:
            height, width = frame.shape[:2]
            return Stretch((width, height), s.image_size)
        return search_window(
            _sized(box_xyxy, first_wh), s.image_size, s.image_size, s.context_amount
        )

    def _candidates(self, state: SINTState, look: Look) -> np.ndarray:
        s = self.settings
        first = look.to_crop(_sized(state.box_xyxy, state.first_wh))
        return radial_boxes(
            first, s.radius * s.image_size, steps=s.steps, angles=s.angles, scales=s.scales
        )

    def _regions(
        self,
        frames: Sequence[np.ndarray],
        looks: Sequence[Look],
        fills: Sequence[np.ndarray],
        boxes_xyxy: np.ndarray,
    ) -> Regions:
        """Return what boxes ``(B, N, 4)``, px of the looks, look like."""
        shown = [
            look.shown(frame) if isinstance(look, Stretch) else crop(frame, look, fill)
            for frame, look, fill in zip(frames, looks, fills, strict=True)
        ]
        boxes = torch.from_numpy(boxes_xyxy).to(self._like)
        return self.network.regions(self.network.levels(to_images(shown, self._like)), boxes)

    def _regression_boxes(self, box_xyxy: np.ndarray) -> np.ndarray:
        """Return samples of the box regression around the first box, ``(n, 4)``."""
        s = self.settings
        if not s.regression_alpha:
            return np.empty((0, 4))
        drawn = radial_boxes(
            box_xyxy,
            float((box_xyxy[2:] - box_xyxy[:2]).mean()) / 2,  # further away none overlaps enough
            steps=s.steps,
            angles=s.regression_angles,
            scales=s.regression_scales,
        )
        return drawn[iou_xyxy(drawn, box_xyxy) > s.regression_overlap]

    def _regression(
        self, regions: Regions, box_xyxy: np.ndarray, samples_xyxy: np.ndarray
    ) -> BoxRegression | None:
        if len(samples_xyxy) < 2:
            return None
        features = regions.first_level[0, 1:]  # the first one is the box itself
        return BoxRegression.fit(
            features,
            torch.from_numpy(samples_xyxy).to(features),
            torch.from_numpy(box_xyxy).to(features),
            self.settings.regression_alpha,
            intercept=False,
        )

    def _update(
        self,
        state: SINTState,
        look: Look,
        frame_hw: tuple[int, int],
        candidate_xyxy: np.ndarray,
        features: Tensor,
        score: float,
    ) -> Prediction:
        """Move the state to the best candidate and return the prediction."""
        reported = candidate_xyxy
        if state.regression is not None:
            box = torch.from_numpy(candidate_xyxy)[None].to(features.device)
            reported = state.regression(features[None], box)[0].cpu().numpy()
        height, width = frame_hw
        found = xyxy_to_cxcywh(look.to_frame(candidate_xyxy))
        found[:2] = np.clip(found[:2], 0, (width, height))  # a centre never leaves the frame
        state.box_xyxy = cxcywh_to_xyxy(found)
        return Prediction(look.to_frame(reported).astype(np.float32), min(1.0, max(0.0, score)))


def _sized(box_xyxy: np.ndarray, wh: np.ndarray) -> np.ndarray:
    """Return the box of a size around another one's centre, ``(4,)``."""
    box: np.ndarray = cxcywh_to_xyxy(np.concatenate([xyxy_to_cxcywh(box_xyxy)[:2], wh]))
    return box
