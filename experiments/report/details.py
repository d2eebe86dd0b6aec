"""What only the results tell, not the scores: confidence intervals, worst frames, notes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.benchmark_logging import slug
from datamodules.raw_results import read_results
from experiments.report.charts import styles
from experiments.report.pictures import WorstFrames, worst_frames
from experiments.report.resampling import sequence_values, supervised_drawn
from experiments.report.tables import Intervals
from lightning_trackers.evaluation.benchmarking import BenchmarkScores, protocol_of
from lightning_trackers.evaluation.sequence import Benchmark
from lightning_trackers.evaluation.supervised import VOTSupervised
from lightning_trackers.metrics.functional.seeds import times_drawn
from lightning_trackers.metrics.functional.statistics import bootstrap_interval

EAO_RESAMPLES = 1000
"""An EAO curve is made anew for each, so there are fewer than for a mean."""


@dataclass(frozen=True)
class Details:
    """What the results of a benchmark tell beyond the scores.

    Args:
        intervals: 95 % confidence intervals by tracker and key of the score.
        pictures: Worst frames.
        notes: What a reader has to know, e.g. which sequences were left out.
        eao_interval: Sequence lengths over which VOT's EAO is a mean.
    """

    intervals: Intervals = field(default_factory=dict)
    pictures: Sequence[WorstFrames] = ()
    notes: Sequence[str] = ()
    eao_interval: tuple[int, int] | None = None


def benchmark_details(
    benchmark: Benchmark,
    rows: Sequence[BenchmarkScores],
    results: Mapping[str, Mapping[str, Any]],
    *,
    colours: Mapping[str, str],
    worst: int = 3,
    notes: Sequence[str] = (),
) -> Details:
    """Return what the results of a benchmark tell beyond the scores.

    Args:
        benchmark: What was tracked.
        rows: Scores of each tracker.
        results: Result of each sequence by tracker and sequence.
        colours: Colour of each tracker, hexadecimal RGB.
        worst: Worst frames of each sequence and tracker; 0 for none.
        notes: Handed on.
    """
    protocol = protocol_of(benchmark)
    intervals = mean_intervals(rows)
    for row in rows:
        found = intervals[row.tracker]
        if isinstance(protocol, VOTSupervised):
            found |= supervised_intervals(protocol, benchmark, results[row.tracker])
        else:
            found |= pooled_intervals(benchmark, row, except_for=found)
    pictures = worst_frames(benchmark, results, colours, worst) if worst else []
    eao_interval = protocol.rule.eao_interval if isinstance(protocol, VOTSupervised) else None
    return Details(intervals, pictures, notes, eao_interval)


def run_details(
    output_dir: str | Path,
    benchmarks: Iterable[Benchmark],
    scores: Sequence[BenchmarkScores],
    worst: int = 3,
) -> dict[str, Details]:
    """Return the details of an evaluation by benchmark, from the results that it left.

    Args:
        output_dir: Folder of the run, with ``results/<benchmark>/<tracker>``.
        benchmarks: What was tracked.
        scores: Scores of every tracker on every benchmark.
        worst: Worst frames of each sequence and tracker; 0 for none.
    """
    names = list(dict.fromkeys(row.tracker for row in scores))
    colours = {name: style.colour for name, style in styles(names).items()}
    details = {}
    for benchmark in benchmarks:
        rows = [row for row in scores if row.benchmark == benchmark.name]
        folder = Path(output_dir) / "results" / benchmark.name
        results = {r.tracker: read_results(benchmark, folder / slug(r.tracker))[0] for r in rows}
        details[benchmark.name] = benchmark_details(
            benchmark, rows, results, colours=colours, worst=worst
        )
    return details


def mean_intervals(
    rows: Sequence[BenchmarkScores],
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the intervals of scores that are means over sequences; a seed shared by all trackers.

    A score that is something else than the mean of the sequences' scores has none here.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {row.tracker: {} for row in rows}
    for row in rows:
        for key, value in row.scores.scalars.items():
            values = sequence_values(row, key)
            if len(values) > 1 and _same(float(values.mean()), value):
                low, high = bootstrap_interval(values)
                found[row.tracker][key] = float(low), float(high)
    return found


def pooled_intervals(
    benchmark: Benchmark, row: BenchmarkScores, *, except_for: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Return the intervals of scores over the frames of all sequences together, as GOT-10k has."""
    # The first frame is given and does not count.
    frames = np.array([s.valid[1:].sum() for s in benchmark], dtype=np.float64)
    found = {}
    for key, value in row.scores.scalars.items():
        values = sequence_values(row, key)
        if key in except_for or len(values) != len(frames) or len(values) < 2:
            continue
        if frames.all() and _same(float(np.average(values, weights=frames)), value):
            drawn = times_drawn(len(values), 10_000)
            found[key] = _ends(drawn @ (values * frames) / (drawn @ frames))
    return found


def supervised_intervals(
    protocol: VOTSupervised, benchmark: Benchmark, results: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Return the intervals of VOT's scores, all but the MATLAB and Python toolkits' own means."""
    drawn = times_drawn(len(benchmark), EAO_RESAMPLES)
    keys = ("accuracy", "robustness", "reliability", "failures", "eao")
    found = supervised_drawn(protocol, benchmark, results, drawn, keys)
    return {key: _ends(values) for key, values in found.items()}


def _same(found: float, value: float) -> bool:
    return math.isclose(found, value, rel_tol=1e-6, abs_tol=1e-9)


def _ends(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)
