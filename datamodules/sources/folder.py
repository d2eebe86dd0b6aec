"""One's own videos as a training source: sequences in the OTB layout, or images and one CSV file.

The first layout is that of ``datamodules/benchmarks/otb.py``. Of the second, a line of
``<root>/boxes.csv`` is one box, with its left top corner counted from 0 (as OpenCV does), and a video
is a folder of images::

    video,image,target,x,y,w,h,category,visible
    Park,0001.jpg,dog-1,10,20,30.5,40,dog,1

The columns may stand in any order; category and visible may be missing. In both layouts a frame's number
is its position among the images in numeric order.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from datamodules.benchmarks.otb import AnnotatedFolder, find_annotated_folders
from datamodules.benchmarks.reading import to_xyxy
from datamodules.errors import DatasetError
from datamodules.frames import image_files
from datamodules.sources.indexing import Entry, build_index, cleaned, state_of
from datamodules.sources.reading import (
    NO_CATEGORY,
    BadEntryError,
    image_sizes,
    require_folder,
    subfolders,
)
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Skipped, Track, TrackIndex
from lightning_trackers.boxes import xywh_to_xyxy

CSV_NAME = "boxes.csv"

LAYOUT = f"""expected layout:
  <root>/<Sequence>/img/0001.jpg, 0002.jpg, ...
  <root>/<Sequence>/groundtruth_rect.txt   (x,y,w,h per frame, 1-based)
or
  <root>/{CSV_NAME}                         (video,image,target,x,y,w,h[,category][,visible], 0-based)
  <root>/<video>/<image>"""

_REQUIRED = ("video", "image", "target", "x", "y", "w", "h")


class FolderSource(TrackSource):
    """Pairs from one's own videos; the index is made at the first use and after a change.

    Args:
        root: Folder of the sequence folders, or of ``boxes.csv`` and the folders of images.
        name: Name of the source in ids and messages.
        index_path: Where the index is kept, ``<root>/tracks.arrow`` by default.
        same_category: See :class:`~datamodules.sources.tracks.TrackSource`.

    Raises:
        DatasetError: If the layout is not as expected, or holds nothing to train on.
        PermissionError: If the index cannot be written.
    """

    def __init__(
        self,
        root: str | Path,
        name: str = "folder",
        index_path: str | Path | None = None,
        same_category: float = 0.0,
    ) -> None:
        root = Path(root)
        index = index_folder(root, index_path)
        images = "" if (root / CSV_NAME).is_file() else "img"
        super().__init__(name, index, FolderFramePath(root, images), same_category)


@dataclass(frozen=True)
class FolderFramePath:
    """The rule for a frame's path: its position among the images in numeric order.

    Args:
        root: Folder of the videos.
        images: Folder of the images in a video's, empty if there is none.
    """

    root: Path
    images: str = "img"

    def __call__(self, video: str, frame: int) -> Path:
        """Return the path of a frame."""
        return _listed(self.root / video / self.images)[frame]


def index_folder(root: str | Path, index_path: str | Path | None = None) -> TrackIndex:
    """Return the index of a folder of videos, reading the annotations only if they changed.

    Args:
        root: Folder of the videos.
        index_path: Where the index is kept, ``<root>/tracks.arrow`` by default.

    Raises:
        DatasetError: If the layout is not as expected, or holds nothing to train on.
        PermissionError: If the index cannot be written there.
    """
    root = require_folder(Path(root), LAYOUT)
    path = Path(index_path) if index_path is not None else root / "tracks.arrow"
    file = root / CSV_NAME
    if file.is_file():
        state = state_of("csv", root, [file, *subfolders(root)])
        return build_index(
            path, read_video, lambda: parse_csv(file.read_bytes(), file), state, LAYOUT
        )
    try:
        folders = find_annotated_folders(root)
    except (FileNotFoundError, ValueError) as error:
        raise DatasetError(str(error)) from error
    state = state_of(
        "otb", root, [f for found in folders for f in (found.annotation, found.image_folder)]
    )
    return build_index(path, read_sequence, lambda: folders, state, LAYOUT)


def read_sequence(found: AnnotatedFolder) -> Iterator[Entry]:
    """Yield the track of a sequence in the OTB layout and what is wrong with it."""
    try:
        images, boxes_xywh = found.read()
        image_wh = image_sizes(images)
    except BadEntryError as error:
        yield error.skipped()
        return
    except ValueError as error:
        yield Skipped("sequence whose annotation does not fit its images", 1, str(error))
        return
    # `read` may have left out images that carry no annotation, before the first one.
    first = image_files(found.image_folder).index(images[0])
    with np.errstate(over="ignore", invalid="ignore"):
        boxes_xyxy = to_xyxy(boxes_xywh)
    yield from cleaned(
        Track(
            video=found.folder.name,
            track=found.name,
            category=NO_CATEGORY,
            frames=np.arange(first, first + len(images)),
            boxes_xyxy=boxes_xyxy,
            # NaN is the layout's word for absent, no mistake.
            visible=np.isfinite(boxes_xywh).all(axis=1),
            occluded=np.zeros(len(images), dtype=bool),
            image_wh=image_wh,
        ),
        str(found.annotation),
        np.asarray(image_wh.any(axis=1)),
    )


@dataclass
class Video:
    """The lines of one video.

    Args:
        folder: Its folder; empty for what was left out before.
        where: The CSV file.
        boxes: By target: name of the image, box xywh, whether it shows the target.
        categories: By target.
        skipped: What could not be understood.
    """

    folder: Path
    where: str
    boxes: dict[str, list[tuple[str, list[float], bool]]]
    categories: dict[str, str]
    skipped: list[Skipped]


def parse_csv(data: bytes, file: Path) -> list[Video]:
    """Return the videos of a CSV file.

    Args:
        data: Content of the file.
        file: Its path; the videos lie beside it.

    Raises:
        DatasetError: If it is not UTF-8, or a column is missing.
    """
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        missing = [name for name in _REQUIRED if name not in (reader.fieldnames or ())]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file}: expected a CSV file in UTF-8 ({error}); {LAYOUT}") from error
    if missing:
        raise DatasetError(
            f"{file}, line 1: expected a header with {', '.join(_REQUIRED)}; "
            f"{', '.join(missing)} missing in {reader.fieldnames}; {LAYOUT}"
        )
    videos: dict[str, Video] = {}
    skipped: list[Skipped] = []
    while True:
        try:
            row = next(reader, None)
            if row is None:
                break
            _add(row, videos, file)
        except (ValueError, csv.Error) as error:
            reason = "line is not a box"
            skipped.append(Skipped(reason, 1, f"{file}, line {reader.line_num}: {error}"))
    return [Video(Path(), str(file), {}, {}, skipped), *(videos[name] for name in sorted(videos))]


def read_video(video: Video) -> Iterator[Entry]:
    """Yield the tracks of a video and what is wrong with them."""
    yield from video.skipped
    if not video.boxes:
        return
    files = image_files(video.folder) if video.folder.is_dir() else []
    if not files:
        yield Skipped("video without frames", 1, str(video.folder))
        return
    places = {file.name: i for i, file in enumerate(files)}
    try:
        image_wh = image_sizes(files)
    except BadEntryError as error:
        yield error.skipped()
        return
    for target, lines in video.boxes.items():
        unknown = [image for image, _, _ in lines if image not in places]
        if unknown:
            where = f"{video.where}: {video.folder / unknown[0]}"
            yield Skipped("frame missing or unreadable", len(unknown), where)
        known = sorted((line for line in lines if line[0] in places), key=lambda n: places[n[0]])
        if known:
            frames = np.array([places[image] for image, _, _ in known])
            with np.errstate(over="ignore", invalid="ignore"):
                boxes_xyxy = xywh_to_xyxy(np.array([box for _, box, _ in known]))
            yield from cleaned(
                Track(
                    video=video.folder.name,
                    track=target,
                    category=video.categories[target],
                    frames=frames,
                    boxes_xyxy=boxes_xyxy,
                    visible=np.array([visible for _, _, visible in known]),
                    occluded=np.zeros(len(known), dtype=bool),
                    image_wh=image_wh[frames],
                ),
                f"{video.where}, video {video.folder.name}",
                np.asarray(image_wh[frames].any(axis=1)),
            )


def _add(row: dict[str | None, str | None], videos: dict[str, Video], file: Path) -> None:
    """Add a line to its video.

    Raises:
        ValueError: If it is not as expected.
    """
    name, image, target = ((row[key] or "").strip() for key in ("video", "image", "target"))
    if not (name and image and target) or name in (".", "..") or {"/", "\\", "\0"} & set(name):
        raise ValueError(f"expected video (a folder beside the file), image and target, got {row}")
    box = [float(row[key] or "") for key in ("x", "y", "w", "h")]
    shown = (row.get("visible") or "1").strip()
    if shown not in ("0", "1"):
        raise ValueError(f"expected visible to be 0 or 1, got {shown!r}")
    video = videos.setdefault(name, Video(file.parent / name, str(file), {}, {}, []))
    video.boxes.setdefault(target, []).append((image, box, shown == "1"))
    video.categories.setdefault(target, (row.get("category") or "").strip() or NO_CATEGORY)


@lru_cache(maxsize=4096)
def _listed(folder: Path) -> list[Path]:
    return image_files(folder)
