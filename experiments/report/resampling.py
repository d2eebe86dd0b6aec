"""Scores of a benchmark under draws of its sequences: what every interval is made of."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lightning_trackers.evaluation.benchmarking import BenchmarkScores, protocol_of
from lightning_trackers.evaluation.sequence import Benchmark
from lightning_trackers.evaluation.supervised import VOTSupervised, annotation_of
from lightning_trackers.metrics.functional import vot


def scores_drawn(
    benchmark: Benchmark,
    row: BenchmarkScores,
    results: Mapping[str, Any],
    times: np.ndarray,
    keys: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Return scores over sequences that were drawn with replacement, by key, ``(R,)``.

    A score that is neither a mean over sequences nor over their frames, nor one of VOT's, has none.

    Args:
        benchmark: What was tracked.
        row: The scores on all sequences.
        results: Result of each sequence.
        times: How often each sequence is drawn, ``(R, S)``.
        keys: Scores that are asked for.
    """
    protocol = protocol_of(benchmark)
    if isinstance(protocol, VOTSupervised):
        return supervised_drawn(protocol, benchmark, results, times, keys)
    # The first frame is given and does not count.
    frames = np.array([s.valid[1:].sum() for s in benchmark], dtype=np.float64)
    found = {}
    for key in keys:
        values = sequence_values(row, key)
        value = row.scores.scalars.get(key, math.nan)
        if len(values) < 2 or len(values) != times.shape[1]:
            continue
        if _same(float(values.mean()), value):
            found[key] = times @ values / times.sum(axis=1)
        elif len(values) == len(frames) and _same(float(np.average(values, weights=frames)), value):
            found[key] = times @ (values * frames) / (times @ frames)
    return found


def supervised_drawn(
    protocol: VOTSupervised,
    benchmark: Benchmark,
    results: Mapping[str, Any],
    times: np.ndarray,
    keys: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Return VOT's scores under draws; none where they are the toolkits' own means over tags."""
    if protocol.toolkit == "python" or protocol.average != "pooled" or len(benchmark) < 2:
        return {}
    overlaps = [
        vot.sequence_overlaps(annotation_of(s), results[s.name].runs, protocol.rule)
        for s in benchmark
    ]
    accuracies = [vot.frame_accuracies(s) for s in overlaps]
    total = np.array([np.nansum(a) for a in accuracies])
    counted = np.array([np.isfinite(a).sum() for a in accuracies])
    failures = np.array([s.failed.sum(axis=1).mean() for s in overlaps])
    robustness = 100 * (times @ failures) / (times @ np.array([s.length for s in overlaps]))
    found = {
        "accuracy": times @ total / (times @ counted),
        "robustness": robustness,
        "reliability": np.exp(-vot.SENSITIVITY * robustness / 100),
        "failures": times @ failures,
    }
    interval = protocol.rule.eao_interval
    if interval is not None and "eao" in keys:
        eao = []
        for drawn in times:
            chosen = [s for s, n in zip(overlaps, drawn, strict=True) for _ in range(n)]
            curve = vot.expected_overlap_curve(chosen, toolkit=protocol.toolkit)
            eao.append(vot.expected_average_overlap(curve, interval, protocol.toolkit))
        found["eao"] = np.array(eao)
    return {key: found[key] for key in keys if key in found}


def sequence_values(row: BenchmarkScores, key: str) -> np.ndarray:
    """Return a score of every sequence, ``(S,)``; nothing if one lacks it."""
    scored = row.scores.sequences.values()
    values = np.array([scores.get(key, math.nan) for scores in scored])
    return values if np.isfinite(values).all() else np.empty(0)


def _same(found: float, value: float) -> bool:
    return math.isclose(found, value, rel_tol=1e-6, abs_tol=1e-9)
