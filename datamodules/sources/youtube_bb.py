"""YouTube-BoundingBoxes as a training source.

A video is a YouTube id, a track one ``(class_id, object_id)`` in it, a category the class's name. One
frame was annotated a second; a frame's number is its time in whole seconds, so that a frame gap of 3
means 3 s, as in pysot. The same picture lies on disk once for every object it shows.

The annotations give boxes relative to the image and no image size. The size is read from the header of
each video's first frame on disk, or taken from a list where one was made while downloading; a list
makes the index independent of which frames are on disk already.

Source: Real et al., YouTube-BoundingBoxes, CVPR 2017; its detection CSV files.
"""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from datamodules.errors import DatasetError
from datamodules.sources.indexing import Entry, build_index, cleaned, default_index_path, state_of
from datamodules.sources.reading import (
    BadEntryError,
    file_names,
    image_size,
    require_folder,
    subfolders,
)
from datamodules.sources.tracks import TrackSource
from datamodules.sources.youtube_bb_csv import Rows, array_of, parse_annotations, parse_sizes
from datamodules.tracks import Skipped, Track, TrackIndex

LAYOUT = """expected layout:
  <root>/yt_bb_detection_train.csv, yt_bb_detection_validation.csv   (official, without a header)
  <root>/yt_bb_detection_train/<class_id>/<youtube_id>_<time_ms>_<class_id>_<object_id>.jpg, ..."""

SPLITS = ("train", "validation")

_VIDEOS_PER_UNIT = 64


class YouTubeBBSource(TrackSource):
    """Pairs from YouTube-BB; the index is made at the first use and after a change.

    Args:
        root: Folder that holds the annotation files and the folders of frames.
        split: train or validation.
        annotations: The CSV file, by default ``<root>/yt_bb_detection_<split>.csv``.
        sizes: A CSV file ``youtube_id,width,height`` with the size of each video's frames, px. With
            it no image is opened and frames count as present, also those still to be downloaded.
            Without it a frame that is missing is left out, and the index is made again after new
            ones arrive.
        name: Name of the source in ids and messages.
        index_path: Where the index is kept, beside the data by default.
        same_category: See :class:`~datamodules.sources.tracks.TrackSource`.

    Raises:
        DatasetError: If the layout is not as expected, or holds nothing to train on.
        ValueError: If the split is unknown.
        PermissionError: If the index cannot be written.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        annotations: str | Path | None = None,
        sizes: str | Path | None = None,
        name: str = "youtube_bb",
        index_path: str | Path | None = None,
        same_category: float = 0.0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"youtube_bb: expected split {' or '.join(SPLITS)}, got {split!r}")
        root = Path(root)
        frames = root / f"yt_bb_detection_{split}"
        file = Path(annotations) if annotations else frames.with_suffix(".csv")
        listed = Path(sizes) if sizes else None
        for needed in filter(None, (file, listed)):
            if not needed.is_file():
                raise DatasetError(f"{needed}: no such file; {LAYOUT}")
        inputs = [file, listed] if listed else [file, *subfolders(require_folder(frames, LAYOUT))]
        settings = ("youtube_bb", split, str(annotations), str(sizes))
        index = build_index(
            Path(index_path) if index_path else default_index_path(root, "youtube_bb", settings),
            read_videos,
            lambda: _units(file, frames, listed),
            state_of(settings, root, inputs),
            LAYOUT,
        )
        super().__init__(name, index, YouTubeBBFramePath(frames, index), same_category)


@dataclass(frozen=True)
class YouTubeBBFramePath:
    """The rule for a frame's path: the file of any object that the frame shows.

    Args:
        folder: Folder of the classes.
        index: The annotations, sorted by video.
    """

    folder: Path
    index: TrackIndex

    def __call__(self, video: str, frame: int) -> Path:
        """Return the path of a frame.

        Raises:
            KeyError: If there is none.
        """
        i = bisect.bisect_left(range(len(self.index)), video, key=self.index.video)
        while i < len(self.index) and self.index.video(i) == video:
            track = self.index.track(i)
            row = np.searchsorted(track.frames, frame)
            if row < len(track) and track.frames[row] == frame:
                return self.folder / frame_name(video, frame, track.track)
            i += 1
        raise KeyError(f"{video}, frame {frame}: no such frame in {self.index.path}")


@dataclass
class Videos:
    """A unit of work: some videos.

    Args:
        rows: Their rows.
        folder: Folder of the classes of frames, None where sizes are known.
        image_wh: Known width and height by place in ``rows.videos``, 0 where unknown.
        skipped: What was left out before.
    """

    rows: Rows | None
    folder: Path | None
    image_wh: np.ndarray | None = None
    skipped: list[Skipped] = field(default_factory=list)


def frame_name(video: str, second: int, track: str) -> str:
    """Return the path of a frame below the folder of the classes; ``track`` is class and object."""
    class_id, _, object_id = track.partition("-")
    return f"{class_id}/{video}_{1000 * int(second)}_{class_id}_{object_id}.jpg"


def read_videos(unit: Videos) -> Iterator[Entry]:
    """Yield the tracks of some videos and what is wrong with them."""
    yield from unit.skipped
    rows = unit.rows
    if rows is None or len(rows) == 0:
        return
    image_wh, wrong = _sizes(unit, rows)
    yield from wrong
    row_wh = image_wh[rows.video]
    with np.errstate(over="ignore"):
        boxes_xyxy = rows.boxes_xyxy * np.tile(row_wh, 2)
    occluded = np.zeros(len(rows), dtype=bool)
    frames = rows.second.astype(np.int32)
    starts = rows.starts()
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        if not row_wh[start].any():
            continue  # of a video without a size
        video, part = str(rows.videos[rows.video[start]]), slice(start, end)
        yield from cleaned(
            Track(
                video=video,
                track=rows.track(start),
                category=str(rows.categories[rows.category[start]]),
                frames=frames[part],
                boxes_xyxy=boxes_xyxy[part],
                visible=rows.present[part],
                occluded=occluded[part],
                image_wh=row_wh[part],
            ),
            f"video {video}",
        )


def _sizes(unit: Videos, rows: Rows) -> tuple[np.ndarray, list[Skipped]]:
    """Return the size of each video's frames, ``(len(rows.videos), 2)``, px; 0 if there is none."""
    wrong = []
    image_wh = unit.image_wh
    if image_wh is None:
        assert unit.folder is not None
        image_wh = np.zeros((len(rows.videos), 2), dtype=np.int64)
        for i in np.flatnonzero(np.diff(rows.video, prepend=-1)):
            name = frame_name(str(rows.videos[rows.video[i]]), rows.second[i], rows.track(int(i)))
            try:
                image_wh[rows.video[i]] = image_size(unit.folder / name)
            except BadEntryError as error:
                wrong.append(error.skipped())
    else:
        unknown = [i for i in np.unique(rows.video) if not image_wh[i].any()]
        if unknown:
            reason = "video without a usable size in the list of sizes"
            wrong.append(Skipped(reason, len(unknown), str(rows.videos[unknown[0]])))
    return image_wh, wrong


def _units(file: Path, frames: Path, sizes: Path | None) -> list[Videos]:
    rows = parse_annotations(file.read_bytes(), str(file))
    skipped = rows.skipped
    image_wh = None
    if sizes is not None:
        image_wh, wrong = parse_sizes(sizes.read_bytes(), rows.videos, str(sizes))
        skipped += wrong
    else:
        has_frame = _has_frame(rows, frames)
        # Tools that cut the frames may leave out those in which the object is absent.
        missing = rows.present & ~has_frame
        if missing.any():
            one = rows.taken(np.flatnonzero(missing)[:1])
            name = frame_name(str(one.videos[one.video[0]]), one.second[0], one.track(0))
            reason = "frame missing or unreadable"
            skipped.append(Skipped(reason, int(missing.sum()), str(frames / name)))
        rows = rows.taken(has_frame)
    units = [Videos(None, None, skipped=skipped)]
    if len(rows):
        ends = np.flatnonzero(np.diff(rows.video, append=-1)) + 1  # of each video
        cuts = [0, *ends[_VIDEOS_PER_UNIT - 1 : -1 : _VIDEOS_PER_UNIT], ends[-1]]
        for start, end in pairwise(cuts):
            part = rows.taken(slice(start, end))
            # Only the names and sizes of these videos travel to the process that reads them.
            first, last = part.video[0], part.video[-1] + 1
            part.videos, part.video = part.videos[first:last], part.video - first
            known = None if image_wh is None else image_wh[first:last]
            units.append(Videos(part, frames if known is None else None, known))
    return units


def _has_frame(rows: Rows, folder: Path) -> np.ndarray:
    """Return which rows' frames are on disk, bool ``(N,)``, by listing each folder once."""
    found = np.zeros(len(rows), dtype=bool)
    for class_id in np.unique(rows.class_id):
        at = np.flatnonzero(rows.class_id == class_id)
        part = rows.taken(at)
        listed = pa.array(_names(folder / str(class_id)), pa.binary())
        parts = [pa.array(part.videos[part.video], pa.string())]
        parts += [pa.array(v).cast(pa.string()) for v in (1000 * part.second, part.class_id)]
        last = pc.binary_join_element_wise(pa.array(part.object_id).cast(pa.string()), ".jpg", "")
        wanted = pc.binary_join_element_wise(*parts, last, "_")
        found[at] = array_of(pc.is_in(wanted.cast(pa.binary()), value_set=listed))
    return found


def _names(folder: Path) -> list[bytes]:
    return [name.encode(errors="surrogateescape") for name in file_names(folder, ".jpg")]
