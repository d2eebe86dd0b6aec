"""Compare the accuracy of this project's trackers with OpenCV's KCF and CSRT on the same frames.

    python -m measurements.accuracy_vs_opencv --root <folder in the OTB layout>
    python -m measurements.accuracy_vs_opencv --root ... --same-trainings --trackers CSRT \
        --checkpoint spga=seed_0.pt,seed_1.pt,seed_2.pt mdnet=other_0.pt,other_1.pt,other_2.pt

Every tracker starts from the first ground-truth box, is never re-initialised, and goes through the
same one-pass evaluation and metric. Prints the success AUC of each sequence, the mean over
sequences, and frames per second (decoding excluded; all frames / all time, one sequence at a time).
Of several trainings of a tracker the mean is shown; of two trackers also their difference, with a
bootstrap interval over sequences and trainings. Needs ``pip install lightning-trackers[opencv-trackers]``.
"""

import argparse
import csv
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from datamodules.benchmarks.otb import otb_layout_benchmark
from lightning_trackers.boxes import xywh_to_xyxy, xyxy_to_xywh
from lightning_trackers.evaluation import Benchmark, Prediction, Tracker, track_one_pass
from lightning_trackers.evaluation.tracker import checked_frame, checked_start_box
from lightning_trackers.files import write_text
from lightning_trackers.methods import load_tracker
from lightning_trackers.metrics import OnePassEvaluation
from lightning_trackers.metrics.functional.seeds import (
    SeededInterval,
    seeded_difference,
    times_drawn,
)

RESAMPLES = 10_000


@dataclass
class OpenCVState:
    """What follows one target.

    Args:
        tracker: The cv2 tracker.
        box_xyxy: The latest box, float32 ``(4,)``, px.
    """

    tracker: Any
    box_xyxy: np.ndarray


class OpenCVTracker:
    """A cv2 tracker behind this project's tracker protocol.

    cv2 trackers take and give whole-pixel boxes. Where one reports failure, the last box stays.

    Args:
        name: ``KCF`` or ``CSRT``.

    Raises:
        RuntimeError: If this OpenCV has no such tracker.
    """

    def __init__(self, name: str) -> None:
        create: Callable[[], Any] | None = getattr(cv2, f"Tracker{name}_create", None)
        if create is None:
            raise RuntimeError(
                f"OpenCV {cv2.__version__} has no Tracker{name}: it needs the contrib build "
                "(pip uninstall opencv-python opencv-python-headless, then "
                "pip install opencv-contrib-python)"
            )
        self._create = create

    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> OpenCVState:
        """Begin to follow a target."""
        box = checked_start_box(box_xyxy, checked_frame(frame).shape[:2])
        x, y, w, h = (round(float(v)) for v in xyxy_to_xywh(box))
        tracker = self._create()
        tracker.init(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), (x, y, max(w, 1), max(h, 1)))
        return OpenCVState(tracker, box)

    def step(self, states: Sequence[OpenCVState], frames: Sequence[np.ndarray]) -> list[Prediction]:
        """Find each target in its next frame."""
        return [self._update(s, f) for s, f in zip(states, frames, strict=True)]

    def _update(self, state: OpenCVState, frame: np.ndarray) -> Prediction:
        found, box_xywh = state.tracker.update(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        if found:
            state.box_xyxy = xywh_to_xyxy(np.array(box_xywh, dtype=np.float32))
        return Prediction(state.box_xyxy, float(found))


@dataclass(frozen=True)
class Score:
    """Accuracy and speed of one tracker.

    Args:
        success_auc: Success AUC of each of its K trainings on each of S sequences, ``(K, S)``.
        fps: Frames per second after the start, over all of them.
    """

    success_auc: np.ndarray
    fps: float

    @property
    def mean(self) -> float:
        """Mean success AUC over trainings and sequences."""
        return float(self.success_auc.mean())


def evaluate(trackers: Sequence[Tracker[Any]], benchmark: Benchmark) -> Score:
    """Track every sequence alone with every training of a tracker and score it."""
    each = [_evaluate(tracker, benchmark) for tracker in trackers]
    scores, frames, times_s = zip(*each, strict=True)
    fps = sum(frames) / sum(times_s) if sum(times_s) > 0 else float("nan")
    return Score(np.array([[s[x.name] for x in benchmark] for s in scores]), fps)


def _evaluate(tracker: Tracker[Any], benchmark: Benchmark) -> tuple[dict[str, float], int, float]:
    """Return the success AUC of each sequence by name, frames after the first, and their time, s."""
    truth = {sequence.name: sequence for sequence in benchmark}
    success_auc, frames, time_s = {}, 0, 0.0
    for result in track_one_pass(tracker, benchmark, lanes=1):
        sequence = truth[result.name]
        metric = OnePassEvaluation()
        metric.update(
            torch.from_numpy(result.boxes_xyxy),
            torch.from_numpy(sequence.boxes_xyxy),
            torch.from_numpy(sequence.valid),
        )
        success_auc[result.name] = float(metric.compute()["success_auc"])
        frames += len(result.times_s) - 1
        time_s += float(result.times_s[1:].sum())
        print(f"  {result.name}: {success_auc[result.name]:.3f}", file=sys.stderr, flush=True)
    return success_auc, frames, time_s


def ours(words: Sequence[str]) -> dict[str, list[Tracker[Any]]]:
    """Return this project's trackers by name, of ``[name=]checkpoint[,checkpoint...]`` each.

    Without any it is the shipped one.

    Raises:
        ValueError: If a name comes twice.
    """
    trackers: dict[str, list[Tracker[Any]]] = {}
    for word in words or ["ours="]:
        name, _, files = word.rpartition("=")
        if (name or "ours") in trackers:
            raise ValueError(f"--checkpoint {word}: expected another name, as in name={files}")
        trackers[name or "ours"] = [load_tracker(file or None) for file in files.split(",")]
    return trackers


def difference(first: Score, second: Score, same_trainings: bool) -> SeededInterval:
    """Return the difference of two trackers' means with its interval."""
    times = times_drawn(first.success_auc.shape[1], RESAMPLES)  # (R, S)
    sides = [
        (s.success_auc.mean(1), s.success_auc @ times.T / times[0].sum()) for s in (first, second)
    ]
    return seeded_difference(*sides, same_trainings=same_trainings)


def table(scores: dict[str, Score], names: Sequence[str]) -> list[list[str]]:
    """Return the rows to print: a header, one row per sequence, the mean, the speed."""
    rows = [["sequence", *scores]]
    for i, name in enumerate(names):
        rows.append([name, *(f"{s.success_auc[:, i].mean():.3f}" for s in scores.values())])
    rows.append(["mean", *(f"{s.mean:.3f}" for s in scores.values())])
    rows.append(["fps", *(f"{s.fps:.1f}" for s in scores.values())])
    return rows


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of sequences in the OTB layout")
    parser.add_argument(
        "--checkpoint", nargs="*", default=[], metavar="[NAME=]FILE[,FILE...]",
        help="our trackers, each with the checkpoints of its trainings; the shipped one by default",
    )  # fmt: skip
    parser.add_argument(
        "--same-trainings", action="store_true",
        help="the first two of them were trained together, and differ in how they track",
    )  # fmt: skip
    parser.add_argument("--max-frames", type=int, default=300, help="frames of each sequence")
    parser.add_argument("--trackers", nargs="*", default=["ours", "KCF", "CSRT"],
                        choices=["ours", "KCF", "CSRT"])  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="threads of torch and of OpenCV")
    parser.add_argument("--csv", type=Path, help="also write the table to this file")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    benchmark = otb_layout_benchmark(args.root, max_frames=args.max_frames)
    wanted = args.checkpoint or "ours" in args.trackers
    trackers = ours(args.checkpoint) if wanted else {}
    compared = list(trackers)[:2]
    trackers |= {name: [OpenCVTracker(name)] for name in args.trackers if name != "ours"}
    scores = {}
    for name, trainings in trackers.items():
        print(name, file=sys.stderr, flush=True)
        scores[name] = evaluate(trainings, benchmark)

    rows = table(scores, [sequence.name for sequence in benchmark])
    width = max(len(row[0]) for row in rows)
    for row in rows:
        print(row[0].ljust(width), *(cell.rjust(8) for cell in row[1:]))
    if len(compared) == 2:
        found = difference(*(scores[name] for name in compared), args.same_trainings)
        print(f"{' - '.join(compared)}: {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
    if args.csv is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(args.csv, text.getvalue())


if __name__ == "__main__":
    main()
