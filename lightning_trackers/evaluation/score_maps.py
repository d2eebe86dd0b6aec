"""What a tracker saw in one frame, for figures."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from lightning_trackers.crops import Window

State = TypeVar("State", contravariant=True)


class ScoreMaps(NamedTuple):
    """Score maps over one search region.

    Args:
        search_image: What the tracker looked at, uint8 RGB ``(S, S, 3)``.
        window: Where that is in the frame.
        maps: Maps by title, float ``(H, W)`` each; a map lies in the middle of the region.
        stride: Px of the region per cell of a map.
    """

    search_image: np.ndarray
    window: Window
    maps: Mapping[str, np.ndarray]
    stride: int


class ShowsScores(Protocol[State]):
    """A tracker whose score maps can be looked at."""

    def score_maps(self, state: State, frame: np.ndarray) -> ScoreMaps:
        """Return the maps with which the next step would choose; the state stays as it is.

        Args:
            state: A target's state.
            frame: Its next frame, uint8 RGB ``(H, W, 3)``.
        """
        ...
