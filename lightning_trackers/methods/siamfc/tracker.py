"""SiamFC online: three scales of the search region, an up-sampled response, a cosine window.

Source: Bertinetto et al., Fully-Convolutional Siamese Networks, ECCVW 2016, Section 3.1 ("Tracking");
constants of the public PyTorch implementation (siamfc-pytorch).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lightning_trackers.boxes import cxcywh_to_xyxy
from lightning_trackers.crops import Window, crop, search_window
from lightning_trackers.evaluation.looking import Choice, Situation, columns
from lightning_trackers.evaluation.tracker import Prediction, checked_frames
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


class Responses(NamedTuple):
    """What the network answers, on the CPU in float32.

    Args:
        response: Response maps of S scales, ``(B, S, H, W)``.
    """

    response: Tensor


class Peaks(NamedTuple):
    """Best scale and place of B targets.

    Args:
        scale_index: Index of the scale, ``(B,)``.
        offsets: Way from the centre of the search crop to the peak (x, y), crop px, ``(B, 2)``.
        scores: Score there, in [0, 1], ``(B,)``.
    """

    scale_index: np.ndarray
    offsets: np.ndarray
    scores: np.ndarray


class SiamFCTracker:
    """Follows targets with a trained network.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        settings: Constants.
    """

    PENALTIES = ("scale_penalty", "scale_lr", "window_influence")

    def __init__(self, network: SiamFC, settings: SiamFCSettings) -> None:
        self.network = network
        self.settings = settings
        self._like = next(network.parameters())
        exponents = np.arange(settings.scales) - settings.scales // 2
        self._factors = settings.scale_step**exponents  # (S,)
        self._is_changed = exponents != 0  # (S,)

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
        checked_frames(states, frames)
        if not states:
            return []
        windows = [self.window(state.box_xyxy) for state in states]
        seen = self.look(states, frames, windows)
        situation = Situation(
            windows,
            np.stack([state.box_xyxy for state in states]),
            np.stack([state.first_wh for state in states]),
            np.array([frame.shape[1::-1] for frame in frames]),
        )
        peaks = self._peaks(seen.response)
        choice = self._moved(situation, peaks, columns([self.settings], self.PENALTIES))
        for i, state in enumerate(states):
            state.box_xyxy = choice.boxes_xyxy[i]
            state.response_max = seen.response[i, peaks.scale_index[i]].max().item()
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
        states: Sequence[SiamFCState],
        frames: Sequence[np.ndarray],
        windows: Sequence[Window],
    ) -> Responses:
        """Return the responses in what the windows show at all scales; see :class:`LookingTracker`."""
        crops = [
            crop(frame, window.moved(zoom=factor), state.fill)
            for frame, window, state in zip(frames, windows, states, strict=True)
            for factor in self._factors
        ]
        exemplars = torch.cat([state.exemplar for state in states])  # (B, C, Hz, Wz)
        response = self.network.track(
            to_images(crops, self._like), exemplars.repeat_interleave(len(self._factors), dim=0)
        ).float()  # (B * S, H, W)
        return Responses(response.cpu().view(len(states), -1, *response.shape[1:]))

    @torch.inference_mode()
    def choose(
        self,
        seen: tuple[Tensor, ...],
        situation: Situation,
        which: Tensor | None = None,
        settings: Sequence[SiamFCSettings] | None = None,
    ) -> Choice:
        """Go to the highest peak, damp the change of scale; see :class:`LookingTracker`."""
        values = columns(settings or [self.settings], self.PENALTIES)
        shifts = situation.shifts()
        peaks = self._peaks(Responses(*seen).response, which, values, shifts)
        return self._moved(situation, peaks, values)

    def _peaks(
        self,
        response: Tensor,
        which: Tensor | None = None,
        values: Mapping[str, np.ndarray] | None = None,
        shifts: np.ndarray | None = None,
    ) -> Peaks:
        """Find the best scale and place of each target.

        Args:
            response: Responses ``(U, S, H, W)``.
            which: The responses of each target, ``(B,)``; their own order if None.
            values: Penalties of each target, ``(B,)`` each; the tracker's own if None.
            shifts: Way from the middle of the window to the target, crop px, ``(B, 2)``; None for
                none.
        """
        up = self.settings.upsampling
        values = columns([self.settings], self.PENALTIES) if values is None else values
        which = torch.arange(len(response)) if which is None else which
        # One penalty for any change, however many steps: the public code's reading.
        penalties = np.where(self._is_changed, values["scale_penalty"][:, None], 1.0)  # (B, S)
        fine = functional.interpolate(response, scale_factor=up, mode="bicubic")  # (U, S, Hu, Wu)
        highest = fine.amax(dim=(2, 3))[which]  # (B, S)
        best_scale = (highest * torch.from_numpy(penalties)).argmax(1)  # (B,)
        # Targets that share a map share the work on it.
        scales = fine.shape[1]
        maps, map_of = torch.unique(which * scales + best_scale, return_inverse=True)
        chosen = fine.flatten(0, 1)[maps].double()  # (M, Hu, Wu)
        # Above its minimum and summing to 1, as the published trackers compare it with the window.
        share = chosen - chosen.amin(dim=(1, 2), keepdim=True)
        share = share / share.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12)
        side = share.shape[-1]
        to_px = self.network.stride / up
        window = cosine_window(side, None if shifts is None else shifts / to_px).double()
        window = window / window.sum(dim=(-2, -1), keepdim=True)
        influence = torch.from_numpy(values["window_influence"])[:, None, None]
        ranked = share[map_of] * (1 - influence) + window * influence  # (B, Hu, Wu)
        place = ranked.flatten(1).argmax(1)  # (B,)
        rows, cells = place.div(side, rounding_mode="floor"), place % side
        # Fine cell u covers [u, u + 1] / up of the coarse cells; its centre against the middle.
        offsets = torch.stack([cells, rows], dim=1) - (side - 1) / 2  # (B, 2)
        scores = torch.sigmoid(chosen.flatten(1)[map_of, place])
        return Peaks(
            best_scale.numpy(),
            (offsets * to_px).double().numpy(),
            scores.numpy(),
        )

    def _moved(
        self, situation: Situation, peaks: Peaks, values: Mapping[str, np.ndarray]
    ) -> Choice:
        """Return the boxes at the peaks."""
        factors = self._factors[peaks.scale_index]  # (B,)
        scales = np.array([window.scale for window in situation.windows])
        per_px = (factors / scales)[:, None]  # frame px per px of the crop at the chosen scale
        middles = np.array([(window.cx, window.cy) for window in situation.windows])
        centres = np.clip(middles + peaks.offsets * per_px, 0, situation.frame_wh)
        growth = (1 - values["scale_lr"]) + values["scale_lr"] * factors
        # One factor for both sides: SiamFC keeps the aspect ratio.
        low, high = self.settings.size_limits
        widths = situation.boxes_xyxy[:, 2] - situation.boxes_xyxy[:, 0]
        relative = np.clip(widths * growth / situation.first_wh[:, 0], low, high)
        sizes = situation.first_wh * relative[:, None]
        return Choice(cxcywh_to_xyxy(np.concatenate([centres, sizes], axis=1)), peaks.scores)
