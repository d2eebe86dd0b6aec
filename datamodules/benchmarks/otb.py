"""Sequences in the layout of OTB-2013, OTB-50 and OTB-2015; a user's own folders work as well.

::

    <root>/<Sequence>/img/0001.jpg ...         or .png, any numbering
    <root>/<Sequence>/groundtruth_rect.txt     x,y,w,h per frame, 1-based px
    <root>/<Sequence>/groundtruth_rect.1.txt   several targets: <Sequence>-1, <Sequence>-2
    <root>/<Sequence>/attrs.txt                optional attribute codes, e.g. IV, OCC

Source: Wu, Lim, Yang, Object Tracking Benchmark, TPAMI 2015, and its MATLAB toolkit v1.0
(``configSeqs``, ``initOmit``); names of split folders as in its Python version (``Jogging-1``).
"""

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.frames import FrameFiles, image_files
from lightning_trackers.boxes import xywh_to_xyxy
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

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

_ONE_BASED = np.array([1.0, 1.0, 0.0, 0.0])


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
        images = image_files(self.image_folder)
        if len(images) != len(boxes_xywh) and self.folder.name in ANNOTATED_IMAGES:
            first, last = ANNOTATED_IMAGES[self.folder.name]
            images = [f for f in images if first <= _image_number(f) <= last]
        if len(images) != len(boxes_xywh):
            raise ValueError(
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
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames: expected at least 1, got {max_frames}")
    folders = {found.name: found for found in find_annotated_folders(root)}
    names = list(folders) if sequences is None else list(sequences)
    for wanted in names:
        if wanted not in folders:
            near = difflib.get_close_matches(wanted, folders, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"sequence {wanted!r}: not in {root}, which holds {len(folders)}; nearest name: "
                f"{near!r}"
            )
    return Benchmark(name, [_sequence(folders[n], max_frames) for n in names])


def find_annotated_folders(root: str | Path) -> list[AnnotatedFolder]:
    """Return every target of every sequence folder under a root, in alphabetical order.

    Folders with neither ``img`` nor a ground-truth file are passed over.

    Raises:
        FileNotFoundError: If the root or a part of the expected layout is missing.
    """
    root = Path(root)
    if not root.is_dir():
        missing = next(p for p in [*reversed(root.parents), root] if not p.is_dir())
        raise FileNotFoundError(f"{missing}: no such folder (wanted {root}); {LAYOUT}")
    found = []
    for folder in sorted(f for f in root.iterdir() if f.is_dir()):
        annotations = _annotation_files(folder)
        has_images = (folder / "img").is_dir()
        if not annotations and not has_images:
            continue
        if not annotations or not has_images:
            missing = folder / ("groundtruth_rect.txt" if has_images else "img")
            raise FileNotFoundError(f"{missing}: missing; {LAYOUT}")
        found += [AnnotatedFolder(folder.name + s, folder, f) for s, f in annotations.items()]
    if len({f.name for f in found}) < len(found):
        files = {f.name: [str(g.annotation) for g in found if g.name == f.name] for f in found}
        repeated = {name: same for name, same in files.items() if len(same) > 1}
        raise ValueError(f"{root}: sequence names occur twice: {repeated}; remove one of each")
    if not found:
        hint = (
            f"{root} is a sequence itself: give {root.parent}. " if (root / "img").is_dir() else ""
        )
        raise FileNotFoundError(f"{root}: no sequence folder in it. {hint}{LAYOUT}")
    return found


def read_annotation(file: Path) -> np.ndarray:
    """Return the boxes of a ground-truth file as they stand there, xywh, float64 ``(T, 4)``.

    Commas, tabs and blanks separate, also mixed; ``NaN`` marks an absent target.

    Raises:
        ValueError: If the file is empty or a line is not four numbers.
    """
    lines = file.read_text(encoding="utf-8").rstrip().splitlines()
    boxes = []
    for number, line in enumerate(lines, start=1):
        try:
            box = [float(value) for value in re.split(r"[,\s]+", line.strip())]
        except ValueError:
            box = []
        if len(box) != 4 or any(math.isinf(value) for value in box):
            raise ValueError(f"{file}, line {number}: expected four numbers x,y,w,h, got {line!r}")
        boxes.append(box)
    if not boxes:
        raise ValueError(f"{file}: expected one line x,y,w,h per frame, got an empty file")
    return np.array(boxes)


def is_valid(boxes_xywh: np.ndarray) -> np.ndarray:
    """Return which boxes, as they stand in the file, count under the OTB rule, bool ``(T,)``."""
    return np.asarray((boxes_xywh > 0).all(axis=1))  # NaN is not greater than 0


def to_xyxy(boxes_xywh: np.ndarray) -> np.ndarray:
    """Convert boxes of the file (1-based pixels) to the project's, ``(T, 4)``."""
    return xywh_to_xyxy(boxes_xywh - _ONE_BASED)


def _sequence(found: AnnotatedFolder, max_frames: int | None) -> TrackingSequence:
    images, boxes_xywh = found.read()
    skipped = NOT_EVALUATED.get((found.name, len(images)), 0)
    last = None if max_frames is None else skipped + max_frames
    images, boxes_xywh = images[skipped:last], boxes_xywh[skipped:last]
    if not (np.isfinite(boxes_xywh[0]).all() and (boxes_xywh[0, 2:] > 0).all()):
        raise ValueError(
            f"{found.annotation}, line {skipped + 1}: expected a box of positive width and height "
            f"to start from, got x,y,w,h = {boxes_xywh[0].tolist()}"
        )
    return TrackingSequence(
        found.name,
        FrameFiles(images),
        to_xyxy(boxes_xywh),
        is_valid(boxes_xywh),
        _attributes(found),
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


def _attributes(found: AnnotatedFolder) -> frozenset[str]:
    file = found.folder / "attrs.txt"
    if not file.is_file():
        return frozenset()
    return frozenset(re.findall(r"[A-Z0-9_]+", file.read_text(encoding="utf-8").upper()))


def _image_number(file: Path) -> int:
    digits = re.findall(r"\d+", file.stem)
    return int(digits[-1]) if digits else -1
