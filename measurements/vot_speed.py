"""Measure how fast VOT2018 results are scored, alone and beside pysot's toolkit.

    python -m measurements.vot_speed --annotations VOT2018.json --results <tracker folder>
    python -m measurements.vot_speed --annotations ... --results ... --pysot <checkout> --python <python>

The tracker folder holds ``baseline/<sequence>/<sequence>_001.txt``. Both sides take turns on the same
files in processes of their own, end with the same scores or the script refuses to go on, and the
ratio is the median of the rounds' ratios. Rows: EAO from results in memory; accuracy, robustness and
EAO from results in memory; the same with reading the result files. Annotations are read before.
Ours computes the overlaps of all three scores also where only EAO is timed.

pysot's toolkit must be built (``<python> setup.py build_ext --inplace`` in its checkout), which takes
Cython 0.29: ``python -m venv <folder>; <folder>/bin/pip install 'cython<3' setuptools numpy
opencv-python-headless pillow tqdm colorama``. Without ``--pysot`` ours is measured alone.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from datamodules.benchmarks.vot import annotated_vot
from lightning_trackers.evaluation.supervised import annotation_of
from lightning_trackers.evaluation.vot_results import SupervisedResult, import_vot_results
from lightning_trackers.metrics.functional import vot

YEAR = 2018
TOLERANCE = 1e-9
WORKER = Path(__file__).with_name("vot_speed_pysot.py")


@dataclass(frozen=True)
class Scored:
    """One round of one side: scores, and seconds for EAO, for all scores, and for reading."""

    eao: float
    accuracy: float
    failures: float
    eao_s: float
    all_s: float
    load_s: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--annotations", type=Path, required=True, help="pysot's VOT2018.json")
    parser.add_argument("--results", type=Path, required=True, help="folder of one tracker")
    parser.add_argument("--pysot", type=Path, help="built checkout of STVIR/pysot")
    parser.add_argument("--python", default="python3", help="interpreter that pysot runs in")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args(arguments)

    ours = our_side(args.annotations, args.results)
    ours("files")  # numba loads its compiled code, or compiles it
    sides = {"ours": ours}
    process = None
    if args.pysot is not None:
        command = [args.python, str(WORKER), args.pysot, args.annotations, args.results]
        process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        sides["pysot"] = lambda what: ask(process, what)
    try:
        print(table(measured(sides, args.rounds)))
    finally:
        if process is not None:
            process.communicate()  # closes its input, upon which it ends


def our_side(annotations: Path, results: Path) -> Callable[[str], Scored]:
    """Return what scores the results with this project's functions."""
    rule = vot.rule_of(YEAR, "pysot")
    benchmark = annotated_vot(annotations, YEAR)
    truth = [annotation_of(sequence) for sequence in benchmark]
    lengths = {sequence.name: len(sequence) for sequence in benchmark}
    kept: dict[str, SupervisedResult] = {}

    def score(what: str) -> Scored:
        start = time.perf_counter()
        if what == "files" or not kept:
            kept.update(import_vot_results(results, lengths))
        loaded = time.perf_counter()
        overlaps = [vot.sequence_overlaps(one, kept[one.name].runs, rule) for one in truth]
        curve = vot.expected_overlap_curve(overlaps, toolkit=rule.toolkit)
        assert rule.eao_interval is not None
        eao = vot.expected_average_overlap(curve, rule.eao_interval, rule.toolkit)
        between = time.perf_counter()
        row = vot.accuracy_robustness(overlaps)
        end = time.perf_counter()
        return Scored(
            eao, row.accuracy, row.failures, between - loaded, end - start, loaded - start
        )

    return score


def ask(process: "subprocess.Popen[str] | None", what: str) -> Scored:
    """Have pysot's process do a round.

    Raises:
        RuntimeError: If it has died.
    """
    assert process is not None
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"pysot's process has ended (exit status {process.wait()}); see above")
    return Scored(**json.loads(line))


def measured(
    sides: dict[str, Callable[[str], Scored]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Return seconds by row and side, one per round.

    Raises:
        ValueError: If two sides end with different scores.
    """
    rows: dict[str, dict[str, list[float]]] = {
        row: {side: [] for side in sides} for row in ("EAO", "A, R, EAO", "files, A, R, EAO")
    }
    for _ in range(rounds):
        found = {}
        for side, score in sides.items():
            memory, files = score("memory"), score("files")
            rows["EAO"][side].append(memory.eao_s)
            rows["A, R, EAO"][side].append(memory.all_s)
            rows["files, A, R, EAO"][side].append(files.all_s)
            found[side] = (files.eao, files.accuracy, files.failures)
        for side, values in found.items():
            for a, b in zip(values, found["ours"], strict=True):
                if abs(a - b) > TOLERANCE:
                    raise ValueError(f"scores differ: ours {found['ours']}, {side} {values}")
    return rows


def table(rows: dict[str, dict[str, list[float]]]) -> str:
    """Return the medians, and the medians of the rounds' ratios, as Markdown."""
    lines = ["| scored | ours (ms) | pysot (ms) | ratio |", "|---|---|---|---|"]
    for name, sides in rows.items():
        ours, theirs = sides["ours"], sides.get("pysot")
        cells = [f"{1e3 * median(ours):.1f}", "-", "-"]
        if theirs:
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            cells[1:] = [f"{1e3 * median(theirs):.1f}", f"{median(ratios):.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
