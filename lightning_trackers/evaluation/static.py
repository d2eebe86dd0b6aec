"""The box that never moves: the reference that any tracker has to beat."""

from collections.abc import Sequence

import numpy as np

from lightning_trackers.evaluation.tracker import Prediction, checked_frame, checked_start_box


class StaticTracker:
    """Answers each frame with the first box, score 1."""

    blind = True
    """It looks at no frame after the first, so that evaluation need not read them."""

    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> np.ndarray:
        """Return the first box as the state; see :class:`Tracker`."""
        height, width = checked_frame(frame).shape[:2]
        return checked_start_box(box_xyxy, (height, width)).copy()

    def step(self, states: Sequence[np.ndarray], frames: Sequence[np.ndarray]) -> list[Prediction]:
        """Return each target's first box; see :class:`Tracker`."""
        return [Prediction(box.copy(), 1.0) for box, _ in zip(states, frames, strict=True)]
