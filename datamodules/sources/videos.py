"""What GOT-10k, LaSOT and TrackingNet share: a video has one target and one box per frame."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules.sources.indexing import Entry, cleaned
from datamodules.sources.reading import file_names, image_sizes
from datamodules.tracks import Skipped, Track

TRACK = "0"
"""The only target of a video."""


def one_target(
    video: str,
    category: str,
    boxes_xyxy: np.ndarray,
    visible: np.ndarray,
    occluded: np.ndarray,
    images: Path,
    pattern: str,
    first: int,
    where: str,
) -> Iterator[Entry]:
    """Yield the track of a video whose frames are numbered from ``first``, and what is wrong.

    Args:
        video: Name of the video.
        category: Name of the target's class.
        boxes_xyxy: Boxes, 0-based, ``(T, 4)``, px.
        visible: Frames that show the target, bool ``(T,)``.
        occluded: Frames that show it only in part, bool ``(T,)``.
        images: Folder of the frames.
        pattern: Name of a frame's file, e.g. ``{:08d}.jpg``.
        first: Number of the first frame.
        where: The annotation file.
    """
    frames = np.arange(first, first + len(boxes_xyxy), dtype=np.int32)
    names = [pattern.format(frame) for frame in frames]
    present = set(file_names(images))
    has_frame = np.array([name in present for name in names])
    if not has_frame.any():
        yield Skipped("video without frames", 1, str(images))
        return
    image_wh = np.zeros((len(frames), 2), dtype=np.int64)
    image_wh[has_frame] = image_sizes([images / n for n in names if n in present])
    yield from cleaned(
        Track(video, TRACK, category, frames, boxes_xyxy, visible, occluded, image_wh),
        where,
        np.asarray(image_wh.any(axis=1)),
    )
