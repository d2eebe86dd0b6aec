"""Temple-Color 128.

::

    <root>/<Sequence>/img/0001.jpg ...
    <root>/<Sequence>/<Sequence>_gt.txt       x,y,w,h per frame, 1-based px
    <root>/<Sequence>/<Sequence>_frames.txt   first,last number of the annotated images
    <root>/<Sequence>/<Sequence>_att.txt      optional attribute codes

Sequences that OTB has as well have other lengths here, so neither reads the other's files.

Source: Liang, Blasch, Ling, Encoding Color Information for Visual Tracking: Algorithms and
Benchmark, TIP 2015; evaluated with the OTB toolkit and its rule.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.benchmarks.reading import (
    OTB_ATTRIBUTES,
    assembled,
    check_complete,
    check_lengths,
    check_start,
    existing_folder,
    is_valid,
    numbered_frames,
    read_annotation,
    read_attributes,
    to_xyxy,
)
from datamodules.errors import DatasetError
from lightning_trackers.evaluation.ope_protocol import OnePass
from lightning_trackers.evaluation.protocol import EvaluationProtocol
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

SEQUENCES = 129

LAYOUT = """expected layout:
  <root>/<Sequence>/img/0001.jpg, 0002.jpg, ...
  <root>/<Sequence>/<Sequence>_gt.txt       (x,y,w,h per frame, 1-based)
  <root>/<Sequence>/<Sequence>_frames.txt   (first,last)"""


def tc128_benchmark(
    root: str | Path,
    name: str = "tc128",
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    protocol: EvaluationProtocol[Any] | None = None,
) -> Benchmark:
    """Read Temple-Color 128 (129 sequences) under the OTB rule.

    Args:
        root: Folder of the sequence folders.
        name: Name of the benchmark in log keys and result folders.
        sequences: Names of the sequences to take; all by default, and then all must be there.
        max_frames: Use at most so many frames of each, from its first.
        protocol: How it is tracked and scored; one-pass evaluation under OTB's rule by default.

    Raises:
        DatasetError: If a sequence is missing, a file is not as expected, or a name is unknown.
    """
    root = existing_folder(Path(root), Path(root), LAYOUT)
    folders = {f.parent.name: f.parent for f in sorted(root.glob("*/*_gt.txt"))}
    if not folders and (other := next(root.glob("*/groundtruth_rect*.txt"), None)):
        raise DatasetError(
            f"{other}: {root} is in the layout of OTB; read it with benchmark=otb2015. {LAYOUT}"
        )
    if not folders:
        raise DatasetError(f"{root}: no <Sequence>/<Sequence>_gt.txt in it; {LAYOUT}")
    if sequences is None:
        check_complete("Temple-Color 128", root, SEQUENCES, list(folders))
    readers = {n: partial(_sequence, folder) for n, folder in folders.items()}
    return assembled(name, root, readers, sequences, max_frames, protocol or OnePass("otb"))


def _sequence(folder: Path) -> TrackingSequence:
    name = folder.name
    annotation, range_file = folder / f"{name}_gt.txt", folder / f"{name}_frames.txt"
    for file in (annotation, range_file):
        if not file.is_file():
            raise DatasetError(f"{file}: missing; {LAYOUT}")
    boxes_xywh = read_annotation(annotation)
    check_start(boxes_xywh, annotation)
    numbers = re.findall(r"\d+", range_file.read_text(encoding="utf-8"))
    if len(numbers) != 2:
        raise DatasetError(f"{range_file}: expected first,last, got {len(numbers)} numbers")
    frames = numbered_frames(folder / "img", "{:04d}.jpg", int(numbers[0]), int(numbers[1]))
    check_lengths(name, frames, boxes_xywh, annotation)
    return TrackingSequence(
        name,
        frames,
        to_xyxy(boxes_xywh),
        is_valid(boxes_xywh),
        read_attributes(folder / f"{name}_att.txt", OTB_ATTRIBUTES),
    )
