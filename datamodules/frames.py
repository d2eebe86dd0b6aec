"""Frames on disk, decoded when asked for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from lightning_trackers.crops import Window, crop

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})

_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG", b"IEND"


def read_frame(path: str | Path) -> np.ndarray:
    """Decode an image file, uint8 RGB ``(H, W, 3)``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, cut short, or not an image.
    """
    data = Path(path).read_bytes()
    # OpenCV before 5 fills what is missing of a cut-off JPEG with grey and says nothing.
    if not data or _is_cut_short(data):
        raise ValueError(f"{path}: the image is cut short ({len(data)} bytes); copy it again")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path}: not an image that OpenCV can decode; copy or convert it again")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder in numeric order: 2.jpg before 10.jpg."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES]
    # Names that begin with a dot are leftovers of other programs (macOS writes ._0001.jpg).
    return sorted((f for f in files if not f.name.startswith(".")), key=_numeric_order)


class FrameFiles(Sequence[np.ndarray]):
    """The frames of image files; indexing decodes one, slicing decodes none.

    Args:
        paths: Image files, in order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> "FrameFiles": ...
    def __getitem__(self, index: int | slice) -> "np.ndarray | FrameFiles":
        """Decode one frame, uint8 RGB ``(H, W, 3)``, or return a part that decodes later."""
        if isinstance(index, slice):
            return FrameFiles(self.paths[index])
        return read_frame(self.paths[index])

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.paths)


@dataclass
class FileView:
    """A target in an image file; the file is decoded at the first crop.

    Args:
        path: Image file.
        box_xyxy: Target box in the frame, shape ``(4,)``, px.
    """

    path: Path
    box_xyxy: np.ndarray

    @cached_property
    def frame(self) -> np.ndarray:
        """The whole frame, uint8 RGB ``(H, W, 3)``."""
        return read_frame(self.path)

    def crop(self, window: Window) -> np.ndarray:
        """Return what the window shows, uint8 RGB ``(size, size, 3)``."""
        return crop(self.frame, window)


def _is_cut_short(data: bytes) -> bool:
    if data.startswith(_JPEG):
        # Inside a scan the encoder escapes both markers; a thumbnail's end lies before the scan.
        return data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN) or _JPEG_SCAN not in data
    return data.startswith(_PNG) and _PNG_END not in data[-64:]


def _numeric_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Return a key that compares runs of digits as numbers."""
    parts = re.split(r"(\d+)", file.name.lower())
    # re.split alternates text and digits, so equal positions hold equal kinds.
    return [(int(p), "") if i % 2 else (0, p) for i, p in enumerate(parts)], file.name
