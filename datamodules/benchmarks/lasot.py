"""LaSOT: its test split and its extension subset.

::

    <root>/<class>/<class>-<k>/img/00000001.jpg ...
    <root>/<class>/<class>-<k>/groundtruth.txt      x,y,w,h per frame, 1-based px
    <root>/<class>/<class>-<k>/full_occlusion.txt   0/1 per frame, in one line with commas
    <root>/<class>/<class>-<k>/out_of_view.txt      likewise
    <root>/testing_set.txt                          names of the 280 sequences of the test split

Absent frames (fully occluded or out of view) stay in the denominator and always fail.

Source: Fan et al., LaSOT: A High-quality Benchmark for Large-scale Single Object Tracking, CVPR
2019 and IJCV 2021, and its evaluation toolkit (``testing_set.txt``, ``annos/att``).
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.benchmarks.reading import (
    assembled,
    check_complete,
    check_start,
    existing_folder,
    is_valid,
    numbered_frames,
    read_annotation,
    read_attributes,
    read_labels,
    to_xyxy,
)
from datamodules.errors import DatasetError
from lightning_trackers.evaluation.ope_protocol import OnePass
from lightning_trackers.evaluation.protocol import EvaluationProtocol
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

ATTRIBUTES: tuple[str, ...] = ("IV", "POC", "DEF", "MB", "CM", "ROT", "BC")
ATTRIBUTES += ("VC", "SV", "FOC", "FM", "OV", "LR", "ARC")
"""Order of the flags in the toolkit's ``annos/att`` files."""

SEQUENCES = {"test": 280, "extension": 150}

LAYOUT = """expected layout:
  <root>/<class>/<class>-<k>/img/00000001.jpg ...
  <root>/<class>/<class>-<k>/groundtruth.txt   (x,y,w,h per frame, 1-based)
  <root>/<class>/<class>-<k>/full_occlusion.txt and out_of_view.txt   (0/1 per frame)"""


def lasot_benchmark(
    root: str | Path,
    subset: str = "test",
    name: str | None = None,
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    testing_set: str | Path | None = None,
    attribute_folder: str | Path | None = None,
    protocol: EvaluationProtocol[Any] | None = None,
) -> Benchmark:
    """Read the 280 test sequences of LaSOT, or its extension subset of 150.

    Args:
        root: Folder of the class folders; class folders may also be left out.
        subset: ``test`` or ``extension``, which is a root of its own and is taken whole.
        name: Name of the benchmark in log keys and result folders; ``lasot`` or
            ``lasot_extension`` by default.
        sequences: Names of the sequences to take; all by default, and then all must be there.
        max_frames: Use at most so many frames of each, from its first.
        testing_set: The official list of the test split, ``<root>/testing_set.txt`` by default.
        attribute_folder: The toolkit's ``annos/att``; without it sequences carry no attributes.
        protocol: How it is tracked and scored; one-pass evaluation under LaSOT's rule by default.

    Raises:
        DatasetError: If a sequence or the list is missing, a file is not as expected, or a name is
            unknown.
        ValueError: If the subset is unknown.
    """
    if subset not in SEQUENCES:
        raise ValueError(f"subset: expected one of {', '.join(SEQUENCES)}, got {subset!r}")
    root = existing_folder(Path(root), Path(root), LAYOUT)
    folders = {
        f.parent.name: f.parent
        for pattern in ("*-*/groundtruth.txt", "*/*-*/groundtruth.txt")
        for f in sorted(root.glob(pattern))
    }
    if not folders:
        raise DatasetError(f"{root}: no <class>/<class>-<k>/groundtruth.txt in it; {LAYOUT}")
    title = "LaSOT's test split" if subset == "test" else "LaSOT's extension subset"
    if subset == "test" and sequences is None:
        names = _testing_set(Path(testing_set) if testing_set else root / "testing_set.txt")
        check_complete(title, root, names, list(folders))
        folders = {n: folders[n] for n in names}
    elif sequences is None:
        check_complete(title, root, SEQUENCES[subset], list(folders))
    attributes = Path(attribute_folder) if attribute_folder else None
    readers = {n: partial(_sequence, folder, attributes) for n, folder in folders.items()}
    default = "lasot" if subset == "test" else "lasot_extension"
    return assembled(
        name or default, root, readers, sequences, max_frames, protocol or OnePass("lasot")
    )


def _testing_set(file: Path) -> list[str]:
    if not file.is_file():
        raise DatasetError(
            f"{file}: missing; it names the 280 test sequences, four of each class. Take "
            "testing_set.txt from LaSOT's evaluation toolkit, put it there or give its path as "
            "testing_set"
        )
    names = file.read_text(encoding="utf-8").split()
    if len(set(names)) != SEQUENCES["test"]:
        raise DatasetError(
            f"{file}: expected {SEQUENCES['test']} different names, got {len(set(names))}"
        )
    return names


def _sequence(folder: Path, attributes: Path | None) -> TrackingSequence:
    name, annotation = folder.name, folder / "groundtruth.txt"
    boxes_xywh = read_annotation(annotation)
    check_start(boxes_xywh, annotation)
    frames = numbered_frames(folder / "img", "{:08d}.jpg", 1, len(boxes_xywh))
    beyond = folder / "img" / f"{len(boxes_xywh) + 1:08d}.jpg"
    if beyond.is_file():
        raise DatasetError(
            f"{beyond}: more images than the {len(boxes_xywh)} lines of {annotation}. Are both of "
            "the same release?"
        )
    hidden = read_labels(folder / "full_occlusion.txt", len(frames)) == 1
    out_of_view = read_labels(folder / "out_of_view.txt", len(frames)) == 1
    absent = hidden | out_of_view
    codes = frozenset[str]()
    if attributes is not None:
        file = attributes / f"{name}.txt"
        if not file.is_file():
            raise DatasetError(f"{file}: missing; attribute_folder is the toolkit's annos/att")
        codes = read_attributes(file, ATTRIBUTES)
    return TrackingSequence(
        name,
        frames,
        to_xyxy(boxes_xywh),
        is_valid(boxes_xywh) & ~absent,
        codes,
        frame_attributes={"full_occlusion": hidden, "out_of_view": out_of_view},
        absent=absent,
    )
