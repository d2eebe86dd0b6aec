"""SiamFC online: three scales of the search region, an up-sampled response, a cosine window.

Source: Bertinetto et al., Fully-Convolutional Siamese Networks, ECCVW 2016, Section 3.1 ("Tracking");
constants of the public PyTorch implementation (siamfc-pytorch).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lightning_trackers.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from lightning_trackers.crops import Window, crop, search_window
from lightning_trackers.evaluation.tracker import Prediction, checked_frame
from lightning_trackers.methods.siamfc.network import SiamFC
from lightning_trackers.siamese import cosine_window, exemplar_images, to_images


@dataclass(frozen=True)
class SiamFCSettings:
    """Constants of the tracker.

    Args:
        exemplar_size: Side of the exemplar crop, px.
        search_size: Side of the search crop, px.
        context_amount: Margin around the target, relative to width plus height.
        scales: Number of scales searched, odd.
        scale_step: Ratio of neighbouring scales.
        scale_penalty: Factor of the response at a changed scale.
        scale_lr: Share of the new scale.
        window_influence: Weight of the cosine window against the response.
        upsampling: Factor by which the response map is enlarged (bicubic).
        size_limits: Smallest and largest size relative to the first.
    """

    exemplar_size: int = 127
    search_size: int = 255
    context_amount: float = 0.5
    scales: int = 3
    scale_step: float = 1.0375
    scale_penalty: float = 0.9745
    scale_lr: float = 0.59
    window_influence: float = 0.176
    upsampling: int = 16
    size_limits: tuple[float, float] = (0.2, 5.0)

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
        if self.scales < 1 or self.scales % 2 == 0:
            raise ValueError(f"tracker: expected an odd number of scales, got {self.scales}")
        for name in ("window_influence", "scale_lr"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"tracker: expected {name} in [0, 1], got {getattr(self, name)}")


@dataclass
class SiamFCState:
    """What is kept of one target.

    Args:
        box_xyxy: Last box, float64 ``(4,)``, frame px.
        first_wh: Size in the first frame, ``(2,)``, px.
        exemplar: Exemplar features, ``(1, C, Hz, Wz)``.
        fill: Colour outside the frame, ``(3,)``.
        response_max: Largest value of the last response map at the chosen scale; NaN before any.
    """

    box_xyxy: np.ndarray
    first_wh: np.ndarray
    exemplar: Tensor
    fill: np.ndarray
    response_max: float = math.nan


class SiamFCTracker:
    """Follows targets with a trained network.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        settings: Constants.
    """

    def __init__(self, network: SiamFC, settings: SiamFCSettings) -> None:
        self.network = network
        self.settings = settings
        self._like = next(network.parameters())
        exponents = np.arange(settings.scales) - settings.scales // 2
        self._factors = settings.scale_step**exponents  # (S,)
        # One penalty for any change, however many steps: the public code's reading.
        self._penalties = torch.tensor(np.where(exponents == 0, 1.0, settings.scale_penalty))

    @torch.inference_mode()
    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> SiamFCState:
        """Begin to follow a target; see :class:`Tracker`."""
        box, fill, images = exemplar_images(
            frame, box_xyxy, self.settings.exemplar_size, self.settings.context_amount, self._like
        )
        return SiamFCState(box, box[2:] - box[:2], self.network.exemplar(images), fill)

    @torch.inference_mode()
    def step(self, states: Sequence[SiamFCState], frames: Sequence[np.ndarray]) -> list[Prediction]:
        """Find each target in its next frame; see :class:`Tracker`."""
        windows = [self._window(state) for state in states]
        crops = [
            crop(checked_frame(frame), window.moved(zoom=factor), state.fill)
            for frame, window, state in zip(frames, windows, states, strict=True)
            for factor in self._factors
        ]
        exemplars = torch.cat([state.exemplar for state in states])  # (B, C, Hz, Wz)
        response = self.network.track(
            to_images(crops, self._like), exemplars.repeat_interleave(len(self._factors), dim=0)
        ).float()  # (B * S, H, W)
        response = response.cpu().view(len(states), -1, *response.shape[1:])  # (B, S, H, W)
        peaks = self._peaks(response)
        for state, maps, (scale_index, *_) in zip(states, response, peaks, strict=True):
            state.response_max = maps[scale_index].max().item()
        return [
            self._update(state, window, frame.shape[:2], *peak)
            for state, window, frame, peak in zip(states, windows, frames, peaks, strict=True)
        ]

    def _window(self, state: SiamFCState) -> Window:
        settings = self.settings
        return search_window(
            state.box_xyxy, settings.search_size, settings.exemplar_size, settings.context_amount
        )

    def _peaks(self, response: Tensor) -> list[tuple[int, float, float, float]]:
        """Find the best scale and place of each target in its responses ``(B, S, H, W)``.

        Returns:
            Per target the scale's index, the peak's offset from the centre of the search crop (x, y,
            crop px) and the score there.
        """
        up = self.settings.upsampling
        fine = functional.interpolate(response, scale_factor=up, mode="bicubic")  # (B, S, Hu, Wu)
        best_scale = (fine.amax(dim=(2, 3)) * self._penalties).argmax(1)  # (B,)
        chosen = fine[torch.arange(len(fine)), best_scale].double()  # (B, Hu, Wu)
        # Above its minimum and summing to 1, as the published trackers compare it with the window.
        share = chosen - chosen.amin(dim=(1, 2), keepdim=True)
        share = share / share.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12)
        window = cosine_window(share.shape[-1]).double()
        influence = self.settings.window_influence
        ranked = share * (1 - influence) + window / window.sum() * influence
        side = ranked.shape[-1]
        place = ranked.flatten(1).argmax(1)  # (B,)
        # Fine cell u covers [u, u + 1] / up of the coarse cells; its centre against the middle.
        to_px = self.network.stride / up
        dx = ((place % side) - (side - 1) / 2) * to_px
        dy = (place.div(side, rounding_mode="floor") - (side - 1) / 2) * to_px
        scores = torch.sigmoid(chosen.flatten(1).gather(1, place[:, None])[:, 0])
        return [
            (int(s), float(x), float(y), float(p))
            for s, x, y, p in zip(best_scale, dx, dy, scores, strict=True)
        ]

    def _update(
        self,
        state: SiamFCState,
        window: Window,
        frame_hw: tuple[int, int],
        scale_index: int,
        dx: float,
        dy: float,
        score: float,
    ) -> Prediction:
        """Move the state to the peak and return the prediction."""
        factor = float(self._factors[scale_index])
        per_px = factor / window.scale  # frame px per px of the crop at the chosen scale
        cx, cy, w, _ = xyxy_to_cxcywh(state.box_xyxy)
        height, width = frame_hw
        centre = np.clip([cx + dx * per_px, cy + dy * per_px], 0, (width, height))
        growth = (1 - self.settings.scale_lr) + self.settings.scale_lr * factor
        # One factor for both sides: SiamFC keeps the aspect ratio.
        low, high = self.settings.size_limits
        relative = np.clip(w * growth / state.first_wh[0], low, high)
        size = state.first_wh * relative
        state.box_xyxy = cxcywh_to_xyxy(np.concatenate([centre, size]))
        return Prediction(state.box_xyxy.astype(np.float32), score)
