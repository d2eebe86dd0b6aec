"""A folder of sequences in the OTB layout as a training source (a user's own videos).

The layout is that of ``datamodules/benchmarks/otb.py``. A video is a sequence folder, a frame's
number is its position among the images in numeric order.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from datamodules.benchmarks.otb import AnnotatedFolder, find_annotated_folders, to_xyxy
from datamodules.frames import image_files, read_frame
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Track, TrackIndex, covers_image

log = logging.getLogger(__name__)

CATEGORY = "object"
"""The layout names no classes."""


class FolderSource(TrackSource):
    """Pairs from a folder of sequences; the index is made at the first use and after a change.

    Args:
        root: Folder of the sequence folders.
        name: Name of the source in ids and messages.
        index_path: Where the index is kept, ``<root>/tracks.arrow`` by default.
    """

    def __init__(
        self, root: str | Path, name: str = "folder", index_path: str | Path | None = None
    ) -> None:
        root = Path(root)
        super().__init__(name, index_folder(root, index_path), FolderFramePath(root))


@dataclass(frozen=True)
class FolderFramePath:
    """The rule for a frame's path: its position among the images in numeric order.

    Args:
        root: Folder of the sequence folders.
    """

    root: Path

    def __call__(self, video: str, frame: int) -> Path:
        """Return the path of a frame."""
        return _listed(self.root / video / "img")[frame]


def index_folder(root: str | Path, index_path: str | Path | None = None) -> TrackIndex:
    """Return the index of a folder of sequences, reading the annotations only if they changed.

    A frame whose ground truth is absent (NaN), without area or outside the image becomes invisible
    and is reported in the log.

    Args:
        root: Folder of the sequence folders.
        index_path: Where the index is kept, ``<root>/tracks.arrow`` by default.

    Raises:
        FileNotFoundError: If the root or a part of the expected layout is missing.
        ValueError: If annotations and images do not belong together.
        PermissionError: If the index cannot be written there.
    """
    root = Path(root)
    path = Path(index_path) if index_path is not None else root / "tracks.arrow"
    folders = find_annotated_folders(root)
    origin = _state_of(folders)
    if path.is_file():
        index = TrackIndex.open(path)
        if index.origin == origin:
            return index
    try:
        return TrackIndex.write(path, _read_tracks(folders), origin)
    except PermissionError as error:
        raise PermissionError(
            f"{path}: the index cannot be written there ({error.strerror}); name a writable file "
            "with index_path"
        ) from error


def _read_tracks(folders: list[AnnotatedFolder]) -> Iterator[Track]:
    for found in folders:
        images, boxes_xywh = found.read()
        height, width = read_frame(images[0]).shape[:2]
        # `read` may have left out images that carry no annotation, before the first one.
        first = image_files(found.image_folder).index(images[0])
        boxes_xyxy = to_xyxy(boxes_xywh)
        image_wh = np.full((len(images), 2), (width, height))
        visible = covers_image(boxes_xyxy, image_wh)
        if not visible.all():
            line = int(np.flatnonzero(~visible)[0])
            log.warning(
                "%s: %d of %d boxes are absent, without area or outside the image of %d × %d px; "
                "their frames are not used. The first is line %d: x,y,w,h = %s",
                *(found.annotation, int((~visible).sum()), len(visible), width, height),
                *(line + 1, boxes_xywh[line].tolist()),
            )
        if visible.any():
            yield Track(
                video=found.folder.name,
                track=found.name,
                category=CATEGORY,
                frames=np.arange(first, first + len(images)),
                boxes_xyxy=boxes_xyxy,
                visible=visible,
                occluded=np.zeros(len(images), dtype=bool),
                image_wh=image_wh,
            )


def _state_of(folders: list[AnnotatedFolder]) -> str:
    """Return a text that changes when an annotation, or the list of images, does."""
    digest = hashlib.sha256()
    for found in folders:
        annotation, images = found.annotation.stat(), found.image_folder.stat()
        state = (found.name, annotation.st_size, annotation.st_mtime_ns, images.st_mtime_ns)
        digest.update(repr(state).encode())
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _listed(folder: Path) -> list[Path]:
    return image_files(folder)
