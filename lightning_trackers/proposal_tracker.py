"""Following a target with boxes that a network proposes: penalties, a window, and a damped size.

What the trackers share whose networks give a box and a score at every place of a response map. One
forward pass serves all targets.

Source: Li et al., High Performance Visual Tracking with Siamese Region Proposal Network, CVPR 2018,
Section 4.3 (Eq. 13: scale and ratio penalty, cosine window, linear interpolation of the size).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightning_trackers.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from lightning_trackers.crops import Window, crop, search_window
from lightning_trackers.evaluation.score_maps import ScoreMaps
from lightning_trackers.evaluation.tracker import Prediction, checked_frame
from lightning_trackers.heads import Kernels
from lightning_trackers.siamese import cosine_window, exemplar_images, to_images


@dataclass(frozen=True)
class ProposalSettings:
    """Constants of the tracker.

    Args:
        exemplar_size: Side of the exemplar crop, px.
        search_size: Side of the search crop, px.
        context_amount: Margin around the target, relative to width plus height.
        scale_penalty: Strength k of the penalty on changes of scale and ratio.
        window_influence: Weight of the cosine window against the penalised score.
        size_lr: Share of the new size at penalised score 1.
        min_side: Smallest side of a predicted box, frame px.
    """

    exemplar_size: int = 127
    search_size: int = 287
    context_amount: float = 0.5
    scale_penalty: float = 0.16
    window_influence: float = 0.40
    size_lr: float = 0.30
    min_side: float = 10.0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: If a value is out of range.
        """
        if not self.search_size > self.exemplar_size > 0:
            raise ValueError(
                f"tracker: expected search_size > exemplar_size > 0, got {self.search_size} and "
                f"{self.exemplar_size}"
            )
        for name in ("window_influence", "size_lr"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"tracker: expected {name} in [0, 1], got {getattr(self, name)}")
        for name in ("context_amount", "scale_penalty", "min_side"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(
                    f"tracker: expected a finite {name} >= 0, got {getattr(self, name)}"
                )


@dataclass
class ProposalState:
    """What is kept of one target.

    Args:
        box_xyxy: Last box, float64 ``(4,)``, frame px.
        kernels: Kernels of the exemplar, batch axis of 1.
        fill: Colour outside the frame, ``(3,)``.
    """

    box_xyxy: np.ndarray
    kernels: Kernels
    fill: np.ndarray


class Proposed(NamedTuple):
    """What the network proposes, on the CPU in float32; A boxes at each place.

    Args:
        boxes_cxcywh: Shape ``(B, A, H, W, 4)``, crop px.
        scores: Shape ``(B, A, H, W)``, in [0, 1].
    """

    boxes_cxcywh: Tensor
    scores: Tensor


class ProposalTracker(ABC):
    """Follows targets with a trained network; subclasses say what the network's answers mean.

    Args:
        network: Network prepared by ``siamese.for_inference``, with ``exemplar`` and ``stride``.
        settings: Constants.
    """

    def __init__(self, network: nn.Module, settings: ProposalSettings) -> None:
        self.network = network
        self.settings = settings
        self._like = next(network.parameters())

    @abstractmethod
    def propose(self, images: Tensor, kernels: Kernels) -> Proposed:
        """Return boxes and scores in search images ``(B, 3, S, S)``."""

    def penalty(self, boxes_wh: Tensor, last_wh: Tensor) -> Tensor:
        """Return exp(-k (s r - 1)), s and r the changes of padded size and of ratio.

        Args:
            boxes_wh: Sizes, shape ``(..., 2)``.
            last_wh: The target's last size, broadcast against them.

        Returns:
            Penalty, 1 where nothing changes, shape ``(...)``.
        """
        return torch.exp(-self.settings.scale_penalty * (size_change(boxes_wh, last_wh) - 1))

    @torch.inference_mode()
    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> ProposalState:
        """Begin to follow a target; see :class:`Tracker`."""
        box, fill, images = exemplar_images(
            frame, box_xyxy, self.settings.exemplar_size, self.settings.context_amount, self._like
        )
        kernels: Kernels = self.network.exemplar(images)  # type: ignore[operator]
        return ProposalState(box, kernels, fill)

    @torch.inference_mode()
    def step(
        self, states: Sequence[ProposalState], frames: Sequence[np.ndarray]
    ) -> list[Prediction]:
        """Find each target in its next frame; see :class:`Tracker`.

        Raises:
            ValueError: If there is not one frame per state, or one of them is not a frame; then no
                state has changed.
        """
        if len(states) != len(frames):
            raise ValueError(
                f"step: expected one frame per state, got {len(states)} states and "
                f"{len(frames)} frames"
            )
        if not states:
            return []
        windows, _, proposed, penalty, ranked = self._look(states, frames)
        best = ranked.flatten(1).argmax(1)  # (B,)
        every = torch.arange(len(best))
        boxes = proposed.boxes_cxcywh.flatten(1, 3)[every, best].double().numpy()  # (B, 4)
        scores = proposed.scores.flatten(1)[every, best]  # (B,)
        rates = penalty.flatten(1)[every, best] * scores * self.settings.size_lr  # (B,)
        return [
            self._update(state, window, frame.shape[:2], box, float(score), float(rate))
            for state, window, frame, box, score, rate in zip(
                states, windows, frames, boxes, scores, rates, strict=True
            )
        ]

    @torch.inference_mode()
    def score_maps(self, state: ProposalState, frame: np.ndarray) -> ScoreMaps:
        """Return the maps with which the next step would choose; see :class:`ShowsScores`."""
        windows, crops, proposed, _, ranked = self._look([state], [frame])
        maps = {
            "score": proposed.scores[0].amax(0).numpy(),
            "penalised score": ranked[0].amax(0).numpy(),
        }
        return ScoreMaps(crops[0], windows[0], maps, int(self.network.stride))  # type: ignore[arg-type]

    def _look(
        self, states: Sequence[ProposalState], frames: Sequence[np.ndarray]
    ) -> tuple[list[Window], list[np.ndarray], Proposed, Tensor, Tensor]:
        """Return windows, crops, proposals, their penalties and penalised scores ``(B, A, H, W)``."""
        windows = [self._window(state) for state in states]
        crops = [
            crop(checked_frame(frame), window, state.fill)
            for frame, window, state in zip(frames, windows, states, strict=True)
        ]
        kernels = Kernels(
            torch.cat([s.kernels.cls for s in states]), torch.cat([s.kernels.box for s in states])
        )
        proposed = self.propose(to_images(crops, self._like), kernels)
        sizes = [
            (state.box_xyxy[2:] - state.box_xyxy[:2]) * window.scale
            for state, window in zip(states, windows, strict=True)
        ]
        last_wh = torch.tensor(np.array(sizes), dtype=torch.float32)  # (B, 2), crop px
        penalty = self.penalty(proposed.boxes_cxcywh[..., 2:], last_wh[:, None, None, None])
        influence = self.settings.window_influence
        window = cosine_window(proposed.scores.shape[-1])  # (H, W)
        ranked = penalty * proposed.scores * (1 - influence) + window * influence
        return windows, crops, proposed, penalty, ranked

    def _window(self, state: ProposalState) -> Window:
        settings = self.settings
        return search_window(
            state.box_xyxy, settings.search_size, settings.exemplar_size, settings.context_amount
        )

    def _update(
        self,
        state: ProposalState,
        window: Window,
        frame_hw: tuple[int, int],
        box_in_crop_cxcywh: np.ndarray,
        score: float,
        rate: float,
    ) -> Prediction:
        """Move the state to the chosen proposal and return the prediction."""
        found = xyxy_to_cxcywh(window.to_frame(cxcywh_to_xyxy(box_in_crop_cxcywh)))
        last_wh = state.box_xyxy[2:] - state.box_xyxy[:2]
        height, width = frame_hw
        size = last_wh * (1 - rate) + found[2:] * rate
        size = np.clip(size, min(self.settings.min_side, *last_wh), (width, height))
        centre = np.clip(found[:2], 0, (width, height))
        state.box_xyxy = cxcywh_to_xyxy(np.concatenate([centre, size]))
        return Prediction(state.box_xyxy.astype(np.float32), score)


def size_change(boxes_wh: Tensor, last_wh: Tensor) -> Tensor:
    """Return ``max(r / r', r' / r) * max(s / s', s' / s)``, 1 where nothing changes.

    r is the ratio of width and height, s the padded side, ``sqrt((w + p)(h + p))`` with
    ``p = (w + h) / 2``; those with a stroke are the last frame's.

    Source: SiamRPN, Eq. 13 and 14.

    Args:
        boxes_wh: Sizes, shape ``(..., 2)``.
        last_wh: Last size, broadcast against them.

    Returns:
        Change, at least 1, shape ``(...)``.
    """
    scale = _padded_side(boxes_wh) / _padded_side(last_wh)
    ratio = (boxes_wh[..., 0] / boxes_wh[..., 1]) / (last_wh[..., 0] / last_wh[..., 1])
    return torch.maximum(scale, 1 / scale) * torch.maximum(ratio, 1 / ratio)


def _padded_side(sizes_wh: Tensor) -> Tensor:
    margin = sizes_wh.sum(-1) / 2
    return torch.sqrt((sizes_wh[..., 0] + margin) * (sizes_wh[..., 1] + margin))
