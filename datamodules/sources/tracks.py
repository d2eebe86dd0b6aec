"""Training pairs from an annotation index and images on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from datamodules.frames import FileView
from datamodules.tracks import Track, TrackIndex
from lightning_trackers.crops import View

_TRIES = 8
"""Draws before all tracks of a category are looked at, which for a large one takes longer."""


class TrackSource:
    """Draws pairs of views from tracks; every track is equally likely.

    Args:
        name: Name of the source in ids and messages.
        index: The annotations.
        frame_path: The rule for a frame's path, from video name and frame number. Workers receive
            it by pickling, so it is a function or an object that pickles small.
        same_category: Share of the negative pairs whose other target is of the same category
            (Zhu et al., Distractor-aware Siamese Networks, ECCV 2018, Section 3.2). Where no other
            video shows that category, any other video serves.

    Raises:
        ValueError: If the share is not in [0, 1].
    """

    def __init__(
        self,
        name: str,
        index: TrackIndex,
        frame_path: Callable[[str, int], Path],
        same_category: float = 0.0,
    ) -> None:
        if not 0 <= same_category <= 1:
            raise ValueError(
                f"source {name}: expected same_category in [0, 1], got {same_category}"
            )
        self.name = name
        self.same_category = same_category
        self.index = index
        self.frame_path = frame_path
        self._has_two_videos = bool((index.video_ids != index.video_ids[0]).any())

    def draw(
        self, rng: np.random.Generator, *, max_gap: int, positive: bool
    ) -> tuple[View, View, str]:
        """Draw an exemplar view and a search view.

        Args:
            rng: The only source of chance.
            max_gap: Largest difference of frame numbers within a positive pair; 0 pairs a frame
                with itself.
            positive: Whether both views show the same target. If not, the search view is of
                another video, so that the exemplar's target does not occur in it, and its box is
                that of its own target.

        Returns:
            The exemplar view, the search view, and an id such as ``folder/Bolt/0/f3-f41``.

        Raises:
            ValueError: If ``max_gap`` is negative, or a negative pair is asked of a single video.
        """
        if max_gap < 0:
            raise ValueError(f"max_gap: expected 0 or more frames, got {max_gap}")
        i = int(rng.integers(len(self.index)))
        track = self.index.track(i)
        visible = np.flatnonzero(track.visible)
        exemplar_row = int(rng.choice(visible))
        exemplar = self._view(track, exemplar_row)
        pair_id = f"{self.name}/{track.video}/{track.track}/f{track.frames[exemplar_row]}"
        if positive:
            frames = track.frames[visible]
            frame = int(track.frames[exemplar_row])
            first = int(np.searchsorted(frames, frame - max_gap, side="left"))
            end = int(np.searchsorted(frames, frame + max_gap, side="right"))
            search_row = int(visible[rng.integers(first, end)])
            search_id = f"f{track.frames[search_row]}"
        else:
            track = self.index.track(self._other_video(rng, i))
            search_row = int(rng.choice(np.flatnonzero(track.visible)))
            search_id = f"{track.video}/{track.track}/f{track.frames[search_row]}"
        return exemplar, self._view(track, search_row), f"{pair_id}-{search_id}"

    def _view(self, track: Track, row: int) -> View:
        path = self.frame_path(track.video, int(track.frames[row]))
        return FileView(path, track.boxes_xyxy[row])

    def _other_video(self, rng: np.random.Generator, i: int) -> int:
        """Draw a track of another video, each equally likely."""
        if not self._has_two_videos:
            raise ValueError(
                f"source {self.name}: expected at least two videos to draw negative pairs from, "
                f"got one ({self.index.path}); set the share of negative pairs to 0"
            )
        videos = self.index.video_ids
        # The short-circuit keeps the draws of a source without this wish as they are.
        if self.same_category > 0 and rng.random() < self.same_category:
            peers = self.index.tracks_of_category(int(self.index.category_ids[i]))
            for j in rng.choice(peers, size=_TRIES):
                if videos[j] != videos[i]:
                    return int(j)
            others = peers[videos[peers] != videos[i]]
            if len(others):
                return int(rng.choice(others))
        while True:
            j = int(rng.integers(len(self.index)))
            if videos[j] != videos[i]:
                return j
