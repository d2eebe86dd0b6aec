"""The tracker protocol: the network is shared, the state is per target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from lightning_trackers.boxes import clip_xyxy

State = TypeVar("State")


@dataclass(frozen=True)
class Prediction:
    """Where a target is in one frame.

    Args:
        box_xyxy: Box in frame px, float32 ``(4,)``.
        score: Confidence in [0, 1].
    """

    box_xyxy: np.ndarray
    score: float


class Tracker(Protocol[State]):
    """Follows any number of targets, each with a state of its own.

    ``step`` takes many targets at once and its results do not depend on how targets are grouped, so
    one implementation serves a live camera, several objects of one video, and an evaluation that
    follows many sequences in lockstep.
    """

    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> State:
        """Begin to follow a target.

        Args:
            frame: First frame, uint8 RGB ``(H, W, 3)``.
            box_xyxy: The target's box in it, ``(4,)``, px.

        Returns:
            The target's state.

        Raises:
            ValueError: If the box has no area, is not finite or lies outside the frame.
        """
        ...

    def step(self, states: Sequence[State], frames: Sequence[np.ndarray]) -> list[Prediction]:
        """Find each target in its next frame and update its state in place.

        Args:
            states: One state per target.
            frames: The next frame of each, uint8 RGB ``(H, W, 3)``; sizes may differ.

        Returns:
            One prediction per target, in order.

        Raises:
            ValueError: If there is not one frame per state, or one of them is not a frame; then no
                state has changed.
        """
        ...


class LiveTracker(Generic[State]):
    """The one-target view that OpenCV and got10k users know.

    Args:
        tracker: Any tracker of this project.
    """

    def __init__(self, tracker: Tracker[State]) -> None:
        self.tracker = tracker
        self._state: State | None = None

    def init(self, frame: np.ndarray, box_xyxy: np.ndarray) -> None:
        """Begin to follow the target in ``box_xyxy``, ``(4,)``, px; forget an earlier one."""
        self._state = self.tracker.start(frame, np.asarray(box_xyxy, dtype=np.float32))

    def update(self, frame: np.ndarray) -> Prediction:
        """Find the target in the next frame.

        Raises:
            RuntimeError: If ``init`` was not called.
        """
        if self._state is None:
            raise RuntimeError("LiveTracker.update: call init(frame, box_xyxy) first")
        return self.tracker.step([self._state], [frame])[0]


def checked_frame(frame: np.ndarray) -> np.ndarray:
    """Return the frame if it is what trackers expect.

    Raises:
        ValueError: If it is not uint8 RGB ``(H, W, 3)``.
    """
    if not (isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3):
        got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame)
        raise ValueError(f"frame: expected a uint8 array (H, W, 3), got {got}")
    if frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f"frame: expected shape (H, W, 3), got {frame.shape}")
    return frame


def checked_frames(states: Sequence[object], frames: Sequence[np.ndarray]) -> None:
    """Check what a tracker's step is given, before any state changes.

    Raises:
        ValueError: If there is not one frame per state, or one of them is not a frame.
    """
    if len(states) != len(frames):
        raise ValueError(
            f"step: expected one frame per state, got {len(states)} states and {len(frames)} frames"
        )
    for frame in frames:
        checked_frame(frame)


def checked_start_box(box_xyxy: np.ndarray, frame_hw: tuple[int, int]) -> np.ndarray:
    """Return the first box as float32 ``(4,)`` if a tracker can start from it.

    Raises:
        ValueError: If it is not finite, has no area, or does not touch the frame.
    """
    box = np.asarray(box_xyxy, dtype=np.float32)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ValueError(f"box: expected four finite numbers x1 y1 x2 y2, got {box_xyxy}")
    width, height = box[2] - box[0], box[3] - box[1]
    if width <= 0 or height <= 0:
        raise ValueError(f"box: expected positive width and height, got {width:g} × {height:g} px")
    x1, y1, x2, y2 = clip_xyxy(box, frame_hw)
    if x2 <= x1 or y2 <= y1:
        raise ValueError(
            f"box: expected a box that touches the frame of {frame_hw[1]} × {frame_hw[0]} px, "
            f"got x1 y1 x2 y2 = {box.tolist()}"
        )
    return box
