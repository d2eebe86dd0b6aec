"""Encoded frames, decoded when asked for and no finer than a crop shows them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from lightning_trackers.crops import View, Window, crop

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})

_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG", b"IEND"
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class FrameError(ValueError):
    """An image is missing, cut short or not an image; the message begins with its name."""


def read_frame(path: str | Path) -> np.ndarray:
    """Decode an image file, uint8 RGB ``(H, W, 3)``.

    Raises:
        FileNotFoundError: If there is no such file.
        FrameError: If it is empty, cut short, or not an image.
    """
    return decode_image(Path(path).read_bytes(), str(path))


def decode_image(data: bytes, name: str, reduction: int = 1) -> np.ndarray:
    """Decode an image, uint8 RGB ``(H, W, 3)`` or, reduced, ``(ceil(H / k), ceil(W / k), 3)``.

    The pixel (i, j) of an image that is reduced k times shows the square of the frame from
    (k i, k j) to (k i + k, k j + k), so that frame coordinates are divided by k and by nothing else.
    The decoder leaves out fine detail instead of decoding and averaging it, which is faster.

    Args:
        data: A whole image file.
        name: What to call it in messages.
        reduction: 1, 2, 4 or 8; other than 1 for JPEG only.

    Raises:
        FrameError: If it is empty, cut short, or not an image.
        ValueError: If this kind of image cannot be reduced that much.
    """
    # OpenCV before 5 fills what is missing of a cut-off JPEG with grey and says nothing.
    if not data or _is_cut_short(data):
        raise FrameError(f"{name}: the image is cut short ({len(data)} bytes); copy it again")
    if reduction not in _REDUCED or (reduction > 1 and not data.startswith(_JPEG)):
        raise ValueError(
            f"{name}: expected a reduction of 1, or of 2, 4 or 8 for a JPEG, got {reduction}"
        )
    image = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[reduction])
    if image is None:
        raise FrameError(f"{name}: not an image that OpenCV can decode; copy or convert it again")
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


class Picture:
    """An encoded image that is read at the first crop and decoded as finely as its crops need.

    A crop that shows the frame at 1/2 of its size or smaller is cut out of a reduced decoding; it
    differs from the crop of the full frame by what two ways of averaging pixels differ.

    Args:
        read: Returns the encoded image.
        name: What to call it in messages.
    """

    def __init__(self, read: Callable[[], bytes], name: str) -> None:
        self._read = read
        self._name = name
        self._decoded: tuple[int, np.ndarray] | None = None

    def crop(self, window: Window) -> np.ndarray:
        """Return what the window shows, uint8 RGB ``(size, size, 3)``.

        Raises:
            FrameError: If the image cannot be read or decoded.
        """
        reduction, image = self.decoded(window.side / window.size)
        k = float(reduction)
        return crop(image, Window(window.cx / k, window.cy / k, window.side / k, window.size))

    def decoded(self, step: float = 1.0) -> tuple[int, np.ndarray]:
        """Return how much the frame is reduced, and it, with pixels of ``step`` frame px or less.

        Raises:
            FrameError: If the image cannot be read or decoded.
        """
        reduction = 1
        if self._data.startswith(_JPEG):
            reduction = max(k for k in _REDUCED if k <= max(1.0, step))
        # What is decoded already serves coarser crops too.
        if self._decoded is None or self._decoded[0] > reduction:
            self._decoded = reduction, decode_image(self._data, self._name, reduction)
        return self._decoded

    @cached_property
    def _data(self) -> bytes:
        try:
            return self._read()
        except OSError as error:
            raise FrameError(f"{self._name}: {error.strerror or error}") from error


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
    def picture(self) -> Picture:
        """The image."""
        return Picture(Path(self.path).read_bytes, str(self.path))

    def crop(self, window: Window) -> np.ndarray:
        """Return what the window shows, uint8 RGB ``(size, size, 3)``."""
        return self.picture.crop(window)

    def frame(self) -> np.ndarray:
        """Return the whole frame, uint8 RGB ``(H, W, 3)``."""
        return self.picture.decoded()[1]


@dataclass
class JpegView:
    """A target in an encoded image that is in memory already, e.g. out of a shard.

    Args:
        data: The encoded image.
        box_xyxy: Target box in the image, shape ``(4,)``, px.
        name: What to call the image in messages, e.g. shard and member.
    """

    data: bytes
    box_xyxy: np.ndarray
    name: str

    @cached_property
    def picture(self) -> Picture:
        """The image."""
        return Picture(lambda: self.data, self.name)

    def crop(self, window: Window) -> np.ndarray:
        """Return what the window shows, uint8 RGB ``(size, size, 3)``."""
        return self.picture.crop(window)


def share_picture(first: View, second: View) -> None:
    """Let two views of one image decode it once; other views stay as they are."""
    if isinstance(first, FileView) and isinstance(second, FileView):
        if first.path == second.path:
            second.picture = first.picture
    elif isinstance(first, JpegView) and isinstance(second, JpegView):  # noqa: SIM102
        if first.data == second.data:
            second.picture = first.picture


def _is_cut_short(data: bytes) -> bool:
    if data.startswith(_JPEG):
        if data.endswith(_JPEG_END):  # the usual case, without a search through the whole file
            return False
        # Inside a scan the encoder escapes both markers; a thumbnail's end lies before the scan.
        return data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN) or _JPEG_SCAN not in data
    return data.startswith(_PNG) and _PNG_END not in data[-64:]


def _numeric_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Return a key that compares runs of digits as numbers."""
    parts = re.split(r"(\d+)", file.name.lower())
    # re.split alternates text and digits, so equal positions hold equal kinds.
    return [(int(p), "") if i % 2 else (0, p) for i, p in enumerate(parts)], file.name
