"""TrackingNet as a training source.

Boxes are 0-based and often leave the image; a frame shows its target if the box has an area in the
image. The dataset names no classes.

Source: Müller et al., TrackingNet: A Large-Scale Dataset and Benchmark for Object Tracking in the
Wild, ECCV 2018.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.errors import DatasetError
from datamodules.sources.indexing import Entry, build_index, default_index_path, state_of
from datamodules.sources.reading import (
    NO_CATEGORY,
    BadEntryError,
    file_names,
    read_bytes,
    require_folder,
)
from datamodules.sources.text import parse_boxes
from datamodules.sources.tracks import TrackSource
from datamodules.sources.videos import one_target

LAYOUT = """expected layout:
  <root>/TRAIN_0/anno/<video>.txt             (x,y,w,h per frame)
  <root>/TRAIN_0/frames/<video>/0.jpg, 1.jpg, ...
  <root>/TRAIN_1/..., to TRAIN_11"""


class TrackingNetSource(TrackSource):
    """Pairs from TrackingNet; the index is made at the first use and after a change.

    Args:
        root: Folder that holds ``TRAIN_0`` and so on.
        chunks: Numbers of the parts to use, all twelve by default.
        name: Name of the source in ids and messages.
        index_path: Where the index is kept, beside the data by default.
        same_category: See :class:`~datamodules.sources.tracks.TrackSource`; as there are no
            classes, any other video is of the same one.

    Raises:
        DatasetError: If the layout is not as expected, or holds nothing to train on.
        PermissionError: If the index cannot be written.
    """

    def __init__(
        self,
        root: str | Path,
        chunks: Sequence[int] = tuple(range(12)),
        name: str = "trackingnet",
        index_path: str | Path | None = None,
        same_category: float = 0.0,
    ) -> None:
        root = Path(root)
        videos = [video for chunk in chunks for video in _videos(root, f"TRAIN_{chunk}")]
        settings = ("trackingnet", tuple(chunks))
        index = build_index(
            Path(index_path) if index_path else default_index_path(root, "trackingnet", settings),
            read_video,
            lambda: videos,
            state_of(settings, root, [path for v in videos for path in (v.annotation, v.images)]),
            LAYOUT,
        )
        super().__init__(name, index, TrackingNetFramePath(root), same_category)


@dataclass(frozen=True)
class TrackingNetFramePath:
    """The rule for a frame's path; numbers have no leading zeros.

    Args:
        root: Folder that holds ``TRAIN_0`` and so on.
    """

    root: Path

    def __call__(self, video: str, frame: int) -> Path:
        """Return the path of a frame."""
        chunk, _, name = video.partition("/")
        return self.root / chunk / "frames" / name / f"{frame}.jpg"


@dataclass(frozen=True)
class Video:
    """One video.

    Args:
        name: Its part and its name, ``TRAIN_0/<video>``.
        annotation: File of its boxes.
        images: Folder of its frames.
    """

    name: str
    annotation: Path
    images: Path


def read_video(video: Video) -> Iterator[Entry]:
    """Yield the track of a video and what is wrong with it."""
    where = str(video.annotation)
    try:
        boxes_xyxy = parse_boxes(read_bytes(video.annotation), where, origin=0)
    except BadEntryError as error:
        yield error.skipped()
        return
    yield from one_target(
        video.name,
        NO_CATEGORY,
        boxes_xyxy,
        np.ones(len(boxes_xyxy), dtype=bool),
        np.zeros(len(boxes_xyxy), dtype=bool),
        video.images,
        "{}.jpg",
        0,
        where,
    )


def _videos(root: Path, chunk: str) -> list[Video]:
    annotations = require_folder(root / chunk / "anno", LAYOUT)
    frames = require_folder(root / chunk / "frames", LAYOUT)
    names = file_names(annotations, ".txt")
    if not names:
        raise DatasetError(f"{annotations}: no annotation in it; {LAYOUT}")
    stems = [name.removesuffix(".txt") for name in names]
    return [Video(f"{chunk}/{s}", annotations / f"{s}.txt", frames / s) for s in stems]
