"""OTB-2013, OTB-50, OTB-2015, and a user's own sequences in their layout.

::

    <root>/<Sequence>/img/0001.jpg ...         or .png, any numbering
    <root>/<Sequence>/groundtruth_rect.txt     x,y,w,h per frame, 1-based px
    <root>/<Sequence>/groundtruth_rect.1.txt   several targets: <Sequence>-1, <Sequence>-2
    <root>/<Sequence>/attrs.txt                optional attribute codes, e.g. IV, OCC

Source: Wu, Lim, Yang, Object Tracking Benchmark, TPAMI 2015, and its MATLAB toolkit v1.0
(``configSeqs``, ``initOmit``); names of split folders as in its Python version (``Jogging-1``).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.benchmarks.otb_sequences import ATTRIBUTES, MATLAB_DIFFERENCES, VERSIONS
from datamodules.benchmarks.reading import (
    OTB_ATTRIBUTES,
    assembled,
    check_complete,
    check_start,
    is_valid,
    read_annotation,
    read_attributes,
    to_xyxy,
)
from datamodules.errors import DatasetError
from datamodules.frames import FrameFiles, image_files
from datamodules.names import matched_names
from lightning_trackers.evaluation.ope_protocol import OnePass
from lightning_trackers.evaluation.protocol import EvaluationProtocol
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

__all__ = [
    "AnnotatedFolder",
    "find_annotated_folders",
    "image_number",
    "is_valid",
    "otb_benchmark",
    "otb_layout_benchmark",
    "read_annotation",
    "to_xyxy",
]

ANNOTATED_IMAGES = {
    "David": (300, 770),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
    "Diving": (1, 215),
    "BlurCar1": (247, 988),
    "BlurCar3": (3, 359),
    "BlurCar4": (18, 397),
}
"""Numbers of the first and last annotated image where a folder may hold more images than that."""

NOT_EVALUATED = {("Tiger1", 354): 5}
"""Frames at the start that the toolkit leaves out, by name and number of annotated frames."""

LAYOUT = """expected layout:
  <root>/<Sequence>/img/0001.jpg, 0002.jpg, ...
  <root>/<Sequence>/groundtruth_rect.txt   (x,y,w,h per frame, 1-based)"""


@dataclass(frozen=True)
class AnnotatedFolder:
    """One target of one sequence folder: files only, nothing read yet.

    Args:
        name: Name of the sequence: the folder's, with ``-1``, ``-2`` if it has several targets.
        folder: The sequence folder.
        annotation: The ground-truth file.
    """

    name: str
    folder: Path
    annotation: Path

    @property
    def image_folder(self) -> Path:
        """Where the frames are."""
        return self.folder / "img"

    def read(self) -> tuple[list[Path], np.ndarray]:
        """Return the annotated frames' files and their ground truth.

        Returns:
            Image files, length T, and boxes as in the file: xywh, 1-based, float64 ``(T, 4)``.

        Raises:
            ValueError: If a line is not a box, or frames and lines do not belong together.
        """
        boxes_xywh = read_annotation(self.annotation)
        if not self.image_folder.is_dir():
            raise DatasetError(f"{self.image_folder}: missing; {LAYOUT}")
        images = image_files(self.image_folder)
        if len(images) != len(boxes_xywh) and self.name in ANNOTATED_IMAGES:
            first, last = ANNOTATED_IMAGES[self.name]
            images = [f for f in images if first <= image_number(f) <= last]
        if len(images) != len(boxes_xywh):
            raise DatasetError(
                f"sequence {self.name}: expected one line per image, got {len(images)} images in "
                f"{self.image_folder} and {len(boxes_xywh)} lines in {self.annotation}"
            )
        return images, boxes_xywh


def otb_layout_benchmark(
    root: str | Path,
    name: str = "otb",
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
) -> Benchmark:
    """Read a benchmark in the OTB layout; frames are decoded only while tracking.

    Under the OTB rule a frame counts if all four numbers of its ground truth, as they stand in the
    file, are positive. Tiger1 begins at its sixth frame, as in the toolkit.

    Args:
        root: Folder of the sequence folders.
        name: Name of the benchmark in log keys and result folders.
        sequences: Names of the sequences to take, all by default.
        max_frames: Use at most so many frames of each, from its first.

    Raises:
        FileNotFoundError: If the root, or a part of the expected layout, is missing.
        ValueError: If a file is not as expected, or a sequence name is unknown.
    """
    readers = {f.name: partial(_sequence, f) for f in find_annotated_folders(root)}
    return assembled(name, Path(root), readers, sequences, max_frames, OnePass("otb"))


def otb_benchmark(
    root: str | Path,
    version: str | int = "2015",
    name: str | None = None,
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    matlab_attributes: bool = False,
    protocol: EvaluationProtocol[Any] | None = None,
) -> Benchmark:
    """Read OTB-2013 (51 sequences), OTB-50 (50) or OTB-2015 (100) under the OTB rule.

    One root may hold them all. Folders may be spelt as toolkits do (``jogging.1``); sequences bear
    the names of the benchmark's lists.

    Args:
        root: Folder of the sequence folders.
        version: ``2013``, ``50`` or ``2015``.
        name: Name of the benchmark in log keys and result folders; ``otb<version>`` by default.
        sequences: Names of the sequences to take; all by default, and then all must be there.
        max_frames: Use at most so many frames of each, from its first.
        matlab_attributes: Take the attributes from the MATLAB toolkit's rows, which differ from the
            benchmark's lists in 14 sequences.
        protocol: How it is tracked and scored; one-pass evaluation under OTB's rule by default.

    Raises:
        FileNotFoundError: If the root is missing.
        ValueError: If a sequence is missing, a file is not as expected, or an option is unknown.
    """
    if str(version) not in VERSIONS:
        raise ValueError(f"version: expected one of {', '.join(VERSIONS)}, got {version!r}")
    name = name or f"otb{version}"
    root = _existing(Path(root))
    if other := next(root.glob("*/*_gt.txt"), None):
        raise DatasetError(
            f"{other}: {root} is in the layout of Temple-Color 128, whose sequences of the same "
            "names have other lengths; read it with benchmark=tc128"
        )
    found = _targets(sorted(root.iterdir()))
    _check_unique(root, found)
    files = matched_names(VERSIONS[str(version)], {f.name: f.annotation for f in found})
    targets = {f.annotation: f for f in found}
    folders = {n: replace(targets[file], name=n) for n, file in files.items()}
    if sequences is None:
        check_complete(name, root, VERSIONS[str(version)], list(folders))
    readers = {}
    for n in VERSIONS[str(version)]:
        if n in folders:
            attributes = ATTRIBUTES[n]
            if matlab_attributes:
                attributes ^= MATLAB_DIFFERENCES.get(n, frozenset())
            readers[n] = partial(_sequence, folders[n], attributes=attributes)
    return assembled(name, root, readers, sequences, max_frames, protocol or OnePass("otb"))


def find_annotated_folders(root: str | Path) -> list[AnnotatedFolder]:
    """Return every target of every sequence folder under a root, in alphabetical order.

    Folders with neither ``img`` nor a ground-truth file are passed over.

    Raises:
        FileNotFoundError: If the root or a part of the expected layout is missing.
    """
    root = _existing(Path(root))
    found = []
    for folder in sorted(f for f in root.iterdir() if f.is_dir()):
        targets, has_images = _targets([folder]), (folder / "img").is_dir()
        if bool(targets) != has_images:
            missing = folder / ("groundtruth_rect.txt" if has_images else "img")
            raise FileNotFoundError(f"{missing}: missing; {LAYOUT}")
        found += targets
    _check_unique(root, found)
    if not found:
        hint = (
            f"{root} is a sequence itself: give {root.parent}. " if (root / "img").is_dir() else ""
        )
        raise FileNotFoundError(f"{root}: no sequence folder in it. {hint}{LAYOUT}")
    return found


def _existing(root: Path) -> Path:
    if not root.is_dir():
        missing = next(p for p in [*reversed(root.parents), root] if not p.is_dir())
        raise FileNotFoundError(f"{missing}: no such folder (wanted {root}); {LAYOUT}")
    return root


def _check_unique(root: Path, found: Sequence[AnnotatedFolder]) -> None:
    if len({f.name for f in found}) < len(found):
        files = {f.name: [str(g.annotation) for g in found if g.name == f.name] for f in found}
        repeated = {name: same for name, same in files.items() if len(same) > 1}
        raise DatasetError(f"{root}: sequence names occur twice: {repeated}; remove one of each")


def _targets(folders: Iterable[Path]) -> list[AnnotatedFolder]:
    return [
        AnnotatedFolder(folder.name + suffix, folder, file)
        for folder in folders
        for suffix, file in _annotation_files(folder).items()
    ]


def _sequence(found: AnnotatedFolder, attributes: frozenset[str] | None = None) -> TrackingSequence:
    images, boxes_xywh = found.read()
    skipped = NOT_EVALUATED.get((found.name, len(images)), 0)
    images, boxes_xywh = images[skipped:], boxes_xywh[skipped:]
    check_start(boxes_xywh, found.annotation, skipped + 1)
    if attributes is None:
        attributes = read_attributes(found.folder / "attrs.txt", OTB_ATTRIBUTES)
    return TrackingSequence(
        found.name, FrameFiles(images), to_xyxy(boxes_xywh), is_valid(boxes_xywh), attributes
    )


def _annotation_files(folder: Path) -> dict[str, Path]:
    """Return the ground-truth files of a folder by the suffix of the sequence's name.

    Human4 has an empty file for a first target that OTB-2015 dropped.
    """
    numbered = {}
    for file in sorted(folder.glob("groundtruth_rect.*.txt")):
        target = file.name.split(".")[1]
        if target.isdecimal() and file.stat().st_size > 0:
            numbered[f"-{target}"] = file
    plain = folder / "groundtruth_rect.txt"
    return numbered or ({"": plain} if plain.is_file() else {})


def image_number(file: Path) -> int:
    """Return the number in an image's name, -1 if there is none."""
    digits = re.findall(r"\d+", file.stem)
    return int(digits[-1]) if digits else -1
