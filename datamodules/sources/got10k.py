"""GOT-10k as a training source.

A frame shows its target if it is not marked absent and its cover is above 0; where the cover is not
full, the target is occluded. Boxes are 1-based in the files.

Source: Huang, Zhao, Huang, GOT-10k: A Large High-Diversity Benchmark for Generic Object Tracking in
the Wild, TPAMI 2021, and its Python toolkit; visibility as in pytracking.
"""

import configparser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.errors import DatasetError
from datamodules.sources.indexing import Entry, build_index, default_index_path, state_of
from datamodules.sources.reading import (
    NO_CATEGORY,
    BadEntryError,
    FramePattern,
    read_bytes,
    require_folder,
)
from datamodules.sources.text import parse_boxes, parse_flags
from datamodules.sources.tracks import TrackSource
from datamodules.sources.videos import one_target

LAYOUT = """expected layout:
  <root>/train/list.txt
  <root>/train/GOT-10k_Train_000001/00000001.jpg, ..., groundtruth.txt, absence.label, cover.label,
    meta_info.ini
  <root>/val/list.txt, ..."""

SPLITS = ("train", "val")
FULLY_COVERED = 8
"""The largest cover label: all of the target shows."""


class GOT10kSource(TrackSource):
    """Pairs from GOT-10k; the index is made at the first use and after a change.

    Args:
        root: Folder that holds ``train`` and ``val``.
        split: train or val.
        sequences: A text file that says which of the split's sequences to use, by default all: one
            name a line, or one position in ``list.txt`` counted from 0, as pytracking's files do.
        exclude: A file of the same form with sequences to leave out, e.g. those that the VOT
            challenge forbids.
        name: Name of the source in ids and messages.
        index_path: Where the index is kept, beside the data by default.
        same_category: See :class:`~datamodules.sources.tracks.TrackSource`.

    Raises:
        DatasetError: If the layout is not as expected, a list names an unknown sequence, or there is
            nothing to train on.
        ValueError: If the split is unknown.
        PermissionError: If the index cannot be written.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        sequences: str | Path | None = None,
        exclude: str | Path | None = None,
        name: str = "got10k",
        index_path: str | Path | None = None,
        same_category: float = 0.0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"got10k: expected split {' or '.join(SPLITS)}, got {split!r}")
        root = Path(root)
        folder = require_folder(root / split, LAYOUT)
        chosen = _chosen(folder / "list.txt", sequences, exclude)
        settings = ("got10k", split, tuple(chosen))
        parts = ("", "groundtruth.txt", "absence.label", "cover.label", "meta_info.ini")
        index = build_index(
            Path(index_path) if index_path else default_index_path(root, "got10k", settings),
            read_video,
            lambda: [folder / video for video in chosen],
            state_of(settings, root, [folder / video / part for video in chosen for part in parts]),
            LAYOUT,
        )
        frame_path = FramePattern(folder, "{video}/{frame:08d}.jpg")
        super().__init__(name, index, frame_path, same_category)


@dataclass(frozen=True)
class Annotation:
    """What the files of a video say.

    Args:
        boxes_xyxy: Boxes, 0-based, ``(T, 4)``, px.
        visible: Frames that show the target, bool ``(T,)``.
        occluded: Frames that show it in part, bool ``(T,)``.
    """

    boxes_xyxy: np.ndarray
    visible: np.ndarray
    occluded: np.ndarray


def parse_annotation(groundtruth: bytes, absence: bytes, cover: bytes, where: str) -> Annotation:
    """Parse the three files that have a line per frame.

    Raises:
        BadEntryError: If one is malformed or their lengths differ.
    """
    boxes_xyxy = parse_boxes(groundtruth, where, origin=1)
    absent = parse_flags(absence, f"{where}, absence.label", len(boxes_xyxy)) == 1
    covered = parse_flags(cover, f"{where}, cover.label", len(boxes_xyxy), FULLY_COVERED)
    visible = ~absent & (covered > 0)
    return Annotation(boxes_xyxy, visible, visible & (covered < FULLY_COVERED))


def parse_category(meta_info: bytes, where: str) -> str:
    """Return ``object_class`` of a ``meta_info.ini``.

    Raises:
        BadEntryError: If there is none.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(meta_info.decode())
        category = parser.get("METAINFO", "object_class")
    except (configparser.Error, ValueError) as error:  # UnicodeDecodeError is a ValueError
        reason = f"no object_class in meta_info.ini; category {NO_CATEGORY!r} is used"
        first = str(error).splitlines()[0]
        raise BadEntryError(reason, f"{where} ({first})") from error
    return category.strip() or NO_CATEGORY


def read_video(folder: Path) -> Iterator[Entry]:
    """Yield the track of a video and what is wrong with it."""
    where = str(folder / "groundtruth.txt")
    try:
        annotation = parse_annotation(
            read_bytes(folder / "groundtruth.txt"),
            read_bytes(folder / "absence.label"),
            read_bytes(folder / "cover.label"),
            where,
        )
    except BadEntryError as error:
        yield error.skipped()
        return
    category, meta_info = NO_CATEGORY, folder / "meta_info.ini"
    try:
        category = parse_category(read_bytes(meta_info), str(meta_info))
    except BadEntryError as error:
        yield error.skipped()
    yield from one_target(
        folder.name,
        category,
        annotation.boxes_xyxy,
        annotation.visible,
        annotation.occluded,
        folder,
        "{:08d}.jpg",
        1,
        where,
    )


def _chosen(file: Path, sequences: str | Path | None, exclude: str | Path | None) -> list[str]:
    if not file.is_file():
        raise DatasetError(f"{file}: no such file; {LAYOUT}")
    listed = list(dict.fromkeys(_lines(file)))
    if not listed:
        raise DatasetError(f"{file}: expected one sequence name a line, got none; {LAYOUT}")
    wanted = listed if sequences is None else _resolved(Path(sequences), listed, file)
    unwanted = set() if exclude is None else set(_resolved(Path(exclude), listed, file))
    chosen = [video for video in wanted if video not in unwanted]
    if not chosen:
        raise DatasetError(f"{file}: no sequence is left of {sequences or file} less {exclude}")
    return chosen


def _resolved(names: Path, listed: list[str], file: Path) -> list[str]:
    known = set(listed)
    chosen = []
    for number, line in enumerate(_lines(names), start=1):
        position = int(line) if line.isascii() and line.isdigit() and len(line) < 9 else None
        if position is not None and position < len(listed):
            chosen.append(listed[position])
        elif line in known:
            chosen.append(line)
        else:
            raise DatasetError(
                f"{names}, entry {number}: expected a name in {file} or a position from 0 to "
                f"{len(listed) - 1}, got {line!r}"
            )
    return chosen


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{file}: expected a text file of one sequence a line ({error})"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]
