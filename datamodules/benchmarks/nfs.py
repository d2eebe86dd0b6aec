"""NfS (Need for Speed), at 30 or 240 frames per second.

::

    <root>/<Sequence>/<30|240>/<Sequence>/00001.jpg ...
    <root>/<Sequence>/<30|240>/<Sequence>.txt   VATIC: id xmin ymin xmax ymax frame lost occluded
                                                generated "label", 0-based px

The text of the 30 fps version may be annotated at 240 fps: then every eighth line belongs to an
image. Ten sequences are one line short; the frame without a line is left out.

Source: Kiani Galoogahi et al., Need for Speed: A Benchmark for Higher Frame Rate Object Tracking,
ICCV 2017; evaluated under the OTB rule.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.benchmarks.reading import (
    all_frames,
    assembled,
    check_complete,
    check_lengths,
    check_start,
    existing_folder,
    is_valid,
)
from datamodules.errors import DatasetError
from lightning_trackers.boxes import xywh_to_xyxy, xyxy_to_xywh
from lightning_trackers.evaluation.ope_protocol import OnePass
from lightning_trackers.evaluation.protocol import EvaluationProtocol
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

SEQUENCES = 100

LAYOUT = """expected layout:
  <root>/<Sequence>/30/<Sequence>/00001.jpg ...   (or 240)
  <root>/<Sequence>/30/<Sequence>.txt   (VATIC lines: id xmin ymin xmax ymax frame lost ...)"""


def nfs_benchmark(
    root: str | Path,
    fps: int = 30,
    name: str | None = None,
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    protocol: EvaluationProtocol[Any] | None = None,
) -> Benchmark:
    """Read NfS (100 sequences) under the OTB rule.

    Args:
        root: Folder of the sequence folders.
        fps: 30 or 240.
        name: Name of the benchmark in log keys and result folders; ``nfs<fps>`` by default.
        sequences: Names of the sequences to take; all by default, and then all must be there.
        max_frames: Use at most so many frames of each, from its first.
        protocol: How it is tracked and scored; one-pass evaluation under OTB's rule by default.

    Raises:
        DatasetError: If a sequence is missing, a file is not as expected, or a name is unknown.
        ValueError: If ``fps`` is neither.
    """
    if fps not in (30, 240):
        raise ValueError(f"fps: expected 30 or 240, got {fps}")
    root = existing_folder(Path(root), Path(root), LAYOUT)
    files = {f.parents[1].name: f for f in sorted(root.glob(f"*/{fps}/*.txt"))}
    if not files:
        raise DatasetError(f"{root}: no <Sequence>/{fps}/<Sequence>.txt in it; {LAYOUT}")
    if sequences is None:
        check_complete(f"NfS at {fps} fps", root, SEQUENCES, list(files))
    readers = {n: partial(_sequence, n, file) for n, file in files.items()}
    return assembled(
        name or f"nfs{fps}", root, readers, sequences, max_frames, protocol or OnePass("otb")
    )


def _sequence(name: str, file: Path) -> TrackingSequence:
    boxes_xyxy, lost, occluded = read_vatic(file)
    frames = all_frames(file.with_suffix(""), "{:05d}.jpg", first=1)
    if abs(len(boxes_xyxy) - len(frames)) > 1 and abs(len(boxes_xyxy[::8]) - len(frames)) <= 1:
        boxes_xyxy, lost, occluded = boxes_xyxy[::8], lost[::8], occluded[::8]
    if abs(len(boxes_xyxy) - len(frames)) == 1:
        count = min(len(boxes_xyxy), len(frames))
        frames, boxes_xyxy = frames[:count], boxes_xyxy[:count]
        lost, occluded = lost[:count], occluded[:count]
    check_lengths(name, frames, boxes_xyxy, file)
    boxes_xywh = xyxy_to_xywh(boxes_xyxy)
    check_start(boxes_xywh, file)
    return TrackingSequence(
        name,
        frames,
        xywh_to_xyxy(boxes_xywh),
        is_valid(boxes_xywh),
        frame_attributes={"occluded": occluded},
        absent=lost,
    )


def read_vatic(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return corners, float64 ``(T, 4)``, and the flags lost and occluded, bool ``(T,)``.

    Raises:
        DatasetError: If a line is not as VATIC writes it, or there is none.
    """
    rows = []
    lines = file.read_text(encoding="utf-8").rstrip().splitlines()
    for number, line in enumerate(lines, start=1):
        # The label is quoted and may hold blanks.
        words = line.split(maxsplit=9)
        try:
            row = [float(word) for word in words[1:9]]
        except ValueError:
            row = []
        if len(row) != 8 or not np.isfinite(row).all():
            raise DatasetError(
                f"{file}, line {number}: expected id xmin ymin xmax ymax frame lost occluded "
                f'generated "label", got {line!r}'
            )
        rows.append(row)
    if not rows:
        raise DatasetError(f"{file}: expected VATIC lines, got an empty file")
    table = np.array(rows)
    return table[:, :4], table[:, 5] == 1, table[:, 6] == 1
