"""What readers of training sets need of files: listings, contents, image sizes, and an error."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.errors import DatasetError
from datamodules.tracks import Skipped

NO_CATEGORY = "object"
"""The category where a dataset names none."""

_MAX_SIDE = int(np.iinfo(np.uint16).max)
_ORIENTATION = 0x0112  # EXIF tag; values from 5 on swap width and height


class BadEntryError(DatasetError):
    """One entry of a dataset that cannot be used; readers count it and go on.

    Args:
        reason: What is wrong, the same words for all such entries.
        where: File, line or value.
    """

    def __init__(self, reason: str, where: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason, self.where = reason, where

    def skipped(self) -> Skipped:
        """Return the entry as one that was left out."""
        return Skipped(self.reason, 1, self.where)


@dataclass(frozen=True)
class FramePattern:
    """The rule for a frame's path as a format string.

    Args:
        folder: Where the pattern begins.
        pattern: For example ``{video}/{frame:06d}.JPEG``.
    """

    folder: Path
    pattern: str

    def __call__(self, video: str, frame: int) -> Path:
        """Return the path of a frame."""
        return self.folder / self.pattern.format(video=video, frame=frame)


def require_folder(folder: Path, layout: str) -> Path:
    """Return the folder if it is there.

    Raises:
        DatasetError: If not; names the first part of the path that is missing.
    """
    if folder.is_dir():
        return folder
    missing = next(p for p in [*reversed(folder.parents), folder] if not p.is_dir())
    raise DatasetError(f"{missing}: no such folder (wanted {folder}); {layout}")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without asking for each one's state."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    return [folder / name for name in sorted(names)]


def file_names(folder: Path, suffix: str = "") -> list[str]:
    """Return the names of the files in a folder that end so, sorted; none if there is no folder.

    Names that begin with a dot are leftovers of other programs (macOS writes ``._0001.jpg``).
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208  # a Path per frame would take most of the time
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(n for n in names if n.endswith(suffix) and not n.startswith("."))


def read_bytes(path: Path) -> bytes:
    """Return what is in a file.

    Raises:
        BadEntryError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadEntryError("annotation file missing", str(path)) from None
    except OSError as error:
        raise BadEntryError(
            "annotation file cannot be read", f"{path} ({error.strerror})"
        ) from error


def check_size(width: float, height: float, where: str) -> tuple[int, int]:
    """Return an image size as whole numbers.

    Raises:
        BadEntryError: If it is not the size of an image.
    """
    for side in (width, height):
        if not (1 <= side <= _MAX_SIDE and float(side).is_integer()):
            raise BadEntryError("image size is not usable", f"{where}: {width} × {height} px")
    return int(width), int(height)


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image as decoded, reading its header only.

    Raises:
        BadEntryError: If it is not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) >= 5
    # Pillow reports damage with many kinds of error, SyntaxError and struct.error among them.
    except Exception as error:
        raise BadEntryError("image cannot be read", f"{path} ({error})") from error
    return check_size(height, width, str(path)) if turned else check_size(width, height, str(path))


def image_sizes(paths: Sequence[Path]) -> np.ndarray:
    """Return the sizes of a video's frames from few headers, ``(len(paths), 2)``, px.

    The first and the last frame are looked at, and every frame where these differ.

    Raises:
        BadEntryError: If neither end is an image.
    """
    try:
        first, last = image_size(paths[0]), image_size(paths[-1])
    except BadEntryError:
        first, last = (0, 0), (-1, -1)
    if first == last:
        return np.tile(np.array(first), (len(paths), 1))
    sizes = np.zeros((len(paths), 2), dtype=np.int64)
    failure = None
    for size, path in zip(sizes, paths, strict=True):
        try:
            size[:] = image_size(path)
        except BadEntryError as error:  # a damaged frame must not cost the video
            failure = failure or error
    if failure and not sizes.any():
        raise failure
    return sizes
