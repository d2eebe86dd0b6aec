"""SiamRPN online: one forward pass for all targets, penalties, and a damped size.

Source: Li et al., SiamRPN, CVPR 2018, Section 4.3 (Eq. 13: scale and ratio penalty, cosine window,
linear interpolation of the size); constants of pysot's ``siamrpn_alex_dwxcorr``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from lightning_trackers.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from lightning_trackers.crops import Window, crop, search_window
from lightning_trackers.evaluation.tracker import Prediction, checked_frame
from lightning_trackers.heads import Kernels
from lightning_trackers.methods.siamrpn.anchors import decode
from lightning_trackers.methods.siamrpn.network import SiamRPN
from lightning_trackers.siamese import cosine_window, exemplar_images, to_images


@dataclass(frozen=True)
class SiamRPNSettings:
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
class SiamRPNState:
    """What is kept of one target.

    Args:
        box_xyxy: Last box, float64 ``(4,)``, frame px.
        kernels: Kernels of the exemplar, batch axis of 1.
        fill: Colour outside the frame, ``(3,)``.
    """

    box_xyxy: np.ndarray
    kernels: Kernels
    fill: np.ndarray


class SiamRPNTracker:
    """Follows targets with a trained network.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        settings: Constants.
    """

    def __init__(self, network: SiamRPN, settings: SiamRPNSettings) -> None:
        self.network = network
        self.settings = settings
        self._like = next(network.parameters())
        self._grids: dict[int, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> SiamRPNState:
        """Begin to follow a target; see :class:`Tracker`."""
        box, fill, images = exemplar_images(
            frame, box_xyxy, self.settings.exemplar_size, self.settings.context_amount, self._like
        )
        return SiamRPNState(box, self.network.exemplar(images), fill)

    @torch.inference_mode()
    def step(
        self, states: Sequence[SiamRPNState], frames: Sequence[np.ndarray]
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
        windows = [self._window(state) for state in states]
        crops = [
            crop(checked_frame(frame), window, state.fill)
            for frame, window, state in zip(frames, windows, states, strict=True)
        ]
        kernels = Kernels(
            torch.cat([s.kernels.cls for s in states]), torch.cat([s.kernels.box for s in states])
        )
        proposals = self.network.track(to_images(crops, self._like), kernels)
        sizes_wh = torch.tensor(
            np.array(
                [
                    (s.box_xyxy[2:] - s.box_xyxy[:2]) * w.scale
                    for s, w in zip(states, windows, strict=True)
                ]
            ),
            dtype=torch.float32,
        )
        boxes, scores, rates = self._choose(
            proposals.cls_logits.float().cpu(), proposals.box_deltas.float().cpu(), sizes_wh
        )
        return [
            self._update(state, window, frame.shape[:2], box, float(score), float(rate))
            for state, window, frame, box, score, rate in zip(
                states, windows, frames, boxes, scores, rates, strict=True
            )
        ]

    def _window(self, state: SiamRPNState) -> Window:
        settings = self.settings
        return search_window(
            state.box_xyxy, settings.search_size, settings.exemplar_size, settings.context_amount
        )

    def _choose(
        self, cls_logits: Tensor, box_deltas: Tensor, sizes_wh: Tensor
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose one proposal per target.

        Args:
            cls_logits: Shape ``(B, A, H, W)``.
            box_deltas: Shape ``(B, A, H, W, 4)``.
            sizes_wh: Last size of each target in its search crop, ``(B, 2)``, px.

        Returns:
            ``boxes_cxcywh`` in crop px float64 ``(B, 4)``, scores ``(B,)``, and the share of the new
            size ``(B,)``.
        """
        anchors, window = self._grid(cls_logits.shape[-1])  # (A, H, W, 4), (N,)
        boxes = decode(box_deltas, anchors).flatten(1, 3)  # (B, N, 4)
        scores = torch.sigmoid(cls_logits).flatten(1)  # (B, N)
        penalty = self._penalty(boxes[..., 2:], sizes_wh[:, None])  # (B, N)
        influence = self.settings.window_influence
        ranked = penalty * scores * (1 - influence) + window * influence
        best = ranked.argmax(1)  # (B,)
        every = torch.arange(len(best))
        score = scores[every, best]
        rate = penalty[every, best] * score * self.settings.size_lr
        return boxes[every, best].double().numpy(), score.numpy(), rate.numpy()

    def _penalty(self, boxes_wh: Tensor, last_wh: Tensor) -> Tensor:
        """Return exp(-k (s r - 1)), s and r the changes of padded size and of ratio (Eq. 13)."""
        scale = _padded_side(boxes_wh) / _padded_side(last_wh)
        ratio = (boxes_wh[..., 0] / boxes_wh[..., 1]) / (last_wh[..., 0] / last_wh[..., 1])
        change = torch.maximum(scale, 1 / scale) * torch.maximum(ratio, 1 / ratio)
        return torch.exp(-self.settings.scale_penalty * (change - 1))

    def _update(
        self,
        state: SiamRPNState,
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

    def _grid(self, cells: int) -> tuple[Tensor, Tensor]:
        """Return the anchors ``(A, H, W, 4)`` and the cosine window of every anchor ``(N,)``."""
        if cells not in self._grids:
            anchors = self.network.anchors_cxcywh(cells, self.settings.search_size)
            window = cosine_window(cells).expand(len(anchors), -1, -1).flatten()
            self._grids[cells] = anchors, window
        return self._grids[cells]


def _padded_side(sizes_wh: Tensor) -> Tensor:
    """Return the side of a square of the padded size, sqrt((w + p)(h + p)) with p = (w + h) / 2."""
    margin = sizes_wh.sum(-1) / 2
    return torch.sqrt((sizes_wh[..., 0] + margin) * (sizes_wh[..., 1] + margin))
