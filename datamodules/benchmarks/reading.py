"""What the benchmark readers share: annotation files, numbered frames, checks of completeness."""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, overload

import numpy as np

from datamodules.errors import DatasetError
from datamodules.frames import IMAGE_SUFFIXES, read_frame
from lightning_trackers.boxes import xywh_to_xyxy
from lightning_trackers.evaluation.number_files import read_number_files
from lightning_trackers.evaluation.protocol import EvaluationProtocol
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

OTB_ATTRIBUTES = ("IV", "OPR", "SV", "OCC", "DEF", "MB", "FM", "IPR", "OV", "BC", "LR")
"""Order of the 0/1 rows in the ``anno/att`` folder of the OTB toolkit (not that of its paper)."""

_ONE_BASED = np.array([1.0, 1.0, 0.0, 0.0])


class NumberedFrames(Sequence[np.ndarray]):
    """Frames whose files are numbered; holds no list of paths, however long the video.

    Args:
        folder: Where the images are.
        pattern: File name with the number's format, e.g. ``{:06d}.jpg``.
        numbers: The images' numbers, in order.
    """

    def __init__(self, folder: Path, pattern: str, numbers: range) -> None:
        self.folder = folder
        self.pattern = pattern
        self.numbers = numbers

    @property
    def paths(self) -> tuple[Path, ...]:
        """The image files, in order."""
        return tuple(self._path(number) for number in self.numbers)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> "NumberedFrames": ...
    def __getitem__(self, index: int | slice) -> "np.ndarray | NumberedFrames":
        """Decode one frame, uint8 RGB ``(H, W, 3)``, or return a part that decodes later."""
        if isinstance(index, slice):
            return NumberedFrames(self.folder, self.pattern, self.numbers[index])
        return read_frame(self._path(self.numbers[index]))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.numbers)

    def _path(self, number: int) -> Path:
        return self.folder / self.pattern.format(number)


def numbered_frames(folder: Path, pattern: str, first: int, last: int) -> NumberedFrames:
    """Return the frames ``first`` to ``last`` of a folder.

    Raises:
        DatasetError: If the first or the last image is missing.
    """
    frames = NumberedFrames(folder, pattern, range(first, last + 1))
    for number in (first, last):
        path = folder / pattern.format(number)
        if not path.is_file():
            raise DatasetError(
                f"{path}: no such image; expected {pattern.format(first)} to "
                f"{pattern.format(last)}, {folder} holds {image_count(folder)} images. Unpack it "
                "again"
            )
    return frames


def all_frames(folder: Path, pattern: str, first: int) -> NumberedFrames:
    """Return every image of a folder where they are numbered without gaps from ``first`` on.

    Raises:
        DatasetError: If there is no image, or a number is missing.
    """
    return numbered_frames(folder, pattern, first, first + max(1, image_count(folder)) - 1)


def image_count(folder: Path) -> int:
    """Return how many images a folder holds, 0 if there is no such folder."""
    if not folder.is_dir():
        return 0
    return sum(
        f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".") for f in folder.iterdir()
    )


def read_annotation(file: Path) -> np.ndarray:
    """Return the boxes of a ground-truth file as they stand there, xywh, float64 ``(T, 4)``.

    Commas, tabs and blanks separate, also mixed; ``NaN`` marks an absent target.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty or a line is not four numbers.
    """
    with suppress(ValueError):  # mixed separators, or a bad line, which is to be named
        table, _ = read_number_files([file], 4)  # ten times as fast as the lines below
        if not np.isinf(table).any():
            return np.ascontiguousarray(table)
    boxes = []
    for number, line in enumerate(_lines(file), start=1):
        try:
            box = [float(value) for value in re.split(r"[,\s]+", line.strip())]
        except ValueError:
            box = []
        if len(box) != 4 or any(math.isinf(value) for value in box):
            raise DatasetError(
                f"{file}, line {number}: expected four numbers x,y,w,h, got {line!r}"
            )
        boxes.append(box)
    if not boxes:
        raise DatasetError(f"{file}: expected one line x,y,w,h per frame, got an empty file")
    return np.array(boxes)


def read_labels(file: Path, count: int, highest: int = 1) -> np.ndarray:
    """Return one whole number per frame, int ``(T,)``, from 0 to ``highest``.

    They stand one a line, or in one line with commas.

    Raises:
        DatasetError: If the file is missing, a value is not such a number, or the count differs.
    """
    if not file.is_file():
        raise DatasetError(f"{file}: missing; it holds one label per frame. Unpack it again")
    values = re.split(r"[,\s]+", "\n".join(_lines(file)).strip())
    for number, value in enumerate(values, start=1):
        if not value.isdecimal() or int(value) > highest:
            raise DatasetError(
                f"{file}, value {number}: expected a whole number from 0 to {highest}, got "
                f"{value!r}"
            )
    if len(values) != count:
        raise DatasetError(f"{file}: expected {count} labels, one a frame, got {len(values)}")
    return np.array(values, dtype=np.int64)


def read_attributes(file: Path, order: Sequence[str]) -> frozenset[str]:
    """Return the attribute codes of a sequence; none if there is no such file.

    Args:
        file: Codes with commas or blanks between them, or a row of 0/1.
        order: What the places of a 0/1 row stand for.

    Raises:
        DatasetError: If a row of 0/1 has another length.
    """
    if not file.is_file():
        return frozenset()
    words = re.findall(r"[A-Z0-9_]+", file.read_text(encoding="utf-8").upper())
    if not words or not set(words) <= {"0", "1"}:
        return frozenset(words)
    if len(words) != len(order):
        raise DatasetError(
            f"{file}: expected {len(order)} flags for {' '.join(order)}, got {len(words)}"
        )
    return frozenset(code for code, flag in zip(order, words, strict=True) if flag == "1")


def is_valid(boxes_xywh: np.ndarray) -> np.ndarray:
    """Return which boxes, as they stand in the file, count under the OTB rule, bool ``(T,)``."""
    return np.asarray((boxes_xywh > 0).all(axis=1))  # NaN is not greater than 0


def to_xyxy(boxes_xywh: np.ndarray) -> np.ndarray:
    """Convert boxes of a file in 1-based pixels to the project's, ``(T, 4)``."""
    return xywh_to_xyxy(boxes_xywh - _ONE_BASED)


def check_start(boxes_xywh: np.ndarray, file: Path, line: int = 1) -> None:
    """Check that a tracker can start from the first box.

    Raises:
        DatasetError: If it is not finite or has no area.
    """
    if not (np.isfinite(boxes_xywh[0]).all() and (boxes_xywh[0, 2:] > 0).all()):
        raise DatasetError(
            f"{file}, line {line}: expected a box of positive width and height to start from, got "
            f"x,y,w,h = {boxes_xywh[0].tolist()}"
        )


def check_lengths(name: str, frames: NumberedFrames, boxes_xywh: np.ndarray, file: Path) -> None:
    """Check that there is one line per frame.

    Raises:
        DatasetError: If the numbers differ.
    """
    if len(frames) != len(boxes_xywh):
        raise DatasetError(
            f"sequence {name}: expected one line per image, got {len(frames)} images in "
            f"{frames.folder} and {len(boxes_xywh)} lines in {file}. Are both of the same release?"
        )


def from_first_box(
    name: str, frames: Sequence[np.ndarray], file: Path, *, one_based: bool
) -> TrackingSequence:
    """Return a sequence whose ground truth is withheld, but for its first box.

    Raises:
        DatasetError: If the file does not hold one box that a tracker can start from.
    """
    boxes_xywh = read_annotation(file)
    if len(boxes_xywh) != 1:
        raise DatasetError(
            f"{file}: expected the first box alone, as the test set has it, got {len(boxes_xywh)} "
            "lines. Is this another part of the dataset?"
        )
    check_start(boxes_xywh, file)
    boxes_xyxy = np.full((len(frames), 4), np.nan)
    boxes_xyxy[0] = (to_xyxy if one_based else xywh_to_xyxy)(boxes_xywh)[0]
    return TrackingSequence(name, frames, boxes_xyxy, np.zeros(len(frames), bool))


def existing_folder(folder: Path, root: Path, layout: str) -> Path:
    """Return a folder that must be there.

    Raises:
        DatasetError: If it is missing; the message names the first missing folder on the way.
    """
    if not folder.is_dir():
        missing = next(p for p in [*reversed(folder.parents), folder] if not p.is_dir())
        raise DatasetError(f"{missing}: no such folder (root is {root}); {layout}")
    return folder


def check_complete(
    benchmark: str, root: Path, expected: Sequence[str] | int, found: Sequence[str]
) -> None:
    """Check that all sequences of a benchmark are there.

    Args:
        benchmark: Its name.
        root: Where they were looked for.
        expected: Their names, or their number where the names are not known beforehand.
        found: The names found.

    Raises:
        DatasetError: If one is missing.
    """
    remedy = (
        "Unpack the rest, or choose a part with sequences=[...] (its scores are then not the "
        "benchmark's)"
    )
    if isinstance(expected, int):
        if len(found) != expected:
            raise DatasetError(
                f"{root}: expected the {expected} sequences of {benchmark}, found {len(found)}. "
                f"{remedy}"
            )
        return
    missing = sorted(set(expected) - set(found), key=list(expected).index)
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DatasetError(
            f"{root}: expected the {len(expected)} sequences of {benchmark}, found "
            f"{len(expected) - len(missing)}; missing: {shown}. {remedy}"
        )


def assembled(
    name: str,
    root: Path,
    readers: Mapping[str, Callable[[], TrackingSequence]],
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    protocol: "EvaluationProtocol[Any] | None" = None,
) -> Benchmark:
    """Read the chosen sequences and make the benchmark of them.

    Args:
        name: Name of the benchmark.
        root: Named in errors.
        readers: What reads each sequence, by name, in the benchmark's order.
        sequences: Names of those to take, all by default.
        max_frames: Use at most so many frames of each, from its first.
        protocol: How it is tracked and scored.

    Raises:
        ValueError: If a name is unknown, ``max_frames`` is not positive, or a file is not as
            expected.
    """
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames: expected at least 1, got {max_frames}")
    chosen = list(readers) if sequences is None else list(sequences)
    for wanted in chosen:
        if wanted not in readers:
            near = difflib.get_close_matches(wanted, readers, n=1, cutoff=0.0)
            raise DatasetError(
                f"sequence {wanted!r}: not in {root}, which holds {len(readers)}"
                + (f"; nearest name: {near[0]!r}" if near else "")
            )
    return Benchmark(name, [_cut(readers[n](), max_frames) for n in chosen], protocol)


def _cut(sequence: TrackingSequence, frames: int | None) -> TrackingSequence:
    if frames is None or frames >= len(sequence):
        return sequence
    part = slice(frames)
    return TrackingSequence(
        sequence.name,
        sequence.frames[part],
        sequence.boxes_xyxy[part],
        sequence.valid[part],
        sequence.attributes,
        {code: flags[part] for code, flags in sequence.frame_attributes.items()},
        None if sequence.absent is None else sequence.absent[part],
        None if sequence.polygons is None else sequence.polygons[part],
        sequence.start_box_xyxy,
    )


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8-sig").rstrip().splitlines()
