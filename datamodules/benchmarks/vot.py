"""VOT2013 to VOT2019, short-term: sequences with polygons and tags, run with re-initialisation.

::

    <root>/list.txt                          names of the sequences; without it: all folders
    <root>/<sequence>/00000001.jpg ...       until VOT2015; from then on in color/
    <root>/<sequence>/groundtruth.txt        x,y,w,h or x1,y1,...,x4,y4 per frame
    <root>/<sequence>/<name>.tag             0/1 per frame, a missing end is 0; VOT2013/14: .label
    <root>/<sequence>/sequence               optional; channels.color=color/%08d.jpg

Coordinates are used as they stand: the toolkits count pixels from 0. (They name the first frame 1.)

Source: Kristan et al., the VOT2013 to VOT2019 challenge results, ICCV and ECCV workshops.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.benchmarks.annotations import NoFrames
from datamodules.benchmarks.reading import (
    NumberedFrames,
    all_frames,
    assembled,
    check_complete,
    existing_folder,
)
from datamodules.errors import DatasetError
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.supervised import VOTSupervised, box_of_region
from lightning_trackers.evaluation.vot_results import read_regions
from lightning_trackers.metrics.functional.region_overlap import region_array
from lightning_trackers.metrics.functional.vot import TAGS

SEQUENCES = {2013: 16, 2014: 25, 2015: 60, 2016: 60, 2017: 60, 2018: 60, 2019: 60}
"""Number of sequences of each year."""

OLD_TAGS = {"size_change": "size", "motion_change": "motion"}
"""What VOT2013 calls some tags."""

LAYOUT = """expected layout:
  <root>/list.txt
  <root>/<sequence>/groundtruth.txt, <name>.tag
  <root>/<sequence>/color/00000001.jpg ...   (until VOT2015 <root>/<sequence>/00000001.jpg ...)"""


def vot_benchmark(
    root: str | Path,
    year: int,
    name: str | None = None,
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    protocol: VOTSupervised | None = None,
) -> Benchmark:
    """Read a year's sequences; frames are decoded only while tracking.

    Args:
        root: Folder of the sequences, or one that holds it as ``vot<year>``.
        year: 2013 to 2019.
        name: Name of the benchmark in log keys and result folders; ``vot<year>`` by default.
        sequences: Names of the sequences to take; all by default, and then all must be there.
        max_frames: Use at most so many frames of each, from its first.
        protocol: How it is tracked and scored; the year's supervised experiment by default.

    Raises:
        DatasetError: If a sequence is missing, a file is not as expected, or a name is unknown.
        ValueError: If the year is unknown.
    """
    protocol = protocol or VOTSupervised(year)
    root = Path(root)
    folder = next((root / n for n in (f"vot{year}", f"VOT{year}") if (root / n).is_dir()), root)
    folder = existing_folder(folder, root, LAYOUT)
    list_file = folder / "list.txt"
    if list_file.is_file():
        names = list_file.read_text(encoding="utf-8").split()
    else:
        names = sorted(f.parent.name for f in folder.glob("*/groundtruth.txt"))
    found = [n for n in names if (folder / n).is_dir()]
    if sequences is None:
        check_complete(f"VOT{year}", folder, SEQUENCES[year], names)
        check_complete(f"VOT{year}", folder, names, found)
    readers = {n: partial(_sequence, folder / n) for n in found}
    return assembled(name or f"vot{year}", folder, readers, sequences, max_frames, protocol)


def annotated_vot(
    file: str | Path,
    year: int,
    name: str | None = None,
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    protocol: VOTSupervised | None = None,
) -> Benchmark:
    """Read a year's annotation from a json file of pysot: enough to score results.

    Args:
        file: ``VOT<year>.json``, with ``gt_rect``, tags, and ``width`` and ``height`` of the frames
            of each sequence.
        year: 2013 to 2019.
        name: Name of the benchmark; ``vot<year>`` by default.
        sequences: Names of the sequences to take; all by default.
        max_frames: Use at most so many frames of each, from its first.
        protocol: How results are scored; the year's supervised experiment by default.

    Raises:
        DatasetError: If the file is missing or not as expected.
        ValueError: If the year is unknown.
    """
    protocol = protocol or VOTSupervised(year)
    file = Path(file)
    if not file.is_file():
        raise DatasetError(f"{file}: no such file; expected pysot's VOT{year}.json")
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise DatasetError(f"{file}: not a json file ({error}); download it again") from error
    if not isinstance(content, dict) or not content:
        raise DatasetError(f"{file}: expected one entry per sequence, got {type(content).__name__}")
    readers = {key: partial(_from_json, file, key, value) for key, value in content.items()}
    if sequences is None:
        check_complete(f"VOT{year}", file, SEQUENCES[year], list(content))
    return assembled(name or f"vot{year}", file, readers, sequences, max_frames, protocol)


def _sequence(folder: Path) -> TrackingSequence:
    annotation = folder / "groundtruth.txt"
    if not annotation.is_file():
        raise DatasetError(f"{annotation}: missing; {LAYOUT}")
    try:
        regions = read_regions(annotation, codes=False)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    frames = _frames(folder)
    if len(frames) != len(regions):
        raise DatasetError(
            f"sequence {folder.name}: expected one line per image, got {len(frames)} images in "
            f"{frames.folder} and {len(regions)} lines in {annotation}. Are both of the same year?"
        )
    tags = {tag: _tag(folder, tag, len(frames)) for tag in TAGS}
    return _from_regions(folder.name, frames, regions, tags, str(annotation))


def _from_json(file: Path, name: str, entry: Mapping[str, object]) -> TrackingSequence:
    width, height, rows = (entry.get(key) for key in ("width", "height", "gt_rect"))
    if not isinstance(width, int) or not isinstance(height, int) or not isinstance(rows, list):
        raise DatasetError(
            f"{file}, sequence {name}: expected gt_rect (a list) and width and height (whole "
            f"numbers, px), got {sorted(entry)}. pysot reads the size from the first image: add "
            "both keys"
        )
    try:
        regions = region_array(rows)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{file}, sequence {name}, gt_rect: {error}") from error
    tags = {}
    for tag in TAGS:
        flags = np.zeros(len(rows), dtype=bool)
        given = entry.get(tag, [])
        if not isinstance(given, list) or len(given) > len(rows) or not set(given) <= {0, 1}:
            raise DatasetError(
                f"{file}, sequence {name}, {tag}: expected at most {len(rows)} flags 0 or 1, got "
                f"{len(given) if isinstance(given, list) else given!r}"
            )
        flags[: len(given)] = given
        tags[tag] = flags
    frames = NoFrames(name, len(rows), (width, height))
    return _from_regions(name, frames, regions, tags, f"{file}, sequence {name}")


def _from_regions(
    name: str,
    frames: Sequence[np.ndarray],
    regions: np.ndarray,
    tags: Mapping[str, np.ndarray],
    where: str,
) -> TrackingSequence:
    boxes_xyxy = np.stack([box_of_region(region) for region in regions])
    valid = np.isfinite(boxes_xyxy).all(axis=1) & (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(
        axis=1
    )
    if not valid.all():
        line = int(np.argmin(valid)) + 1
        raise DatasetError(
            f"{where}, line {line}: expected a region of positive width and height, got "
            f"{regions[line - 1].tolist()}"
        )
    is_polygon = np.isfinite(regions[:, 4])
    polygons = np.where(is_polygon[:, None], regions, np.nan)
    return TrackingSequence(
        name,
        frames,
        boxes_xyxy,
        valid,
        frozenset(tag for tag, flags in tags.items() if flags.any()),
        frame_attributes=tags,
        polygons=polygons if is_polygon.any() else None,
    )


def _frames(folder: Path) -> NumberedFrames:
    """Return the frames of a sequence, where its ``sequence`` file says or where years keep them."""
    parent, pattern = ("color" if (folder / "color").is_dir() else "."), "%08d.jpg"
    description = folder / "sequence"
    if description.is_file():
        text = description.read_text(encoding="utf-8")
        channel = re.search(r"^\s*channels\.color\s*=\s*(\S+)\s*$", text, re.MULTILINE)
        if channel:
            parent, _, pattern = f"./{channel[1]}".rpartition("/")
    number = re.fullmatch(r"([^%{}]*)%0(\d+)d([^%{}]*)", pattern)
    if number is None:
        raise DatasetError(
            f"{description}: expected channels.color=<folder>/%08d.jpg or the like, got {pattern!r}"
        )
    return all_frames(folder / parent, f"{number[1]}{{:0{number[2]}d}}{number[3]}", first=1)


def _tag(folder: Path, tag: str, count: int) -> np.ndarray:
    """Return the flags of a tag, bool ``(count,)``; False where its file ends or is missing."""
    flags = np.zeros(count, dtype=bool)
    names = [tag, OLD_TAGS[tag]] if tag in OLD_TAGS else [tag]
    files = [folder / f"{name}{suffix}" for name in names for suffix in (".tag", ".label")]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        return flags
    values = file.read_text(encoding="utf-8-sig").split()
    for number, value in enumerate(values, start=1):
        if value not in ("0", "1"):
            raise DatasetError(f"{file}, line {number}: expected 0 or 1, got {value!r}")
    if len(values) > count:
        raise DatasetError(
            f"{file}, line {count + 1}: expected at most {count} lines, one a frame, got "
            f"{len(values)}. Are tags and ground truth of the same year?"
        )
    flags[: len(values)] = np.array(values) == "1"
    return flags
