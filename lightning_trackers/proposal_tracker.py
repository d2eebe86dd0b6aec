"""Following a target with boxes that a network proposes: penalties, a window, and a damped size.

What the trackers share whose networks give a box and a score at every place of a response map. One
forward pass serves all targets.

Source: Li et al., High Performance Visual Tracking with Siamese Region Proposal Network, CVPR 2018,
Section 4.3 (Eq. 13: scale and ratio penalty, cosine window, linear interpolation of the size).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightning_trackers.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from lightning_trackers.crops import Window, crop, search_window, to_frame_each
from lightning_trackers.evaluation.looking import Choice, Situation, columns
from lightning_trackers.evaluation.score_maps import ScoreMaps
from lightning_trackers.evaluation.tracker import Prediction, checked_frames
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

    PENALTIES = ("scale_penalty", "window_influence", "size_lr")

    def __init__(self, network: nn.Module, settings: ProposalSettings) -> None:
        self.network = network
        self.settings = settings
        self._like = next(network.parameters())

    @abstractmethod
    def propose(self, images: Tensor, kernels: Kernels) -> Proposed:
        """Return boxes and scores in search images ``(B, 3, S, S)``."""

    def penalty(self, change: Tensor, strength: Tensor) -> Tensor:
        """Return exp(-k (s r - 1)), 1 where nothing changes.

        Args:
            change: s r, what :func:`size_change` returns.
            strength: k, broadcast against it.
        """
        return torch.exp(-strength * (change - 1))

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
        """Find each target in its next frame; see :class:`Tracker`."""
        checked_frames(states, frames)
        if not states:
            return []
        windows = [self.window(state.box_xyxy) for state in states]
        seen = self.look(states, frames, windows)
        choice = self.choose(seen, _situation(states, frames, windows))
        for state, box in zip(states, choice.boxes_xyxy, strict=True):
            state.box_xyxy = box
        return choice.predictions()

    def window(self, box_xyxy: np.ndarray) -> Window:
        """Return where a target is looked for; see :class:`LookingTracker`."""
        settings = self.settings
        return search_window(
            box_xyxy, settings.search_size, settings.exemplar_size, settings.context_amount
        )

    @torch.inference_mode()
    def look(
        self,
        states: Sequence[ProposalState],
        frames: Sequence[np.ndarray],
        windows: Sequence[Window],
    ) -> Proposed:
        """Return what the network proposes in what the windows show; see :class:`LookingTracker`."""
        kernels = Kernels(
            torch.cat([s.kernels.cls for s in states]), torch.cat([s.kernels.box for s in states])
        )
        return self.propose(to_images(_crops(states, frames, windows), self._like), kernels)

    @torch.inference_mode()
    def choose(
        self,
        seen: tuple[Tensor, ...],
        situation: Situation,
        which: Tensor | None = None,
        settings: Sequence[ProposalSettings] | None = None,
    ) -> Choice:
        """Choose by penalised score, and damp the change of size; see :class:`LookingTracker`."""
        proposed = Proposed(*seen)
        values = columns(settings or [self.settings], self.PENALTIES)
        which = torch.arange(len(situation.windows)) if which is None else which
        penalty, ranked = self._ranked(proposed, situation, which, values)
        best = ranked.flatten(1).argmax(1)  # (B,)
        found_cxcywh = proposed.boxes_cxcywh.flatten(1, 3)[which, best].double().numpy()  # (B, 4)
        scores = proposed.scores.flatten(1)[which, best]  # (B,)
        size_lr = torch.from_numpy(values["size_lr"]).float()
        rates = penalty.flatten(1).gather(1, best[:, None])[:, 0] * scores * size_lr  # (B,)
        boxes = self._moved(situation, found_cxcywh, rates.double().numpy())
        return Choice(boxes, scores.double().numpy())

    @torch.inference_mode()
    def score_maps(self, state: ProposalState, frame: np.ndarray) -> ScoreMaps:
        """Return the maps with which the next step would choose; see :class:`ShowsScores`."""
        windows = [self.window(state.box_xyxy)]
        proposed = self.look([state], [frame], windows)
        values = columns([self.settings], self.PENALTIES)
        situation = _situation([state], [frame], windows)
        _, ranked = self._ranked(proposed, situation, torch.arange(1), values)
        maps = {
            "score": proposed.scores[0].amax(0).numpy(),
            "penalised score": ranked[0].amax(0).numpy(),
        }
        image = _crops([state], [frame], windows)[0]
        return ScoreMaps(image, windows[0], maps, int(self.network.stride))  # type: ignore[arg-type]

    def _ranked(
        self,
        proposed: Proposed,
        situation: Situation,
        which: Tensor,
        values: Mapping[str, np.ndarray],
    ) -> tuple[Tensor, Tensor]:
        """Return penalties and penalised scores of what each target is offered, ``(B, A, H, W)``."""
        scales = np.array([window.scale for window in situation.windows])
        sizes_wh = situation.boxes_xyxy[:, 2:] - situation.boxes_xyxy[:, :2]
        last_wh = torch.from_numpy(sizes_wh * scales[:, None]).float()  # (B, 2), crop px
        shapes = shape_of(proposed.boxes_cxcywh[..., 2:])  # (U, A, H, W) each
        last = shape_of(last_wh[:, None, None, None])  # (B, 1, 1, 1) each
        change = change_of(Shape(shapes.side[which], shapes.ratio[which]), last)
        penalty = self.penalty(change, _per_target(values["scale_penalty"]))
        influence = values["window_influence"]
        shifts = situation.shifts()  # (B, 2), crop px
        if shifts is None:
            window = cosine_window(change.shape[-1])  # (H, W)
        else:
            stride = float(self.network.stride)  # type: ignore[arg-type]
            window = cosine_window(change.shape[-1], shifts / stride)[:, None]  # (B, 1, H, W)
        ranked = penalty * proposed.scores[which] * _per_target(1 - influence)
        return penalty, ranked + window * _per_target(influence)

    def _moved(
        self, situation: Situation, found_in_crop_cxcywh: np.ndarray, rates: np.ndarray
    ) -> np.ndarray:
        """Return the boxes that follow from what was found, ``(B, 4)``."""
        found_xyxy = to_frame_each(situation.windows, cxcywh_to_xyxy(found_in_crop_cxcywh))
        found = xyxy_to_cxcywh(found_xyxy)
        last_wh = situation.boxes_xyxy[:, 2:] - situation.boxes_xyxy[:, :2]
        rates = rates[:, None]
        sizes = last_wh * (1 - rates) + found[:, 2:] * rates
        smallest = np.minimum(self.settings.min_side, last_wh.min(axis=1, keepdims=True))
        sizes = np.clip(sizes, smallest, situation.frame_wh)
        centres = np.clip(found[:, :2], 0, situation.frame_wh)
        return cxcywh_to_xyxy(np.concatenate([centres, sizes], axis=1))


def _crops(
    states: Sequence[ProposalState], frames: Sequence[np.ndarray], windows: Sequence[Window]
) -> list[np.ndarray]:
    return [
        crop(frame, window, state.fill)
        for frame, window, state in zip(frames, windows, states, strict=True)
    ]


def _situation(
    states: Sequence[ProposalState], frames: Sequence[np.ndarray], windows: Sequence[Window]
) -> Situation:
    boxes_xyxy = np.stack([state.box_xyxy for state in states])
    # The first size plays no part here: any will do.
    first_wh = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return Situation(windows, boxes_xyxy, first_wh, np.array([f.shape[1::-1] for f in frames]))


def _per_target(values: np.ndarray) -> Tensor:
    """Return settings ``(B,)`` as float32 ``(B, 1, 1, 1)``."""
    return torch.from_numpy(values).float()[:, None, None, None]


class Shape(NamedTuple):
    """What the penalty compares of boxes.

    Args:
        side: Padded side s, ``sqrt((w + p)(h + p))`` with ``p = (w + h) / 2``, px.
        ratio: Width over height r.
    """

    side: Tensor
    ratio: Tensor


def shape_of(boxes_wh: Tensor) -> Shape:
    """Return padded side and ratio of boxes ``(..., 2)``, ``(...)`` each."""
    width, height = boxes_wh.unbind(-1)
    margin = boxes_wh.sum(-1) / 2
    return Shape(torch.sqrt((width + margin) * (height + margin)), width / height)


def change_of(shape: Shape, last: Shape) -> Tensor:
    """Return ``max(r / r', r' / r) * max(s / s', s' / s)``; the stroke marks the last frame's."""
    side, ratio = shape.side / last.side, shape.ratio / last.ratio
    return torch.maximum(side, 1 / side) * torch.maximum(ratio, 1 / ratio)


def size_change(boxes_wh: Tensor, last_wh: Tensor) -> Tensor:
    """Return by how much sizes differ from the last ones, 1 where nothing changes.

    Source: SiamRPN, Eq. 13 and 14.

    Args:
        boxes_wh: Sizes, shape ``(..., 2)``.
        last_wh: Last size, broadcast against them.

    Returns:
        Change of padded side times change of ratio, at least 1, shape ``(...)``.
    """
    return change_of(shape_of(boxes_wh), shape_of(last_wh))
