"""A tracker whose step has two halves: a look through the network, and a choice that costs little.

Whoever wants to know what other penalties would have done keeps what the network answered, and chooses
again; see ``replay.py``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from torch import Tensor

from lightning_trackers.crops import Window
from lightning_trackers.evaluation.tracker import Prediction


class Situation(NamedTuple):
    """Where B targets were last seen, and through which windows they are looked for now.

    Args:
        windows: Search windows, B of them; a target need not lie exactly in the middle of its own.
        boxes_xyxy: Last boxes, float64 ``(B, 4)``, frame px.
        first_wh: Sizes in the first frame, ``(B, 2)``, px.
        frame_wh: Sizes of the frames, ``(B, 2)``, px.
    """

    windows: Sequence[Window]
    boxes_xyxy: np.ndarray
    first_wh: np.ndarray
    frame_wh: np.ndarray

    def shifts(self) -> np.ndarray | None:
        """Return the way from the middle of each window to its target.

        Returns:
            Shift (x, y) in crop px, float64 ``(B, 2)``; None if every target lies in the middle.
        """
        middles = np.array([(w.cx, w.cy) for w in self.windows])  # (B, 2)
        centres = (self.boxes_xyxy[:, :2] + self.boxes_xyxy[:, 2:]) / 2
        if np.array_equal(middles, centres):
            return None
        scales = np.array([w.scale for w in self.windows])
        shifts: np.ndarray = (centres - middles) * scales[:, None]
        return shifts


class Choice(NamedTuple):
    """What was chosen for B targets.

    Args:
        boxes_xyxy: New boxes, float64 ``(B, 4)``, frame px.
        scores: Confidence in [0, 1], float64 ``(B,)``.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray

    def predictions(self) -> list[Prediction]:
        """Return them one by one, as a tracker's step does."""
        return [
            Prediction(box.astype(np.float32), float(score))
            for box, score in zip(self.boxes_xyxy, self.scores, strict=True)
        ]


class LookedAtState(Protocol):
    """A target's state; all that a step changes is the box."""

    box_xyxy: np.ndarray


State = TypeVar("State", bound=LookedAtState)


class LookingTracker(Protocol[State]):
    """A tracker whose step is ``window``, ``look`` and ``choose``.

    ``look`` depends on the window and the first frame alone, and ``choose`` on nothing that is not
    among its arguments.
    """

    PENALTIES: tuple[str, ...]
    """Settings that ``choose`` alone reads."""

    settings: Any

    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> State:
        """Begin to follow a target; see :class:`Tracker`."""
        ...

    def window(self, box_xyxy: np.ndarray) -> Window:
        """Return where a target is looked for whose last box was ``box_xyxy``, ``(4,)``."""
        ...

    def look(
        self, states: Sequence[State], frames: Sequence[np.ndarray], windows: Sequence[Window]
    ) -> tuple[Tensor, ...]:
        """Run the network on what B windows show.

        Returns:
            Answers, float32 on the CPU, each ``(B, ...)``.
        """
        ...

    def choose(
        self,
        seen: tuple[Tensor, ...],
        situation: Situation,
        which: Tensor | None = None,
        settings: Sequence[Any] | None = None,
    ) -> Choice:
        """Choose a box for each of B targets in what :meth:`look` saw.

        Args:
            seen: Answers of U looks.
            situation: Where the targets were.
            which: The look that belongs to each target, int64 ``(B,)``; the targets' own order if None.
            settings: Settings of each target, B of them; the tracker's own if None.
        """
        ...


def is_looking(tracker: object) -> bool:
    """Return whether a tracker's step has the two halves."""
    return all(hasattr(tracker, name) for name in ("PENALTIES", "window", "look", "choose"))


def columns(settings: Sequence[Any], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return settings by name, float64 ``(B,)`` each."""
    return {name: np.array([getattr(s, name) for s in settings], np.float64) for name in names}
