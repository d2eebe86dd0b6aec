"""Result files of VOT's supervised experiment, as the official toolkits read them.

::

    <folder>/baseline/<sequence>/<sequence>_001.txt    one region per frame, a file a run
    <folder>/baseline/<sequence>/<sequence>_time.txt   s per frame, a column a run
    <folder>/fingerprint.txt                           what made these results

A region is a code (1 the tracker was initialised, 2 it failed, 0 no result), ``x,y,w,h`` or
``x1,y1,...,x4,y4``, in the pixels of the benchmark's ground truth. Files appear whole or not at
all, the times last, so an interrupted evaluation goes on where it stopped.

Source: VOT toolkit (MATLAB) 7.0.2; vot-toolkit 0.9 reads the same with text results.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv

from lightning_trackers.evaluation.sequence import TrackingSequence
from lightning_trackers.files import write_text
from lightning_trackers.metrics.functional.region_overlap import INITIALISED, is_code

EXPERIMENT = "baseline"
DECIMALS = 4

_FINGERPRINT = "fingerprint.txt"
_REMEDY = "Remove the sequence's files to have it tracked again"


@dataclass(frozen=True)
class SupervisedResult:
    """What a tracker said about one sequence, with re-initialisation after failures.

    Args:
        name: The sequence's name.
        runs: Regions of each run, float64 ``(T, 8)``, as in
            :mod:`lightning_trackers.metrics.functional.region_overlap`.
        run_times_s: Time per frame without decoding, float64 ``(T, R)``; 0 where the tracker did
            not run. NaN throughout where it is not known.

    Raises:
        ValueError: If the runs and their times do not belong together.
    """

    name: str
    runs: tuple[np.ndarray, ...]
    run_times_s: np.ndarray

    def __post_init__(self) -> None:
        """Check that runs and times belong together."""
        shapes = {run.shape for run in self.runs}
        expected = {(len(self.run_times_s), 8)}
        if shapes != expected or self.run_times_s.shape[1:] != (len(self.runs),):
            raise ValueError(
                f"result of {self.name}: expected at least one run (T, 8) and times (T, runs), got "
                f"{[run.shape for run in self.runs]} and {self.run_times_s.shape}"
            )

    @property
    def times_s(self) -> np.ndarray:
        """Time of the first start, then of every step of every run, float64 ``(N,)``."""
        starts = np.stack([run[:, 0] == INITIALISED for run in self.runs], axis=1)
        codes = np.stack([is_code(run) for run in self.runs], axis=1)
        ran = ~(starts & codes) & (self.run_times_s > 0)
        return np.concatenate([self.run_times_s[:1, 0], self.run_times_s.T[ran.T]])


class VOTResultStore:
    """The results of one tracker on one benchmark.

    Args:
        folder: Where the files are, made when the first result is saved.
        fingerprint: A text that changes whenever results would (checkpoint, settings, benchmark).
        overwrite: Begin anew: remove the results that the folder holds.

    Raises:
        FileExistsError: If the folder holds results of another fingerprint.
    """

    def __init__(self, folder: str | Path, fingerprint: str, *, overwrite: bool = False) -> None:
        self.folder = Path(folder)
        self.fingerprint = fingerprint.strip()
        if overwrite:
            # Times first: without them a result counts as incomplete.
            for pattern in ("*_time.txt", "*_[0-9][0-9][0-9].txt"):
                for file in self.folder.glob(f"{EXPERIMENT}/*/{pattern}"):
                    file.unlink()
            (self.folder / _FINGERPRINT).unlink(missing_ok=True)
        self._check_fingerprint()

    def load(self, sequence: TrackingSequence) -> SupervisedResult | None:
        """Return the saved result of a sequence, or None if it was not saved yet.

        Raises:
            ValueError: If a file does not belong to this sequence or was damaged.
        """
        return self._load(sequence.name, len(sequence))

    def save(self, result: SupervisedResult) -> SupervisedResult:
        """Write the result of a sequence; return it as :meth:`load` will, rounded as in the files.

        Raises:
            OSError: If writing fails, e.g. because the disk is full.
        """
        if not (self.folder / _FINGERPRINT).exists():
            write_text(self.folder / _FINGERPRINT, self.fingerprint + "\n")
        for number, run in enumerate(result.runs, start=1):
            write_text(self._file(result.name, number), regions_text(run))
        rows = [",".join(f"{t:.8f}" for t in row) + "\n" for row in result.run_times_s.tolist()]
        write_text(self._times_file(result.name), "".join(rows))
        saved = self._load(result.name, len(result.run_times_s))
        if saved is None:
            raise FileNotFoundError(f"{self._times_file(result.name)}: removed while in use")
        return saved

    def _load(self, name: str, frames: int) -> SupervisedResult | None:
        times_file = self._times_file(name)
        if not times_file.exists():
            return None
        times_s = _read_times(times_file, frames)
        files = [self._file(name, number + 1) for number in range(times_s.shape[1])]
        missing = [str(file) for file in files if not file.exists()]
        if missing:
            raise ValueError(f"{missing[0]}: missing, though {times_file} names it. {_REMEDY}")
        return SupervisedResult(name, tuple(read_regions(f, frames) for f in files), times_s)

    def _file(self, name: str, number: int) -> Path:
        return self._sequence_folder(name) / f"{name}_{number:03d}.txt"

    def _times_file(self, name: str) -> Path:
        return self._sequence_folder(name) / f"{name}_time.txt"

    def _sequence_folder(self, name: str) -> Path:
        if Path(name).name != name or name in ("", "..", "."):
            raise ValueError(f"sequence name: expected one that can name a folder, got {name!r}")
        return self.folder / EXPERIMENT / name

    def _check_fingerprint(self) -> None:
        file = self.folder / _FINGERPRINT
        if file.exists():
            found = file.read_text(encoding="utf-8").strip()
        elif next(self.folder.glob(f"{EXPERIMENT}/*/*_time.txt"), None) is not None:
            found = "none (the folder holds result files but no fingerprint.txt)"
        else:
            return
        if found != self.fingerprint:
            raise FileExistsError(
                f"{self.folder}: holds results of another tracker, checkpoint or setting. Choose "
                "another output folder, or pass overwrite=True to remove them.\n"
                f"fingerprint expected: {self.fingerprint}\nfingerprint found: {found}"
            )


def import_vot_results(
    folder: str | Path,
    lengths: Mapping[str, int],
    *,
    missing: Literal["error", "exclude"] = "error",
) -> dict[str, SupervisedResult]:
    """Read another tracker's results of the supervised experiment.

    Args:
        folder: The tracker's folder, with or without its ``baseline`` folder.
        lengths: Number of frames of each sequence of the benchmark, by name.
        missing: What to do where a sequence has no result.

    Returns:
        Results by sequence, in the order of ``lengths``; times are NaN where no file holds them.

    Raises:
        FileNotFoundError: If the folder or, unless they are to be excluded, results are missing.
        ValueError: If a file is damaged or does not belong to its sequence.
    """
    folder = Path(folder)
    folder = folder / EXPERIMENT if (folder / EXPERIMENT).is_dir() else folder
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; expected <tracker>/{EXPERIMENT}/<sequence>/"
            "<sequence>_001.txt"
        )
    files = {name: sorted((folder / name).glob(f"{name}_[0-9][0-9][0-9].txt")) for name in lengths}
    absent = [name for name in lengths if not files[name]]
    if absent and (missing == "error" or len(absent) == len(lengths)):
        raise FileNotFoundError(
            f"{folder}: no result of {len(absent)} of {len(lengths)} sequences: "
            f"{', '.join(absent)}; expected <sequence>/<sequence>_001.txt. Add them, or exclude "
            'these sequences with missing="exclude"'
        )
    read_at_once = _regions_of([file for name in lengths for file in files[name]])
    results = {}
    for name, count in lengths.items():
        if files[name]:
            runs = tuple(
                read_at_once[file]
                if len(read_at_once.get(file, ())) == count
                else read_regions(file, count)
                for file in files[name]
            )
            times_file = folder / name / f"{name}_time.txt"
            times_s = np.full((count, len(runs)), np.nan)
            if times_file.exists() and (read := _read_times(times_file, count)).size:
                times_s[:, : read.shape[1]] = read[:, : len(runs)]
            results[name] = SupervisedResult(name, runs, times_s)
    return results


def regions_text(regions: np.ndarray) -> str:
    """Return regions ``(T, 8)`` as the lines of a result file."""
    lines = []
    for row, code in zip(regions.tolist(), is_code(regions).tolist(), strict=True):
        numbers = [value for value in row if not math.isnan(value)]  # NaN fills shorter ones
        text = f"{row[0]:.0f}" if code else ",".join(f"{v:.{DECIMALS}f}" for v in numbers)
        lines.append(text + "\n")
    return "".join(lines)


def read_regions(file: Path, count: int | None = None, *, codes: bool = True) -> np.ndarray:
    """Return the regions of a result or ground-truth file, float64 ``(T, 8)``.

    Args:
        file: One region a line, its numbers separated by commas.
        count: The number of lines expected.
        codes: Whether a line may be a special code.

    Raises:
        ValueError: If a line is no region, holds NaN, or the count differs.
    """
    lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    lengths = np.array([line.count(",") + 1 for line in lines], dtype=np.intp)
    try:
        numbers = np.array(list(map(float, ",".join(lines).split(",")))) if lines else np.empty(0)
    except ValueError:
        numbers = np.empty(0)
    allowed = (1, 4, 8) if codes else (4, 8)
    valid = len(numbers) == lengths.sum() and np.isin(lengths, allowed).all()
    if not valid or not np.isfinite(numbers).all():
        raise _line_error(file, lines, allowed)
    first = np.cumsum(lengths) - lengths
    if not np.isin(numbers[first[lengths == 1]], (0, 1, 2)).all():
        raise _line_error(file, lines, allowed)
    if len(lines) != (count if count is not None else max(len(lines), 1)):
        raise ValueError(
            f"{file}: expected {'some' if count is None else count} lines, one a frame, got "
            f"{len(lines)}. Do the file and the annotations belong to the same benchmark and year?"
        )
    regions = np.full((len(lines), 8), np.nan)
    regions[np.arange(8) < lengths[:, None]] = numbers
    return regions


def _regions_of(files: Sequence[Path]) -> dict[Path, np.ndarray]:
    """Read many files as one text, several times as fast as one by one.

    Returns:
        Regions by file; nothing if there is anything unusual in any of them, which
        :func:`read_regions` then accepts or names.
    """
    texts = [file.read_bytes().replace(b"\r\n", b"\n").rstrip() + b"\n" for file in files]
    text = b"".join(texts)
    characters = np.frombuffer(text, dtype=np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    commas = np.cumsum(characters == ord(","))[ends]
    lengths = np.diff(commas, prepend=0) + 1  # numbers in each line
    try:
        numbers = pyarrow.csv.read_csv(
            pa.BufferReader(text.replace(b",", b"\n")),
            read_options=pyarrow.csv.ReadOptions(column_names=["value"], use_threads=False),
            convert_options=pyarrow.csv.ConvertOptions(column_types={"value": pa.float64()}),
        )["value"].to_numpy()
    except pa.ArrowInvalid:
        return {}
    if len(numbers) != lengths.sum() or not np.isfinite(numbers).all():
        return {}
    codes = numbers[(np.cumsum(lengths) - lengths)[lengths == 1]]
    known = (lengths == 1) | (lengths == 4) | (lengths == 8)
    if not known.all() or not np.isin(codes, (0, 1, 2)).all():
        return {}
    regions = np.full((len(lengths), 8), np.nan)
    regions[np.arange(8) < lengths[:, None]] = numbers
    counts = np.cumsum([part.count(b"\n") for part in texts])
    return dict(zip(files, np.split(regions, counts[:-1]), strict=True))


def _line_error(file: Path, lines: list[str], allowed: tuple[int, ...]) -> ValueError:
    """Return the error that names the first line that is no region."""
    code = "a code 0, 1 or 2, or " if 1 in allowed else ""
    for number, line in enumerate(lines, start=1):
        try:
            values = [float(value) for value in line.split(",")]
        except ValueError:
            values = []
        is_region = len(values) in allowed and bool(np.isfinite(values).all())
        if not is_region or (len(values) == 1 and values[0] not in (0, 1, 2)):
            return ValueError(
                f"{file}, line {number}: expected {code}4 or 8 finite numbers separated by "
                f"commas, got {line!r}"
            )
    return ValueError(f"{file}: expected one region a line, got {len(lines)} lines")


def _read_times(file: Path, count: int) -> np.ndarray:
    """Return the times of a file, float64 ``(count, runs)``."""
    lines = file.read_text(encoding="utf-8").split()
    try:
        rows = [[float(value) for value in line.split(",")] for line in lines]
        times_s = np.array(rows, dtype=np.float64)
    except ValueError:
        times_s = np.empty(0)
    if times_s.ndim != 2 or len(times_s) != count:
        raise ValueError(
            f"{file}: expected {count} lines of times in s, a column a run, got {len(lines)} "
            f"lines. {_REMEDY}"
        )
    return times_s
