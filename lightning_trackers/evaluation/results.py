"""Result files in the layout that official toolkits read, one set per sequence.

::

    <folder>/<sequence>.txt               x,y,w,h per frame, 1-based px
    <folder>/times/<sequence>_time.txt    s per frame
    <folder>/scores/<sequence>_score.txt  confidence per frame (ours; toolkits do not look there)
    <folder>/fingerprint.txt              what made these results

``<folder>`` is ``<root>/<benchmark>/<tracker>``. Files appear whole or not at all, the boxes last,
so an interrupted evaluation goes on where it stopped.

Source: got-10k/toolkit 0.1.3, layout of ``ExperimentOTB``.
Deviation: six decimals instead of three, because results are read back and scored.
"""

from pathlib import Path

import numpy as np

from lightning_trackers.boxes import xywh_to_xyxy, xyxy_to_xywh
from lightning_trackers.evaluation.one_pass import TrackResult
from lightning_trackers.evaluation.sequence import TrackingSequence
from lightning_trackers.files import write_text

_FINGERPRINT = "fingerprint.txt"
_ONE_BASED = np.array([1.0, 1.0, 0.0, 0.0])
_REMEDY = "Remove the file to have the sequence tracked again"


class ResultFileError(ValueError):
    """A result file is damaged or belongs to other annotations; the message names file and line."""


class ResultStore:
    """The results of one tracker on one benchmark.

    Args:
        folder: Where the files are, made when the first result is saved.
        fingerprint: A text that changes whenever results would (checkpoint, settings, benchmark).
        overwrite: Begin anew: remove the results that the folder holds. With several processes
            only one may say so, before the others look.

    Raises:
        FileExistsError: If the folder holds results of another fingerprint.
    """

    def __init__(self, folder: str | Path, fingerprint: str, *, overwrite: bool = False) -> None:
        self.folder = Path(folder)
        self.fingerprint = fingerprint.strip()
        if overwrite:
            self._remove_results()
        self._check_fingerprint()

    def load(self, sequence: TrackingSequence) -> TrackResult | None:
        """Return the saved result of a sequence, or None if it was not saved yet.

        Raises:
            ResultFileError: If a file does not belong to this sequence or was damaged.
        """
        boxes_file, times_file, scores_file = self._files(sequence.name)
        if not (boxes_file.exists() and times_file.exists() and scores_file.exists()):
            return None
        boxes_xyxy = read_boxes(boxes_file, len(sequence))
        first = sequence.start_xyxy
        if not np.allclose(boxes_xyxy[0], first, rtol=0, atol=1e-3):
            raise ResultFileError(
                f"{boxes_file}, line 1: expected the box that {sequence.name} starts from, "
                f"x1 y1 x2 y2 = {first.tolist()} (0-based), got {boxes_xyxy[0].tolist()}. The "
                "result belongs to other annotations: choose another output folder, or overwrite"
            )
        return TrackResult(
            sequence.name,
            boxes_xyxy,
            _read_table(scores_file, len(sequence), 1)[:, 0],
            _read_table(times_file, len(sequence), 1)[:, 0],
        )

    def save(self, result: TrackResult) -> TrackResult:
        """Write the result of a sequence.

        Returns:
            The result as :meth:`load` will return it, rounded to the digits in the files. Score
            this one, and an interrupted evaluation ends with the same numbers as another.

        Raises:
            OSError: If writing fails, e.g. because the disk is full.
        """
        boxes_file, times_file, scores_file = self._files(result.name)
        if not (self.folder / _FINGERPRINT).exists():
            write_text(self.folder / _FINGERPRINT, self.fingerprint + "\n")
        write_text(times_file, _table(result.times_s[:, None], decimals=8))
        write_text(scores_file, _table(result.scores[:, None], decimals=6))
        write_boxes(boxes_file, result.boxes_xyxy)  # last: its presence says "complete"
        count = len(result.boxes_xyxy)
        return TrackResult(
            result.name,
            read_boxes(boxes_file, count),
            _read_table(scores_file, count, 1)[:, 0],
            _read_table(times_file, count, 1)[:, 0],
        )

    def _files(self, name: str) -> tuple[Path, Path, Path]:
        if Path(name).name != name or name in ("", Path(_FINGERPRINT).stem):
            raise ValueError(f"sequence name: expected one that can name a file, got {name!r}")
        return (
            self.folder / f"{name}.txt",
            self.folder / "times" / f"{name}_time.txt",
            self.folder / "scores" / f"{name}_score.txt",
        )

    def _results(self) -> list[Path]:
        # Boxes first: without them a result counts as incomplete, should the removal be cut short.
        return [
            *(f for f in self.folder.glob("*.txt") if f.name != _FINGERPRINT),
            *self.folder.glob("times/*_time.txt"),
            *self.folder.glob("scores/*_score.txt"),
        ]

    def _remove_results(self) -> None:
        for file in [*self._results(), self.folder / _FINGERPRINT]:
            file.unlink(missing_ok=True)

    def _check_fingerprint(self) -> None:
        file = self.folder / _FINGERPRINT
        if file.exists():
            found = file.read_text(encoding="utf-8").strip()
        elif self._results():
            found = "none (the folder holds result files but no fingerprint.txt)"
        else:
            return
        if found != self.fingerprint:
            raise FileExistsError(
                f"{self.folder}: holds results of another tracker, checkpoint or setting. Choose "
                "another output folder, or pass overwrite=True to remove them.\n"
                f"fingerprint expected: {self.fingerprint}\nfingerprint found: {found}"
            )


def write_boxes(file: Path, boxes_xyxy: np.ndarray) -> None:
    """Write boxes ``(T, 4)`` as ``x,y,w,h`` lines, 1-based px."""
    write_text(file, _table(xyxy_to_xywh(boxes_xyxy) + _ONE_BASED, decimals=6))


def read_boxes(file: Path, count: int | None = None) -> np.ndarray:
    """Return the boxes of a result file as xyxy, 0-based, float64 ``(T, 4)``.

    Args:
        file: A result file of this project or of another (commas, tabs or blanks, 1-based).
        count: The number of lines expected.

    Raises:
        ResultFileError: If a line is not four finite numbers, or the count differs.
    """
    return xywh_to_xyxy(_read_table(file, count, 4) - _ONE_BASED)


def _table(rows: np.ndarray, decimals: int) -> str:
    return "".join(",".join(f"{v:.{decimals}f}" for v in row) + "\n" for row in rows.tolist())


def _read_table(file: Path, count: int | None, columns: int) -> np.ndarray:
    # A file that is not text at all fails as a line that is not numbers.
    lines = file.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = [float(value) for value in line.replace(",", " ").split()]
        except ValueError:
            row = []
        if len(row) != columns or not np.isfinite(row).all():
            raise ResultFileError(
                f"{file}, line {number}: expected {columns} finite number(s), separated by commas, "
                f"tabs or blanks, got {line[:80]!r}. {_REMEDY}"
            )
        rows.append(row)
    if len(rows) != (len(rows) if count is None else count):
        raise ResultFileError(
            f"{file}: expected {count} lines, one a frame, got {len(rows)}. {_REMEDY}"
        )
    return np.array(rows, dtype=np.float64).reshape(-1, columns)
