"""Benchmarks whose ground truth is withheld: tracked here, scored by a server.

GOT-10k's test archive::

    <sequence>/<sequence>_001.txt    x,y,w,h per frame, 1-based px; _002 ... for further repetitions
    <sequence>/<sequence>_time.txt   s per frame, a column per repetition

TrackingNet's::

    <video>.txt                      x,y,w,h per frame, 0-based px

Source: got-10k/toolkit 0.1.3 (``ExperimentGOT10k._record``); TrackingNet-devkit (``metrics.py``). In
both, numbers are separated by commas alone: GOT-10k's server fails without a word on blanks.
"""

import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightning_trackers.boxes import xyxy_to_xywh
from lightning_trackers.evaluation.one_pass import TrackResult, track_one_pass
from lightning_trackers.evaluation.protocol import Scores
from lightning_trackers.evaluation.results import ResultStore
from lightning_trackers.evaluation.sequence import Benchmark
from lightning_trackers.files import atomic_file

log = logging.getLogger(__name__)

_ONE_BASED = np.array([1.0, 1.0, 0.0, 0.0])

Files = Callable[[Sequence[TrackResult]], dict[str, str]]
"""Makes the archive's files of one sequence, by path, from its repetitions."""


def got10k_files(repetitions: Sequence[TrackResult]) -> dict[str, str]:
    """Return the files of one sequence of GOT-10k's test split."""
    name = repetitions[0].name
    files = {
        f"{name}/{name}_{i:03d}.txt": _lines(xyxy_to_xywh(result.boxes_xyxy) + _ONE_BASED, 3)
        for i, result in enumerate(repetitions, start=1)
    }
    times_s = np.stack([result.times_s for result in repetitions], axis=1)  # (T, repetitions)
    return {**files, f"{name}/{name}_time.txt": _lines(times_s, 8)}


def trackingnet_files(repetitions: Sequence[TrackResult]) -> dict[str, str]:
    """Return the file of one video of TrackingNet's test set.

    Raises:
        ValueError: If there is more than one repetition.
    """
    if len(repetitions) != 1:
        raise ValueError(
            f"TrackingNet takes the results of one run, got {len(repetitions)} result folders"
        )
    (result,) = repetitions
    return {f"{result.name}.txt": _lines(xyxy_to_xywh(result.boxes_xyxy), 3)}


@dataclass(frozen=True)
class ServerScored:
    """One-pass evaluation that a benchmark's server scores.

    Args:
        name: Name in reports.
        headline: Key of the server's first score.
        files: What the archive holds of one sequence.
    """

    name: str
    headline: str
    files: Files

    track = staticmethod(track_one_pass)
    store = staticmethod(ResultStore)

    def score(self, benchmark: Benchmark, results: Mapping[str, TrackResult]) -> Scores:
        """Return no scores, as there is no ground truth to score by, and say what to do.

        Raises:
            ValueError: If a sequence has no result.
        """
        missing = [s.name for s in benchmark if s.name not in results]
        if missing:
            raise ValueError(f"{benchmark.name}: no result of {_shown(missing)}")
        log.info(
            "%s has no public ground truth: make the archive for its server with python -m "
            "experiments.submit benchmark=[%s] results=<folder of its result files>",
            *(benchmark.name,) * 2,
        )
        return Scores({})

    def write_archive(self, benchmark: Benchmark, folders: Sequence[Path], out: Path) -> Path:
        """Write the archive for the server; the same results give the same bytes.

        Args:
            benchmark: What was tracked, all of it.
            folders: Result folders of one tracker, one per repetition.
            out: The archive.

        Returns:
            ``out``.

        Raises:
            FileNotFoundError: If a folder holds no results.
            ValueError: If a sequence has no result, or one does not belong to it.
        """
        repetitions = [_load(benchmark, folder) for folder in folders]
        with (
            atomic_file(out) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for sequence in benchmark:
                files = self.files([results[sequence.name] for results in repetitions])
                for path, text in files.items():
                    entry = zipfile.ZipInfo(
                        path
                    )  # dated 1980, so that bytes depend on results only
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, text)
        return out


GOT10K_SERVER = ServerScored("one-pass evaluation, GOT-10k server", "average_overlap", got10k_files)
TRACKINGNET_SERVER = ServerScored(
    "one-pass evaluation, TrackingNet server", "success_auc", trackingnet_files
)


def _load(benchmark: Benchmark, folder: Path) -> dict[str, TrackResult]:
    """Return the results of every sequence."""
    fingerprint = folder / "fingerprint.txt"
    if not fingerprint.is_file():
        beside = sorted(str(f.parent) for f in folder.glob("**/fingerprint.txt"))
        raise FileNotFoundError(
            f"{fingerprint}: missing, so {folder} is no folder of results; "
            + (f"there are results in {', '.join(beside)}" if beside else "track first")
        )
    store = ResultStore(folder, fingerprint.read_text(encoding="utf-8"))
    loaded = {sequence.name: store.load(sequence) for sequence in benchmark}
    results = {name: result for name, result in loaded.items() if result is not None}
    if missing := [name for name in loaded if name not in results]:
        raise ValueError(
            f"{folder}: {len(results)} of {len(benchmark)} sequences of {benchmark.name} have a "
            f"result; missing: {_shown(missing)}. The same evaluation again tracks what is left"
        )
    return results


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _lines(rows: np.ndarray, decimals: int) -> str:
    return "".join(",".join(f"{v:.{decimals}f}" for v in row) + "\n" for row in rows.tolist())
