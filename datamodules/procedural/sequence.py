"""Whole drawn sequences with ground truth, attributes and visibility."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

from lightning_trackers.boxes import area_xyxy, xyxy_to_cxcywh
from lightning_trackers.evaluation.sequence import TrackingSequence

from .bank import Bank
from .scene import Scene
from .style import Style

ATTRIBUTES = {
    "IV": "illumination variation: the tone of a mid-grey changes by more than 15 %, or a shadow",
    "SV": "scale variation: the box's area leaves [1/2, 2] of the first frame's",
    "OCC": "occlusion: more than a tenth of the target is hidden",
    "DEF": "deformation: limbs swing or the outline changes",
    "MB": "motion blur: the target is smeared over more than 3 px",
    "FM": "fast motion: the box's centre moves by more than 20 px between frames",
    "IPR": "in-plane rotation by more than 20 degrees",
    "OPR": "out-of-plane rotation by more than 30 degrees",
    "OV": "out of view: more than a tenth of the target leaves the frame",
    "BC": "background clutter: look-alikes, or a background of nearly the target's mean colour",
    "LR": "low resolution: the box has less than 400 square px",
    "LOOKALIKE": "a look-alike is in the frame near the target for a fifth of the time or more",
}
"""Codes and the rules by which they are given. All but the last are OTB's codes; the rules for SV, FM
and LR carry OTB's thresholds (Wu, Lim, Yang, Object Tracking Benchmark, PAMI 2015, Table 1)."""


@dataclass(frozen=True)
class Frames(Sequence[np.ndarray]):
    """The frames of a drawn sequence, drawn when asked for, in any order."""

    sequence: "ProceduralSequence"

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.sequence.length

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        """Draw a frame, uint8 RGB ``(H, W, 3)``."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame: expected less than {len(self)}, got {index}")
        return self.sequence.frame(index % len(self))


class ProceduralSequence:
    """One drawn sequence.

    The ground truth is the tight upright box of the target's whole outline in the frame's pose
    (limbs included), whether or not it is hidden or outside the frame.

    Args:
        bank: Pictures to use.
        seed: Number of the sequence within the bank's seed and split.
        length: Number of frames.
        style: What may happen.
        name: Name; made from split and seed by default.
    """

    def __init__(
        self, bank: Bank, seed: int, length: int = 110, style: Style | None = None, name: str = ""
    ) -> None:
        if length < 1:
            raise ValueError(f"length: expected at least one frame, got {length}")
        self.bank, self.seed, self.length = bank, seed, length
        self.style = style if style is not None else Style()
        self.name = name or f"procedural_{bank.split}_{seed}"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the drawn parts behind: they are drawn again from the seed."""
        return {k: getattr(self, k) for k in ("bank", "seed", "length", "style", "name")}

    @cached_property
    def scene(self) -> Scene:
        """The scene whose frames these are."""
        return Scene(self.bank, self.seed, self.length, self.style)

    @cached_property
    def first(self) -> int:
        """The scene's frame that the sequence starts at: the target is in clear view there."""
        seen = [self.scene.visibility(t) for t in range(min(40, self.length))]
        clear = [t for t, v in enumerate(seen) if v > 0.9]
        return clear[0] if clear else int(np.argmax(seen))

    def frame(self, index: int) -> np.ndarray:
        """Draw a frame, uint8 RGB ``(H, W, 3)``."""
        return self.scene.frame(self.first + index)

    @cached_property
    def boxes_xyxy(self) -> np.ndarray:
        """Ground truth, float64 ``(T, 4)``, px."""
        return np.stack([self.scene.box_xyxy(self.first + i) for i in range(self.length)])

    @cached_property
    def visibility(self) -> np.ndarray:
        """Share of the target that is in sight, float64 ``(T,)``."""
        return np.asarray(1.0 - self._losses.sum(axis=1))

    @cached_property
    def attributes(self) -> frozenset[str]:
        """Codes of :data:`ATTRIBUTES` that hold."""
        play, lens = self.scene.play, self.scene.play.lens
        times = range(self.first, self.first + self.length)
        grey = np.empty(self.length)
        yaw, angle, smear = grey.copy(), grey.copy(), grey.copy()
        for i, t in enumerate(times):
            now = play.instant(t)
            grey[i] = now.tone[0, 128].mean()
            yaw[i], angle[i] = now.poses[0].yaw, play.angle(t)
            smear[i] = np.hypot(*now.steps[0]) * lens.shutter
        centres = xyxy_to_cxcywh(self.boxes_xyxy)[:, :2]
        steps = np.hypot(*np.diff(centres, axis=0).T)
        areas = area_xyxy(self.boxes_xyxy)
        ratios = areas / areas[0]
        hidden, outside = self._losses.T
        facts = {
            "IV": np.ptp(grey) > 0.15 * grey[0] or play.light.shadow > 0.2,
            "SV": ratios.max() > 2 or ratios.min() < 0.5,
            "OCC": hidden.max() > 0.1,
            "DEF": play.deforms,
            "MB": smear.max() > 3,
            "FM": self.length > 1 and steps.max() > 20,
            "IPR": np.abs(angle - angle[0]).max() > np.deg2rad(20),
            "OPR": np.abs(yaw - yaw[0]).max() > np.deg2rad(30),
            "OV": outside.max() > 0.1,
            "BC": self._lookalikes_seen >= 0.2 or play.contrast < 20,
            "LR": areas.min() < 400,
            "LOOKALIKE": self._lookalikes_seen >= 0.2,
        }
        return frozenset(code for code, holds in facts.items() if holds)

    def tracking_sequence(self) -> TrackingSequence:
        """Return the sequence as evaluation reads it; every frame's ground truth counts."""
        return TrackingSequence(
            name=self.name,
            frames=Frames(self),
            boxes_xyxy=self.boxes_xyxy,
            valid=np.ones(self.length, dtype=bool),
            attributes=self.attributes,
        )

    @cached_property
    def _lookalikes_seen(self) -> float:
        """Share of time with a look-alike in the frame within five target sizes."""
        play = self.scene.play
        seen = []
        for t in range(self.first, self.first + self.length, 4):
            now = play.instant(t)
            places = np.array([root[:2, 2] for root in now.roots[: 1 + play.lookalikes]])
            doubles = places[1:]
            inside = ((doubles > 0) & (doubles < self.scene.frame_wh)).all(axis=1)
            near = np.hypot(*(doubles - places[0]).T) < 5 * play.size
            seen.append(bool((inside & near).any()))
        return float(np.mean(seen))

    @cached_property
    def _losses(self) -> np.ndarray:
        return np.array([self.scene.losses(self.first + i) for i in range(self.length)])
