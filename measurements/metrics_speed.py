"""Measure how fast one-pass evaluation scores 30 trackers on OTB-2015, beside the got10k toolkit.

    python -m measurements.metrics_speed --results <folder> --annotations <folder>
    python -m measurements.metrics_speed --results ... --annotations ... --got10k <unpacked 0.1.3>

``--results`` holds a folder of OTB-2015 result files per tracker, as the got10k toolkit writes them;
they are copied, each copy with other noise on its boxes, until there are 30 trackers.
``--annotations`` is the ``anno`` folder of OTB's toolkit.

Both sides read the same text files (annotations, boxes and times) and end with the same figures: the
curves and scores of every sequence and tracker, and speeds. They take turns, and the ratio is the
median of the rounds' ratios. The toolkit's plots and its JSON file are left out of its time. Without
``--got10k`` ours is measured alone. The script refuses to go on where two figures differ by 1e-9.

The second row is the arithmetic alone, on boxes in memory, where the toolkit's functions are called
as its report does.

The toolkit runs from its unpacked archive (``pip download --no-deps --no-binary got10k got10k``,
``tar xf``) and needs ``shapely``, ``wget`` and ``six`` (``pip install --no-deps --target <folder>``
and ``PYTHONPATH=<folder>`` keep them out of the environment).
"""

import argparse
import contextlib
import io
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from lightning_trackers.evaluation.number_files import read_number_files
from lightning_trackers.metrics.functional.ope import one_pass_curves
from lightning_trackers.metrics.functional.speed import mean_rate_fps

TRACKERS = 30
TOLERANCE = 1e-9
FIRST_IMAGE = {"David": 300}
"""Where the toolkit expects more images than annotated frames: it cuts those before away."""


@dataclass
class Row:
    """Times of one measurement, one number per round.

    Args:
        name: What is measured.
        ours_s: Our times.
        theirs_s: The toolkit's, where there is one.
    """

    name: str
    ours_s: list[float] = field(default_factory=list)
    theirs_s: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the line of the table."""
        line = f"{self.name:<34} ours {median(self.ours_s):8.3f} s"
        if self.theirs_s:
            ratio = median(t / o for t, o in zip(self.theirs_s, self.ours_s, strict=True))
            line += f"   got10k {median(self.theirs_s):8.3f} s   {ratio:5.1f} times as fast"
        return line


Performance = dict[str, dict[str, Any]]
"""Figures by tracker and key; ours hold one per sequence."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--got10k", type=Path, help="unpacked got10k-0.1.3")
    parser.add_argument("--trackers", type=int, default=TRACKERS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the toolkit uses one
    annotations = named_annotations(options.annotations)
    with tempfile.TemporaryDirectory() as folder:
        trackers = copied_trackers(options.results, Path(folder) / "OTB2015", options.trackers)
        theirs = None
        if options.got10k is not None:
            theirs = Toolkit(options.got10k, annotations, Path(folder))
        rows = measure(annotations, trackers, theirs, options.rounds)
    print(f"{len(trackers)} trackers, {len(annotations)} sequences, {options.rounds} rounds")
    for row in rows:
        print(row)


def measure(
    annotations: dict[str, Path],
    trackers: Sequence[Path],
    theirs: "Toolkit | None",
    rounds: int,
) -> list[Row]:
    """Score all trackers in turns with the toolkit.

    Args:
        annotations: Annotation file of each sequence.
        trackers: Folder of result files of each tracker.
        theirs: The toolkit, if it is to be measured.
        rounds: How often.

    Raises:
        RuntimeError: If the two do not report the same figures.
    """
    from_files, arithmetic = Row("from result files to scores"), Row("scores of boxes in memory")
    boxes = loaded(annotations, trackers)
    for round_ in range(rounds + 1):
        ours_s, ours = timed(lambda: report(annotations, trackers))
        memory_s, _ = timed(lambda: scored_in_memory(*boxes))
        if round_:  # the first round warms the files' cache
            from_files.ours_s.append(ours_s)
            arithmetic.ours_s.append(memory_s)
        if theirs is None:
            continue
        theirs_s, reported = timed(lambda: theirs.report(trackers))
        their_memory_s, _ = timed(lambda: theirs.scored_in_memory(*boxes))
        if round_:
            from_files.theirs_s.append(theirs_s)
            arithmetic.theirs_s.append(their_memory_s)
        else:
            compare(ours, reported)
    return [from_files, arithmetic]


def report(annotations: dict[str, Path], trackers: Sequence[Path]) -> Performance:
    """Return what the toolkit's ``report`` returns, computed by ours."""
    names = list(annotations)
    target, lengths = read_number_files(list(annotations.values()), 4)
    valid = torch.ones(len(target), dtype=torch.bool)
    performance = {}
    for folder in trackers:
        pred, rows = read_number_files([f"{folder}/{n}.txt" for n in names], 4)
        if not np.array_equal(rows, lengths):
            raise ValueError(f"{folder}: results do not have the lengths of the annotations")
        times_s, rows = read_number_files([f"{folder}/times/{n}_time.txt" for n in names], 1)
        curves = one_pass_curves(
            torch.from_numpy(pred),
            torch.from_numpy(target),
            valid,
            lengths=torch.from_numpy(lengths),
            rule="got10k",
        )
        scores = curves.scores()
        speeds = [
            mean_rate_fps(times_s[end - count : end, 0])
            for end, count in zip(np.cumsum(rows), rows, strict=True)
        ]
        performance[folder.name] = {
            "success_curve": curves.success.numpy(),
            "precision_curve": curves.precision.numpy(),
            "success_score": scores["success_auc"].numpy(),
            "precision_score": scores["precision_20px"].numpy(),
            "success_rate": curves.success[:, 10].numpy(),
            "speed_fps": np.array(speeds),
        }
    return performance


def compare(ours: Performance, theirs: Performance) -> None:
    """Compare all figures of all trackers, by sequence and overall.

    Raises:
        RuntimeError: If two differ.
    """
    for tracker, reported in theirs.items():
        for key, values in ours[tracker].items():
            expected = np.array([row[key] for row in reported["seq_wise"].values()])
            overall = np.array(reported["overall"][key])
            for part, got, wanted in (
                ("a sequence", values, expected),
                ("overall", values.mean(axis=0), overall),
            ):
                worst = float(np.abs(got - wanted).max())
                if got.shape != wanted.shape or not worst <= TOLERANCE:
                    raise RuntimeError(
                        f"{tracker}: {key} of {part} differs by {worst:.3g}; the two do not "
                        "compute the same"
                    )


def loaded(
    annotations: dict[str, Path], trackers: Sequence[Path]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predictions ``(K, N, 4)``, ground truth ``(N, 4)`` and lengths ``(S,)``."""
    target, lengths = read_number_files(list(annotations.values()), 4)
    pred = [read_number_files([f / f"{n}.txt" for n in annotations], 4)[0] for f in trackers]
    return np.stack(pred), target, lengths


def scored_in_memory(pred: np.ndarray, target: np.ndarray, lengths: np.ndarray) -> list[Any]:
    """Return the curves of every tracker."""
    valid = torch.ones(len(target), dtype=torch.bool)
    options = {"lengths": torch.from_numpy(lengths), "rule": "got10k"}
    truth = torch.from_numpy(target)
    return [one_pass_curves(torch.from_numpy(b), truth, valid, **options) for b in pred]


class Toolkit:
    """The got10k toolkit on the same files.

    Args:
        folder: Its unpacked archive.
        annotations: Annotation file of each sequence.
        work: Gets a tree of OTB with empty images, which the toolkit counts but never opens.

    Raises:
        FileNotFoundError: If the folder is not the toolkit.
    """

    def __init__(self, folder: Path, annotations: dict[str, Path], work: Path) -> None:
        if not (folder / "got10k/experiments/otb.py").is_file():
            raise FileNotFoundError(
                f"{folder}: no got10k/experiments/otb.py; expected the unpacked archive of "
                "got10k 0.1.3"
            )
        sys.path.insert(0, str(folder))
        module = import_module("got10k.experiments.otb")
        self._metrics = import_module("got10k.utils.metrics")
        otb_tree(annotations, work / "otb")
        with contextlib.redirect_stdout(io.StringIO()):
            self._experiment = module.ExperimentOTB(
                str(work / "otb"), 2015, str(work), str(work / "reports")
            )
        self._experiment.plot_curves = lambda names: None
        module.json = _NoFile()
        found = self._experiment.dataset.seq_names
        if sorted(found) != sorted(annotations):
            raise FileNotFoundError(
                f"annotations: expected the 100 sequences of OTB-2015, got {len(annotations)}; "
                f"missing: {sorted(set(found) ^ set(annotations))[:5]}"
            )

    def report(self, trackers: Sequence[Path]) -> Performance:
        """Return the toolkit's report on the trackers' result files."""
        with contextlib.redirect_stdout(io.StringIO()):
            reported: Performance = self._experiment.report([f.name for f in trackers])
        return reported

    def scored_in_memory(
        self, pred: np.ndarray, target: np.ndarray, lengths: np.ndarray
    ) -> list[Any]:
        """Return the curves of every tracker by the functions that the report calls."""
        starts = np.cumsum(lengths)[:-1]
        truth = np.split(target, starts)
        return [
            self._experiment._calc_curves(*self._experiment._calc_metrics(boxes, anno))
            for tracker in pred
            for boxes, anno in zip(np.split(tracker, starts), truth, strict=True)
        ]


def named_annotations(folder: Path) -> dict[str, Path]:
    """Return the annotation files by the toolkit's names of sequences, in its order.

    Raises:
        FileNotFoundError: If there is none.
    """
    files = {}
    for file in folder.glob("*.txt"):
        name = re.sub(r"-(\d)$", r".\1", file.stem[0].upper() + file.stem[1:])
        files[_SPELLING.get(name, name)] = file
    if not files:
        raise FileNotFoundError(f"{folder}: expected annotation files, e.g. basketball.txt")
    return dict(sorted(files.items()))


_SPELLING = {
    "Faceocc1": "FaceOcc1",
    "Faceocc2": "FaceOcc2",
    "Fleetface": "FleetFace",
    "Human4.2": "Human4",
}


def copied_trackers(results: Path, target: Path, count: int) -> list[Path]:
    """Write the results of ``count`` trackers, the given ones and noisy copies of them.

    Raises:
        FileNotFoundError: If there is no result.
    """
    sources = sorted(f for f in results.iterdir() if f.is_dir())
    if not sources:
        raise FileNotFoundError(f"{results}: expected a folder of result files per tracker")
    folders = []
    for number in range(count):
        source = sources[number % len(sources)]
        folder = target / f"{source.name}_{number:02d}"
        (folder / "times").mkdir(parents=True)
        rng = np.random.default_rng(number)
        for file in sorted(source.glob("*.txt")):
            times = source / "times" / f"{file.stem}_time.txt"
            (folder / "times" / times.name).write_bytes(times.read_bytes())
            boxes, _ = read_number_files([file], 4)
            if number >= len(sources):
                boxes = boxes + rng.normal(0, 2, boxes.shape)
            np.savetxt(folder / file.name, boxes, fmt="%.3f", delimiter=",")
        folders.append(folder)
    return folders


def otb_tree(annotations: dict[str, Path], root: Path) -> None:
    """Write a tree in the layout of OTB, with empty files for images."""
    for name, file in annotations.items():
        base, _, target = name.partition(".")
        images = root / base / "img"
        images.mkdir(parents=True, exist_ok=True)
        text = file.read_text(encoding="utf-8")
        suffix = f".{target}" if target else ""
        (root / base / f"groundtruth_rect{suffix}.txt").write_text(text, encoding="utf-8")
        count = len(text.split("\n")) - text.endswith("\n") + FIRST_IMAGE.get(name, 1) - 1
        for number in range(1, count + 1):
            (images / f"{number:04d}.jpg").touch()


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took, and what it returned."""
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


class _NoFile:
    """Stands in for ``json``, so that the toolkit's report is not written."""

    def dump(self, *_: object, **__: object) -> None:
        """Write nothing."""


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


if __name__ == "__main__":
    main()
