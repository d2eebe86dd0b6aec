"""Plain-text annotations: one box a line, one flag a frame, one name a line."""

import numpy as np

from datamodules.sources.reading import BadEntryError
from lightning_trackers.boxes import xywh_to_xyxy

_SEPARATORS = bytes.maketrans(b",\t\r", b"   ")


def parse_boxes(data: bytes, where: str, origin: int) -> np.ndarray:
    """Return the boxes of a file of lines ``x,y,w,h``, xyxy, 0-based, float64 ``(T, 4)``, px.

    Commas, tabs and blanks separate; ``NaN`` is a number.

    Args:
        data: Content of the file.
        where: Its name, for messages.
        origin: Number of the file's first pixel, 0 or 1.

    Raises:
        BadEntryError: If it is empty or a line is not four numbers.
    """
    lines = data.translate(_SEPARATORS).rstrip().split(b"\n")
    try:
        text = [line.decode("ascii") for line in lines]
        if not all(line.strip() for line in text):
            # An empty line among others would shift all that follow by one frame.
            raise ValueError("an empty file or line")
        boxes = np.loadtxt(text, ndmin=2, comments=None)
        if boxes.shape[1] != 4:
            raise ValueError(f"{boxes.shape[1]} numbers a line")
    except (ValueError, OverflowError) as error:
        reason = "annotation is not one box of four numbers a line"
        raise BadEntryError(reason, f"{where} ({error})") from error
    with np.errstate(over="ignore", invalid="ignore"):  # numbers too large, infinite or none
        return xywh_to_xyxy(boxes - [origin, origin, 0, 0])


def parse_flags(data: bytes, where: str, count: int, largest: int = 1) -> np.ndarray:
    """Return one small number per frame, in one line or one a line, int64 ``(count,)``.

    Args:
        data: Content of the file.
        where: Its name, for messages.
        count: Number of frames.
        largest: Largest value.

    Raises:
        BadEntryError: If a value is not in 0 to ``largest``, or there is not one per frame.
    """
    reason = "flags are not one whole number per frame"
    try:
        flags = [int(value) for value in data.translate(_SEPARATORS).split()]
    except ValueError as error:
        raise BadEntryError(reason, f"{where} ({error})") from error
    if len(flags) != count:
        raise BadEntryError(reason, f"{where}: {len(flags)} flags, {count} boxes")
    if flags and not 0 <= min(flags) <= max(flags) <= largest:
        raise BadEntryError(reason, f"{where}: {min(flags)} to {max(flags)}, not 0 to {largest}")
    return np.array(flags, dtype=np.int64)
