"""GradNet online: SiamFC's search with a template that is updated from reliable samples.

Source: Li et al., GradNet, ICCV 2019, Sections 3.4 and 3.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from lightning_trackers.crops import Window, crop, search_window
from lightning_trackers.evaluation.score_maps import ScoreMaps
from lightning_trackers.evaluation.tracker import Prediction
from lightning_trackers.methods.gradnet.network import GradNet
from lightning_trackers.methods.siamfc import (
    SiamFC,
    SiamFCSettings,
    SiamFCState,
    SiamFCTracker,
    response_labels,
)
from lightning_trackers.siamese import exemplar_images, to_images


@dataclass(frozen=True)
class GradNetSettings(SiamFCSettings):
    """Constants of the tracker, in addition to SiamFC's.

    Args:
        update_interval: Frames between two updates of the template; 0 keeps the first frame's (w/o U).
        reliable_share: A frame gives a reliable sample if the largest value of its score map exceeds
            this share of the first frame's.
        initial_share: Share of the first frame's template in the final one. The paper combines both
            and names no weights; 0.4 are the released code's.
        feature_lr: Share of the updated h_2 in the h_2 of the next update. 0: every update begins from
            the first frame's h_2(Z_1), as the paper writes; 0.6 in the released code.
        siamfc_share: Share of SiamFC's template f_x(Z) in the final one; 0.85 in the released code.
        label_radius: Distance from a sample's centre up to which a cell is positive, crop px.
    """

    update_interval: int = 5
    reliable_share: float = 0.5
    initial_share: float = 0.4
    feature_lr: float = 0.0
    siamfc_share: float = 0.0
    label_radius: float = 16.0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: If a value is out of range.
        """
        super().__post_init__()
        if self.update_interval < 0:
            raise ValueError(
                f"tracker: expected update_interval >= 0 frames, got {self.update_interval}"
            )
        for name in ("initial_share", "feature_lr", "siamfc_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"tracker: expected {name} in [0, 1], got {getattr(self, name)}")


@dataclass(kw_only=True)
class GradNetState(SiamFCState):
    """What is kept of one target beside SiamFC's state, whose ``exemplar`` is the template in use.

    Args:
        features: h_2(Z), which the next update corrects, ``(1, C2, H2, W2)``.
        initial: β, the first frame's template before any correction, ``(1, C, Hz, Wz)``.
        anchor: The part of the template that stays, already weighted, ``(1, C, Hz, Wz)``.
        threshold: A larger score map maximum makes a sample reliable.
        sample: Search crop of the last reliable frame since the last update, uint8 RGB.
        frames: Frames seen after the first.
    """

    features: Tensor
    initial: Tensor
    anchor: Tensor
    threshold: float
    sample: np.ndarray | None = None
    frames: int = 0


class GradNetTracker:
    """Follows targets with a trained network; the network itself stays as it is.

    The search is SiamFC's, with the template in the exemplar's place.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        settings: Constants.

    Raises:
        ValueError: If templates are to be updated by a network made without the gradient.
    """

    def __init__(self, network: GradNet, settings: GradNetSettings) -> None:
        if settings.update_interval and network.u2 is None:
            raise ValueError(
                "tracker: a network made with gradient=False cannot update templates; set "
                "update_interval to 0"
            )
        self.network = network
        self.settings = settings
        self._like = next(network.parameters())
        # GradNet has what the search asks of SiamFC: ``track``, ``stride`` and parameters.
        self._search = SiamFCTracker(cast("SiamFC", network), settings)

    @torch.no_grad()
    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> GradNetState:
        """Begin to follow a target, its template corrected on the first frame."""
        settings, network = self.settings, self.network
        box, fill, images = exemplar_images(
            frame, box_xyxy, settings.exemplar_size, settings.context_amount, self._like
        )
        searches = self._search_features([self._sample(frame, box, fill)])
        features = network.exemplar(images)  # f_2(Z_1)
        if network.u2 is None:
            initial = template = network.u1(features)
        else:
            adapted = network.adapt(features, searches, self._labels(searches, features))
            initial, template = adapted.initial_template, adapted.template  # β, β*
            features = adapted.features  # h_2(Z_1)
        anchor = (1 - settings.siamfc_share) * settings.initial_share * template
        if settings.siamfc_share:
            anchor = anchor + settings.siamfc_share * network.search(images)
        final = self._final_template(anchor, template)
        peak = float(network.score_map(searches, final).max())
        return GradNetState(
            box,
            box[2:] - box[:2],
            final,
            fill,
            features=features,
            initial=initial,
            anchor=anchor,
            threshold=settings.reliable_share * peak,
        )

    @torch.no_grad()
    def step(
        self, states: Sequence[GradNetState], frames: Sequence[np.ndarray]
    ) -> list[Prediction]:
        """Find each target in its next frame, and update the templates that are due."""
        predictions = self._search.step(states, frames)
        interval = self.settings.update_interval
        if not interval:
            return predictions
        due = []
        for state, frame in zip(states, frames, strict=True):
            state.frames += 1
            if state.response_max > state.threshold:
                state.sample = self._sample(frame, state.box_xyxy, state.fill)
            if state.frames % interval == 0 and state.sample is not None:
                due.append(state)
        if due:
            self._update_templates(due)
        return predictions

    @torch.no_grad()
    def score_maps(self, state: GradNetState, frame: np.ndarray) -> ScoreMaps:
        """Return S of the first frame's uncorrected template and S* of the one in use (Fig. 10).

        Args:
            state: A target's state; it stays as it is.
            frame: Its next frame, uint8 RGB ``(H, W, 3)``.
        """
        window = self._window(state.box_xyxy)
        image = crop(frame, window, state.fill)
        searches = self._search_features([image])
        maps = {
            "initial S": self.network.score_map(searches, state.initial)[0].float().cpu().numpy(),
            "updated S*": self.network.score_map(searches, state.exemplar)[0].float().cpu().numpy(),
        }
        return ScoreMaps(image, window, maps, self.network.stride)

    def _update_templates(self, states: Sequence[GradNetState]) -> None:
        """Correct h_2 by each target's reliable sample and make its template anew."""
        searches = self._search_features([s.sample for s in states if s.sample is not None])
        features = torch.cat([state.features for state in states])  # (B, C2, H2, W2)
        adapted = self.network.adapt(features, searches, self._labels(searches, features))
        lr = self.settings.feature_lr
        kept = torch.lerp(features, adapted.features, lr)
        anchors = torch.cat([state.anchor for state in states])
        templates = self._final_template(anchors, adapted.template)
        for i, state in enumerate(states):
            state.features, state.exemplar = kept[i : i + 1], templates[i : i + 1]
            state.sample = None

    def _final_template(self, anchor: Tensor, template: Tensor) -> Tensor:
        settings = self.settings
        return anchor + (1 - settings.siamfc_share) * (1 - settings.initial_share) * template

    def _sample(self, frame: np.ndarray, box_xyxy: np.ndarray, fill: np.ndarray) -> np.ndarray:
        return crop(frame, self._window(box_xyxy), fill)

    def _window(self, box_xyxy: np.ndarray) -> Window:
        settings = self.settings
        return search_window(
            box_xyxy, settings.search_size, settings.exemplar_size, settings.context_amount
        )

    def _search_features(self, samples: Sequence[np.ndarray]) -> Tensor:
        return self.network.search(to_images(samples, self._like))

    def _labels(self, searches: Tensor, features: Tensor) -> Tensor:
        """Return Y of samples, ``(B, H', W')``: their targets lie in the middle."""
        size = self.settings.search_size
        middle = torch.full((len(searches), 4), size / 2, device=searches.device)
        return response_labels(
            middle,
            torch.ones(len(searches), dtype=torch.bool, device=searches.device),
            cells=self.network.map_cells(features, searches),
            stride=self.network.stride,
            search_size=size,
            radius=self.settings.label_radius,
        )
