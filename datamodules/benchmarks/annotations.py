"""Benchmarks from their annotations alone: enough to score results, without a single frame.

::

    <root>/<sequence>.txt   or   <root>/anno/<sequence>.txt    x,y,w,h per frame, 1-based px

A sequence is as long as its annotation. Whoever asks for a frame is told that there is none.

VOT's counterpart is :func:`datamodules.benchmarks.vot.annotated_vot`.

Source: folder ``anno`` of the OTB MATLAB toolkit v1.0, which also spells names in its own way.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np

from datamodules.benchmarks.otb import NOT_EVALUATED
from datamodules.benchmarks.otb_sequences import ATTRIBUTES, MATLAB_DIFFERENCES, VERSIONS
from datamodules.benchmarks.reading import (
    assembled,
    check_complete,
    check_start,
    is_valid,
    read_annotation,
    to_xyxy,
)
from datamodules.errors import DatasetError
from datamodules.names import matched_names
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

LAYOUT = "expected <root>/<sequence>.txt or <root>/anno/<sequence>.txt, x,y,w,h per frame"


class NoFrames(Sequence[np.ndarray]):
    """The frames of a sequence of which only the annotation is at hand.

    Args:
        name: Name of the sequence, for the error.
        count: How many frames it has.
        frame_wh: Their size, px, where it is known.
    """

    def __init__(self, name: str, count: int, frame_wh: tuple[int, int] | None = None) -> None:
        self.name, self.frame_count, self.frame_wh = name, count, frame_wh

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> "NoFrames": ...
    def __getitem__(self, index: int | slice) -> "np.ndarray | NoFrames":
        """Return a part without frames, or fail.

        Raises:
            FileNotFoundError: If a frame is asked for.
        """
        if isinstance(index, slice):
            return NoFrames(self.name, len(range(self.frame_count)[index]), self.frame_wh)
        raise FileNotFoundError(
            f"sequence {self.name}: only its annotation was read, so it can be scored but not "
            "tracked or shown; give the folder of the whole benchmark"
        )

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.frame_count


def annotated_otb(
    root: str | Path,
    version: str | int = "2015",
    name: str | None = None,
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    matlab_attributes: bool = False,
) -> Benchmark:
    """Read OTB-2013, OTB-50 or OTB-2015 from a folder of annotations.

    Args:
        root: Folder of the annotation files; names are compared as toolkits spell them.
        version: ``2013``, ``50`` or ``2015``.
        name: Name of the benchmark; ``otb<version>`` by default.
        sequences: Names of the sequences to take; all by default, and then all must be there.
        max_frames: Use at most so many frames of each, from its first.
        matlab_attributes: As in :func:`datamodules.benchmarks.otb.otb_benchmark`.

    Raises:
        DatasetError: If the folder or a sequence is missing, or a file is not as expected.
        ValueError: If an option is unknown.
    """
    if str(version) not in VERSIONS:
        raise ValueError(f"version: expected one of {', '.join(VERSIONS)}, got {version!r}")
    root, name = Path(root), name or f"otb{version}"
    files = matched_names(VERSIONS[str(version)], annotation_files(root))
    if sequences is None:
        check_complete(name, root, VERSIONS[str(version)], list(files))
    readers = {
        n: partial(
            _sequence,
            n,
            files[n],
            ATTRIBUTES[n]
            ^ (MATLAB_DIFFERENCES.get(n, frozenset()) if matlab_attributes else set()),
        )
        for n in VERSIONS[str(version)]
        if n in files
    }
    return assembled(name, root, readers, sequences, max_frames)


def annotation_files(root: Path) -> dict[str, Path]:
    """Return the annotation files of a folder by the name of their sequence.

    Raises:
        DatasetError: If there is none.
    """
    for folder in (root, root / "anno"):
        # Lists of sequences lie beside the folder of annotations in the toolkit.
        files = {} if folder == root and (root / "anno").is_dir() else _text_files(folder)
        if files:
            return files
    raise DatasetError(f"{root}: no annotation file in it; {LAYOUT}")


def _text_files(folder: Path) -> dict[str, Path]:
    return {f.stem: f for f in sorted(folder.glob("*.txt"))}


def _sequence(name: str, file: Path, attributes: frozenset[str]) -> TrackingSequence:
    boxes_xywh = read_annotation(file)
    skipped = NOT_EVALUATED.get((name, len(boxes_xywh)), 0)
    boxes_xywh = boxes_xywh[skipped:]
    check_start(boxes_xywh, file, skipped + 1)
    return TrackingSequence(
        name,
        NoFrames(name, len(boxes_xywh)),
        to_xyxy(boxes_xywh),
        is_valid(boxes_xywh),
        attributes,
    )
