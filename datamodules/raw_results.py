"""Raw results of other trackers, in the layouts that toolkits write and papers publish.

::

    <tracker>/<sequence>.txt                          OTB, UAV123, LaSOT, TrackingNet, got10k toolkit
    <tracker>/times/<sequence>_time.txt               optional: s per frame
    <tracker>/<sequence>/<sequence>_001.txt           GOT-10k
    <tracker>/<sequence>/<sequence>_time.txt          optional: s per frame, a column per repetition
    <tracker>/baseline/<sequence>/<sequence>_001.txt  VOT: one region a line, a file a run
    <tracker>/fingerprint.txt and what lies beside it results of this project, of any protocol

The results come out as the benchmark's own store loads them, so they are scored by the same code.

Source: got-10k/toolkit 0.1.3 (``ExperimentOTB``, ``ExperimentGOT10k``); names of split sequences as
tracker_benchmark v1.0, pysot, pytracking and the got10k toolkit spell them.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.benchmarks.otb import NOT_EVALUATED
from datamodules.benchmarks.reading import read_annotation, to_xyxy
from datamodules.errors import DatasetError
from datamodules.names import matched_names
from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.evaluation.benchmarking import protocol_of
from lightning_trackers.evaluation.one_pass import TrackResult
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.supervised import VOTSupervised
from lightning_trackers.evaluation.vot_results import SupervisedResult, import_vot_results

log = logging.getLogger(__name__)

Missing = Literal["error", "exclude"]

FINGERPRINT = "fingerprint.txt"
SAME_TARGET = 0.5
"""Overlap of a result's first box and the annotation's under which they are not of one target."""

LAYOUTS = """expected one of:
  <tracker>/<sequence>.txt                          (OTB and others: x,y,w,h a line, 1-based)
  <tracker>/<sequence>/<sequence>_001.txt           (GOT-10k)
  <tracker>/baseline/<sequence>/<sequence>_001.txt  (VOT)"""


@dataclass(frozen=True)
class Comparison:
    """Results of several trackers on the sequences that all of them have.

    Args:
        benchmark: The benchmark, without the sequences that were left out.
        results: Result of each sequence by tracker and sequence.
        excluded: Why a sequence was left out, by its name.
    """

    benchmark: Benchmark
    results: dict[str, dict[str, Any]]
    excluded: dict[str, str]


def read_comparison(
    benchmark: Benchmark, folders: Mapping[str, str | Path], missing: Missing = "error"
) -> Comparison:
    """Read the results of several trackers; a sequence that one lacks counts for none.

    Args:
        benchmark: What was tracked; frames are not read.
        folders: Folder of each tracker's results by the tracker's name.
        missing: What to do where a sequence has no usable result: ``error``, or ``exclude`` it for
            all trackers, so that the comparison stays paired.

    Raises:
        DatasetError: If there is no folder, a folder holds no result, a sequence has no usable one
            and is not to be excluded, or no sequence is left.
        ValueError: If ``missing`` is neither.
    """
    if missing not in ("error", "exclude"):
        raise ValueError(f"missing: expected error or exclude, got {missing!r}")
    if not folders:
        raise DatasetError("results: expected at least one folder of a tracker's results, got none")
    results: dict[str, dict[str, Any]] = {}
    excluded: dict[str, str] = {}
    for tracker, folder in folders.items():
        results[tracker], bad = read_results(benchmark, folder)
        if bad and missing == "error":
            shown = [f"  {reason}" for reason in list(bad.values())[:10]]
            more = [f"  and {len(bad) - 10} more"] if len(bad) > 10 else []
            raise DatasetError(
                f"{tracker}: {len(bad)} of {len(benchmark)} sequences of {benchmark.name} have no "
                "usable result; mend them, or leave these sequences out for all trackers with "
                "missing=exclude\n" + "\n".join([*shown, *more])
            )
        for name, reason in bad.items():
            log.warning("%s: %s is left out for all trackers: %s", benchmark.name, name, reason)
            excluded.setdefault(name, f"{tracker}: {reason}")
    kept = [s for s in benchmark if s.name not in excluded]
    if not kept:
        raise DatasetError(
            f"{benchmark.name}: no sequence has a usable result of every tracker; first reason: "
            f"{next(iter(excluded.values()))}"
        )
    return Comparison(
        replace(benchmark, sequences=kept),
        {t: {s.name: found[s.name] for s in kept} for t, found in results.items()},
        excluded,
    )


def read_results(benchmark: Benchmark, folder: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a tracker's usable results by sequence, and for each other sequence why it has none.

    Raises:
        DatasetError: If the folder is not there, or holds no file of any known layout.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; {LAYOUTS}")
    read = _reader(benchmark, folder)
    results, bad = {}, {}
    for sequence in benchmark:
        try:
            results[sequence.name] = read(sequence)
        except (ValueError, OSError) as error:
            bad[sequence.name] = str(error)
    _warn_if_zero_based(folder, benchmark, results)
    return results, bad


def _reader(benchmark: Benchmark, folder: Path) -> Callable[[TrackingSequence], Any]:
    """Return the function that reads the result of a sequence, by the folder's layout."""
    if (folder / FINGERPRINT).is_file():
        return _OwnResults(benchmark, folder)
    if isinstance(protocol_of(benchmark), VOTSupervised):
        return partial(_vot_result, folder)
    files = {f.parent.name: f for f in sorted(folder.glob("*/*_001.txt"))}
    if not files:
        files = {f.stem: f for f in sorted(folder.glob("*.txt"))}
    if not files:
        matlab = " The .mat files in it have to be written as text first." * any(
            folder.glob("*.mat")
        )
        raise DatasetError(f"{folder}: no results in it; {LAYOUTS}.{matlab}")
    return _TextResults(folder, files, [s.name for s in benchmark])


class _TextResults:
    """One-pass results as text, one file a sequence."""

    def __init__(self, folder: Path, files: dict[str, Path], sequences: Sequence[str]) -> None:
        self.folder = folder
        self.files = matched_names(sequences, files)

    def __call__(self, sequence: TrackingSequence) -> TrackResult:
        """Return the result of a sequence.

        Raises:
            DatasetError: If there is none, or it does not belong to the sequence.
        """
        name, count = sequence.name, len(sequence)
        if name not in self.files:
            raise DatasetError(f"{name}: no file of this name in {self.folder}")
        file = self.files[name]
        boxes_xywh = read_annotation(file)
        partial = np.isnan(boxes_xywh).any(axis=1) & ~np.isnan(boxes_xywh).all(axis=1)
        if partial.any():
            line = int(partial.argmax())
            raise DatasetError(
                f"{file}, line {line + 1}: expected a box, or four NaN where the tracker gave none, "
                f"got {boxes_xywh[line].tolist()}"
            )
        # Toolkits disagree where Tiger1 begins; a result of all its frames holds ours at its end.
        surplus = len(boxes_xywh) - count
        if surplus not in (0, _left_out(name, len(boxes_xywh))):
            raise DatasetError(
                f"{file}: expected {count} lines, one a frame, got {len(boxes_xywh)}"
            )
        boxes_xyxy = to_xyxy(boxes_xywh[surplus:])
        if surplus == 0:
            _check_start(file, boxes_xyxy[0], sequence)
        times_s = self._times(file, name, len(boxes_xywh))[surplus:]
        return TrackResult(name, boxes_xyxy, np.full(count, np.nan), times_s)

    def _times(self, file: Path, name: str, count: int) -> np.ndarray:
        """Return the time of each frame, s; NaN where the tracker's author published none."""
        places = (
            self.folder / "times" / f"{file.stem}_time.txt",
            self.folder / "times" / f"{name}_time.txt",
            file.with_name(f"{file.parent.name}_time.txt"),
        )
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            return np.full(count, np.nan)
        lines = found.read_text(encoding="utf-8").split("\n")
        try:
            # A column per repetition; ours is the first.
            times_s = [
                float(re.split(r"[,\s]+", line.strip())[0]) for line in lines if line.strip()
            ]
        except ValueError:
            times_s = []
        if len(times_s) != count:
            raise DatasetError(f"{found}: expected {count} times in s, one a line")
        return np.array(times_s)


def _vot_result(folder: Path, sequence: TrackingSequence) -> SupervisedResult:
    """Return the result of a sequence of VOT's supervised experiment."""
    return import_vot_results(folder, {sequence.name: len(sequence)})[sequence.name]


class _OwnResults:
    """Results that this project wrote, under any protocol."""

    def __init__(self, benchmark: Benchmark, folder: Path) -> None:
        self.folder = folder
        fingerprint = (folder / FINGERPRINT).read_text(encoding="utf-8").strip()
        self.store = protocol_of(benchmark).store(folder, fingerprint)

    def __call__(self, sequence: TrackingSequence) -> Any:
        """Return the result of a sequence.

        Raises:
            DatasetError: If there is none.
            ValueError: If it does not belong to the sequence.
        """
        result = self.store.load(sequence)
        if result is None:
            raise DatasetError(f"{sequence.name}: no result in {self.folder}, or half of one")
        return result


def _left_out(name: str, count: int) -> int:
    """Return how many frames at the start of an annotation of this length are not evaluated."""
    return next(
        (
            n
            for (known, all_), n in NOT_EVALUATED.items()
            if (known.lower(), all_) == (name.lower(), count)
        ),
        0,
    )


def _check_start(file: Path, box_xyxy: np.ndarray, sequence: TrackingSequence) -> None:
    """Refuse a result that began with something else than the sequence's target."""
    overlap = float(iou_xyxy(box_xyxy[None], sequence.start_xyxy[None])[0])
    if not overlap > SAME_TARGET:
        raise DatasetError(
            f"{file}, line 1: overlaps by {overlap:.2f} with the box that {sequence.name} starts "
            f"from, x1 y1 x2 y2 = {sequence.start_xyxy.tolist()} (0-based), got "
            f"{box_xyxy.tolist()}: the result belongs to other annotations or frames"
        )


def _warn_if_zero_based(
    folder: Path, benchmark: Benchmark, results: Mapping[str, TrackResult]
) -> None:
    """Say so if every first box lies exactly one pixel up and left of its annotation."""
    starts = {s.name: s.start_xyxy for s in benchmark}
    offsets = [
        r.boxes_xyxy[0] - starts[name] for name, r in results.items() if hasattr(r, "boxes_xyxy")
    ]
    if offsets and np.abs(np.array(offsets) + 1).max() < 1e-3:
        log.warning(
            "%s: every first box lies one pixel up and left of its annotation: the files seem to "
            "be 0-based, where 1 is expected for the first pixel",
            folder,
        )
