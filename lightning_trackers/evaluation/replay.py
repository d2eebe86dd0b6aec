"""What a tracker would have done with other penalties, mostly without running its network.

With other penalties a target's path differs, and so does every window that the network is shown. So
windows are snapped to a lattice: centres to a grid whose step is a fixed number of crop pixels, sides to
powers of a factor. Paths that differ by little then ask for the same windows, and an answer that is
there already is not computed again. The tracker's own ``choose`` does the rest; it is told that the
target lies off the window's middle.

The lattice is fixed to the frame and not to the ground truth, which would centre the target for the
tracker. :class:`OnLattice` is the tracker that looks through snapped windows: a replay gives what it
gives. The tracker itself looks through exact ones, and how far its scores differ is measured by
``measurements/search_speed.py``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic

import numpy as np
import torch

from lightning_trackers.crops import Window
from lightning_trackers.evaluation.looking import LookingTracker, Situation, State
from lightning_trackers.evaluation.one_pass import TrackResult
from lightning_trackers.evaluation.output_memo import Key, OutputMemo
from lightning_trackers.evaluation.sequence import TrackingSequence
from lightning_trackers.evaluation.tracker import Prediction


@dataclass(frozen=True)
class Lattice:
    """The windows that are looked through.

    Args:
        shift: Distance of neighbouring centres, crop px.
        zoom: Ratio of neighbouring sides.

    Raises:
        ValueError: If a number is out of range.
    """

    shift: float = 16.0
    zoom: float = 1.1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.shift < math.inf:
            raise ValueError(f"lattice: expected shift > 0 crop px, got {self.shift}")
        if not 1 < self.zoom < math.inf:
            raise ValueError(f"lattice: expected zoom > 1, got {self.zoom}")

    def place(self, window: Window) -> tuple[int, int, int]:
        """Return level, column and row of the nearest window of the lattice."""
        level = round(math.log(window.side) / math.log(self.zoom))
        step = self.shift * self.zoom**level / window.size  # frame px
        return level, round(window.cx / step), round(window.cy / step)

    def window(self, place: tuple[int, int, int], size: int) -> Window:
        """Return the window at a place, shown in ``size`` px."""
        level, column, row = place
        side = self.zoom**level
        step = self.shift * side / size
        return Window(column * step, row * step, side, size)


@dataclass
class OnLatticeState(Generic[State]):
    """A target's state.

    Args:
        inner: The tracker's.
        first_wh: Size in the first frame, ``(2,)``, px.
    """

    inner: State
    first_wh: np.ndarray


class OnLattice(Generic[State]):
    """A tracker that looks through snapped windows.

    Args:
        tracker: The tracker.
        lattice: Its windows.
    """

    def __init__(self, tracker: LookingTracker[State], lattice: Lattice) -> None:
        self.tracker = tracker
        self.lattice = lattice

    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> OnLatticeState[State]:
        """Begin to follow a target; see :class:`Tracker`."""
        inner = self.tracker.start(frame, box_xyxy)
        return OnLatticeState(inner, inner.box_xyxy[2:] - inner.box_xyxy[:2])

    def step(
        self, states: Sequence[OnLatticeState[State]], frames: Sequence[np.ndarray]
    ) -> list[Prediction]:
        """Find each target in its next frame; see :class:`Tracker`."""
        inner = [state.inner for state in states]
        exact = [self.tracker.window(state.box_xyxy) for state in inner]
        windows = [self.lattice.window(self.lattice.place(w), w.size) for w in exact]
        situation = Situation(
            windows,
            np.stack([state.box_xyxy for state in inner]),
            np.stack([state.first_wh for state in states]),
            np.array([frame.shape[1::-1] for frame in frames]),
        )
        choice = self.tracker.choose(self.tracker.look(inner, frames, windows), situation)
        for state, box in zip(inner, choice.boxes_xyxy, strict=True):
            state.box_xyxy = box
        return choice.predictions()


class Replay(Generic[State]):
    """One sequence, ready to be followed with any penalties.

    All frames of the sequence are taken to be as large as the first.

    Args:
        tracker: The tracker; its own settings say everything but the penalties.
        sequence: What to follow.
        memo: The network's answers; of this tracker, sequence and lattice alone.
        lattice: Where to look.
    """

    def __init__(
        self,
        tracker: LookingTracker[State],
        sequence: TrackingSequence,
        memo: OutputMemo,
        lattice: Lattice,
    ) -> None:
        self.tracker = tracker
        self.sequence = sequence
        self.memo = memo
        self.lattice = lattice
        self.looks = 0
        """Windows that the network was shown."""

    def follow(self, settings: Sequence[Any]) -> list[TrackResult]:
        """Follow the target from its first box with R settings at once.

        Args:
            settings: Settings of the tracker, which differ from its own in penalties alone.

        Returns:
            A result of each, in order; nothing is timed, their ``times_s`` are 0.
        """
        runs, count = len(settings), len(self.sequence)
        if count > 1:
            self.memo.refresh()
            frame_wh = np.tile(self._frame_wh, (runs, 1))  # (R, 2)
        # As a tracker is given its first box, and as it gives the others.
        start = self.sequence.start_xyxy.astype(np.float32).astype(np.float64)
        boxes = np.tile(start, (runs, 1))  # (R, 4)
        first_wh = boxes[:, 2:] - boxes[:, :2]
        followed, scores = np.empty((count, runs, 4)), np.ones((count, runs))
        followed[0] = self.sequence.start_xyxy
        for t in range(1, count):
            places = self._places(boxes)
            distinct = list(dict.fromkeys(places))
            keys: list[Key] = [(t, *place) for place in distinct]
            size = self.tracker.window(boxes[0]).size
            windows = {place: self.lattice.window(place, size) for place in distinct}
            self._look(t, [k for k in keys if k not in self.memo], size)
            which = torch.tensor([distinct.index(place) for place in places])
            situation = Situation([windows[place] for place in places], boxes, first_wh, frame_wh)
            choice = self.tracker.choose(self.memo.read(keys), situation, which, settings)
            boxes = choice.boxes_xyxy
            followed[t] = boxes.astype(np.float32)
            scores[t] = choice.scores
        name, times_s = self.sequence.name, np.zeros(count)
        return [TrackResult(name, followed[:, r], scores[:, r], times_s) for r in range(runs)]

    def _places(self, boxes_xyxy: np.ndarray) -> list[tuple[int, int, int]]:
        return [self.lattice.place(self.tracker.window(box)) for box in boxes_xyxy]

    def _look(self, t: int, keys: Sequence[Key], size: int) -> None:
        """Show the network what is not known yet of a frame."""
        if not keys:
            return
        frame = self.sequence.frames[t]
        if list(frame.shape[1::-1]) != self._frame_wh:
            raise ValueError(
                f"sequence {self.sequence.name}, frame {t + 1}: expected {self._frame_wh} px as in "
                f"the first frame, got {list(frame.shape[1::-1])}; search with cache=false"
            )
        windows = [self.lattice.window(key[1:], size) for key in keys]
        states = [self._state] * len(keys)
        self.memo.add(keys, self.tracker.look(states, [frame] * len(keys), windows))
        self.looks += len(keys)

    @cached_property
    def _state(self) -> State:
        """The target as it was first seen; asked for where something must be looked at."""
        start_xyxy = self.sequence.start_xyxy.astype(np.float32)
        return self.tracker.start(self.sequence.frames[0], start_xyxy)

    @cached_property
    def _frame_wh(self) -> list[int]:
        """Width and height of the frames, noted so that none need be read where all is known."""
        known = self.memo.note.get("frame_wh")
        if not isinstance(known, list):
            known = list(self.sequence.frames[0].shape[1::-1])
            self.memo.write_note({"frame_wh": known})
        return [int(side) for side in known]
