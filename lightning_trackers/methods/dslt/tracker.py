"""DSLT online: learn the response to a target in its first frame, find its peak, learn on.

Source: Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Sections 4 and 5.1.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lightning_trackers.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from lightning_trackers.crops import Window, crop, mean_colour, search_window
from lightning_trackers.evaluation.tracker import (
    Prediction,
    checked_frame,
    checked_frames,
    checked_start_box,
)
from lightning_trackers.losses import RegressionLoss
from lightning_trackers.methods.dslt.learning import Descent, Learner, Rates, Sample, unit
from lightning_trackers.methods.dslt.network import DSLT, Maps, stacked_maps
from lightning_trackers.methods.dslt.targets import gaussian_label, kernel_size
from lightning_trackers.siamese import cosine_window, to_images


@dataclass(frozen=True)
class DSLTSettings:
    """Constants of the tracker. Rates are explained in ``learning.py``.

    Args:
        exemplar_size: The target is shown as large as in an exemplar crop of this side, px.
        search_size: Side of the crop that is searched and learnt from, px.
        scale_size: Side of the crops that scales are compared in, px.
        context_amount: Margin around the target in the exemplar, relative to width plus height.
        kernel_ratio: Size of the regression's kernel relative to the target.
        label_width: Standard deviation of the soft label relative to the target.
        initial_iterations: Steps in the first frame, at most.
        remaining: The first frame has converged when its loss has fallen to this share.
        update_iterations: Steps in every later frame; 0 does not update.
        memory: T, the frames that are learnt from.
        regression_lr: Change of the response that one step in the first frame can make.
        reduction_lr: Rate of the 1 × 1 convolutions in the first frame.
        online_share: Rates of later frames relative to the first one's.
        update_reductions: Whether the 1 × 1 convolutions learn after the first frame too. The paper
            updates its whole network; the released code (False) keeps them.
        weight_decay: λ of Eq. 7.
        scales: Number of scales compared, odd.
        scale_step: Ratio of neighbouring scales.
        scale_lr: Share of the new size.
        scale_threshold: The size changes only where the response's peak is higher.
        window_influence: Weight of the cosine window against the response; the paper has none.
        upsampling: Factor by which the response map is enlarged (bicubic) to find its peak.
        size_limits: Smallest and largest size relative to the first.

    Raises:
        ValueError: If a value is out of range.
    """

    exemplar_size: int = 127
    search_size: int = 385
    scale_size: int = 257
    context_amount: float = 0.5
    kernel_ratio: float = 1.0
    label_width: float = 0.1
    initial_iterations: int = 200
    remaining: float = 0.05
    update_iterations: int = 2
    memory: int = 7
    regression_lr: float = 0.01
    reduction_lr: float = 8e-7
    online_share: float = 0.25
    update_reductions: bool = True
    weight_decay: float = 5e-4
    scales: int = 3
    scale_step: float = 1.03
    scale_lr: float = 0.6
    scale_threshold: float = 0.35
    window_influence: float = 0.0
    upsampling: int = 8
    size_limits: tuple[float, float] = (0.2, 5.0)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.search_size >= self.scale_size >= self.exemplar_size > 0:
            raise ValueError(
                "tracker: expected search_size >= scale_size >= exemplar_size > 0, got "
                f"{self.search_size}, {self.scale_size} and {self.exemplar_size}"
            )
        if self.scales < 1 or self.scales % 2 == 0:
            raise ValueError(f"tracker: expected an odd number of scales, got {self.scales}")
        if min(self.initial_iterations, self.memory) < 1 or self.update_iterations < 0:
            raise ValueError(
                "tracker: expected initial_iterations and memory >= 1 and update_iterations >= 0, "
                f"got {self.initial_iterations}, {self.memory} and {self.update_iterations}"
            )
        for name in ("remaining", "scale_lr", "window_influence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"tracker: expected {name} in [0, 1], got {getattr(self, name)}")

    def first_rates(self) -> Rates:
        """Return the rates of the first frame."""
        return Rates(self.regression_lr, self.reduction_lr, self.weight_decay)

    def online_rates(self) -> Rates:
        """Return the rates of later frames."""
        reduction = self.reduction_lr * self.online_share if self.update_reductions else 0.0
        return Rates(self.regression_lr * self.online_share, reduction, self.weight_decay)


@dataclass
class DSLTState:
    """What is kept of one target.

    Args:
        box_xyxy: Where it was last found, float64 ``(4,)``, px.
        first_wh: Its size in the first frame, ``(2,)``, px.
        fill: Colour outside the frame, ``(3,)``.
        units: What its shallow and its deep features are divided by.
        learner: What it has learnt.
        samples: The last frames.
    """

    box_xyxy: np.ndarray
    first_wh: np.ndarray
    fill: np.ndarray
    units: tuple[float, float]
    learner: Learner
    samples: deque[Sample]

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of its regression's convolution, cells."""
        height, width = self.learner.weights["regress_fused"].shape[-2:]
        return height, width

    def statistics(self) -> dict[str, float]:
        """Return what learning online did so far, by name."""
        return {
            "online_loss": self.learner.loss,
            "updates": self.learner.updates,
            "failed_updates": self.learner.failed,
            "memory": len(self.samples),
        }


class DSLTTracker:
    """Follows targets, each by a regression of its own that learns while it is tracked.

    Args:
        network: Network prepared by ``siamese.for_inference``; it stays as it is.
        loss: Loss of the response map.
        settings: Constants.
    """

    def __init__(self, network: DSLT, loss: RegressionLoss, settings: DSLTSettings) -> None:
        self.network = network
        self.loss = loss
        self.settings = settings
        self._like = next(network.parameters())
        self._factors = settings.scale_step ** (np.arange(settings.scales) - settings.scales // 2)

    @torch.inference_mode(False)
    @torch.no_grad()
    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> DSLTState:
        """Begin to follow a target: learn its regression on the first frame until it converges."""
        state = self.begin(frame, box_xyxy)
        goal = 0.0
        descent = self.descent(state)
        for i in range(self.settings.initial_iterations):
            loss = float(descent.step())
            if i == 0:
                goal = self.settings.remaining * loss
            elif loss <= goal:
                break
        descent.finish()
        return state

    @torch.no_grad()
    def begin(self, frame: np.ndarray, box_xyxy: np.ndarray) -> DSLTState:
        """Look at a target for the first time and learn nothing yet.

        Raises:
            ValueError: If the frame is not uint8 RGB or a tracker cannot start from the box.
        """
        box = checked_start_box(box_xyxy, checked_frame(frame).shape[:2]).astype(np.float64)
        fill, window = mean_colour(frame), self._window(box)
        [maps] = self._look([crop(frame, window, fill)])
        units = unit(maps)
        first_wh = box[2:] - box[:2]
        kernel = kernel_size(
            tuple(first_wh * window.scale), self.network.stride, self.settings.kernel_ratio
        )
        learner = Learner(self.network.initial_weights(kernel))
        state = DSLTState(box, first_wh, fill, units, learner, deque(maxlen=self.settings.memory))
        self._remember(state, window, _divided(maps, units))
        return state

    def descent(self, state: DSLTState) -> Descent:
        """Return the first frame's learning of a target that has just begun, to be stepped."""
        rates = self.settings.first_rates()
        return Descent(self.network, [state.learner], [list(state.samples)], self.loss, rates)

    @torch.inference_mode(False)
    @torch.no_grad()
    def step(self, states: Sequence[DSLTState], frames: Sequence[np.ndarray]) -> list[Prediction]:
        """Find each target in its next frame, then its size, then learn from it."""
        checked_frames(states, frames)
        if not states:
            return []
        windows = [self._window(state.box_xyxy) for state in states]
        looks = self._look(
            [crop(f, w, s.fill) for f, w, s in zip(frames, windows, states, strict=True)]
        )
        maps = [_divided(m, s.units) for m, s in zip(looks, states, strict=True)]
        responses = self._responses(states, [[m] for m in maps])
        scores = []
        for state, window, frame, response in zip(states, windows, frames, responses, strict=True):
            dx, dy, peak = self._peak(response[0])
            self._move(state, window, (dx, dy), frame)
            scores.append(peak)
        self._rescale(states, frames, scores)
        if self.settings.update_iterations:
            for state, window, own in zip(states, windows, maps, strict=True):
                self._remember(state, window, own)
            self._update(states)
        return [
            Prediction(s.box_xyxy.astype(np.float32), float(np.clip(peak, 0.0, 1.0)))
            for s, peak in zip(states, scores, strict=True)
        ]

    def responses(self, state: DSLTState, frame: np.ndarray) -> Tensor:
        """Return the response map of a frame around a target, ``(H, W)``; its state stays as it is."""
        [maps] = self._look([crop(frame, self._window(state.box_xyxy), state.fill)])
        return self._responses([state], [[_divided(maps, state.units)]])[0][0]

    def _window(self, box_xyxy: np.ndarray, size: int | None = None) -> Window:
        s = self.settings
        return search_window(box_xyxy, size or s.search_size, s.exemplar_size, s.context_amount)

    def _look(self, crops: Sequence[np.ndarray]) -> list[Maps]:
        found = self.network.features(to_images(crops, self._like))
        shallow, deep = (m.contiguous().float() for m in found)
        return [Maps(a, b) for a, b in zip(shallow, deep, strict=True)]

    def _responses(
        self, states: Sequence[DSLTState], maps: Sequence[Sequence[Maps]]
    ) -> list[Tensor]:
        """Return the response of each target to equally many maps of its own, ``(N, H, W)`` each."""
        found: dict[int, Tensor] = {}
        for group in _by_kernel(states):
            weights = {
                name: torch.stack([states[t].learner.weights[name] for t in group])
                for name in states[group[0]].learner.weights
            }
            own = stacked_maps([stacked_maps(list(maps[t])) for t in group])
            responses = self.network.responses(weights, self.network.reduced(weights, own))
            found |= dict(zip(group, responses, strict=True))
        return [found[t] for t in range(len(states))]

    def _peak(self, response: Tensor) -> tuple[float, float, float]:
        """Return where a response map is highest: x and y against its middle, cells, and how high.

        The cosine window says which peak is taken, the height is the response's own.
        """
        up, influence = self.settings.upsampling, self.settings.window_influence
        fine = functional.interpolate(response[None, None], scale_factor=up, mode="bicubic")[0, 0]
        ranked = fine
        if influence:
            columns, rows = (
                cosine_window(n)[n // 2].to(fine) for n in (fine.shape[1], fine.shape[0])
            )
            ranked = (1 - influence) * fine + influence * torch.outer(rows, columns)
        place = int(ranked.argmax())
        height, width = fine.shape
        x, y = place % width, place // width
        return (x - (width - 1) / 2) / up, (y - (height - 1) / 2) / up, float(fine[y, x])

    def _move(
        self, state: DSLTState, window: Window, cells_xy: tuple[float, float], frame: np.ndarray
    ) -> None:
        """Move the target to a cell of the search region's response; its centre stays in the frame."""
        px = self.network.stride / window.scale  # frame px per cell
        centre = np.array([window.cx, window.cy]) + np.array(cells_xy) * px
        centre = np.clip(centre, 0, (frame.shape[1], frame.shape[0]))
        size = xyxy_to_cxcywh(state.box_xyxy)[2:]
        state.box_xyxy = cxcywh_to_xyxy(np.concatenate([centre, size]))

    def _rescale(
        self, states: Sequence[DSLTState], frames: Sequence[np.ndarray], scores: Sequence[float]
    ) -> None:
        """Compare sizes around each target that was found, and move its size to the best."""
        s = self.settings
        found = [t for t, score in enumerate(scores) if score > s.scale_threshold]
        if s.scales == 1 or not found:
            return
        crops = [
            crop(frames[t], window.moved(zoom=factor), states[t].fill)
            for t in found
            for window in [self._window(states[t].box_xyxy, s.scale_size)]
            for factor in self._factors
        ]
        looks = self._look(crops)
        own = [states[t] for t in found]
        maps = [
            [_divided(m, state.units) for m in looks[i * s.scales : (i + 1) * s.scales]]
            for i, state in enumerate(own)
        ]
        for state, responses in zip(own, self._responses(own, maps), strict=True):
            factor = self._factors[int(responses.amax(dim=(1, 2)).argmax())]
            cx, cy, w, _ = xyxy_to_cxcywh(state.box_xyxy)
            growth = (1 - s.scale_lr) + s.scale_lr * factor
            relative = np.clip(w * growth / state.first_wh[0], *s.size_limits)
            size = state.first_wh * relative  # the aspect ratio stays
            state.box_xyxy = cxcywh_to_xyxy(np.concatenate([[cx, cy], size]))

    def _remember(self, state: DSLTState, window: Window, maps: Maps) -> None:
        """Keep a search region with the soft label of where and how large the target was found."""
        cx, cy, w, h = xyxy_to_cxcywh(state.box_xyxy)
        per_px = window.scale / self.network.stride  # cells per frame px
        label = gaussian_label(
            (maps.deep.shape[-2], maps.deep.shape[-1]),
            ((cx - window.cx) * per_px, (cy - window.cy) * per_px),
            (w * per_px, h * per_px),
            self.settings.label_width,
        )
        state.samples.append(Sample(maps, label.to(maps.deep)))

    def _update(self, states: Sequence[DSLTState]) -> None:
        """Let every target learn from its last frames, those with kernels of one size together."""
        for group in _by_kernel(states):
            own = [states[t] for t in group]
            descent = Descent(
                self.network,
                [state.learner for state in own],
                [list(state.samples) for state in own],
                self.loss,
                self.settings.online_rates(),
            )
            for _ in range(self.settings.update_iterations):
                descent.step()
            for state, learnt in zip(own, descent.finish(), strict=True):
                if not learnt and len(state.samples) > 1:
                    state.samples.pop()  # what it could not learn from


def _by_kernel(states: Sequence[DSLTState]) -> Iterator[list[int]]:
    """Yield the numbers of the targets that can be computed together: one kernel, one memory."""
    groups: dict[tuple[tuple[int, int], int], list[int]] = defaultdict(list)
    for t, state in enumerate(states):
        groups[state.kernel, len(state.samples)].append(t)
    yield from groups.values()


def _divided(maps: Maps, units: tuple[float, float]) -> Maps:
    return Maps(maps.shallow / units[0], maps.deep / units[1])
