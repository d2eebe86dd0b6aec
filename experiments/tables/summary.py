"""What the measured scores of a table say: means, intervals, differences, signs, power."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from experiments.tables.collecting import Collected, Measured, RowScores
from experiments.tables.definition import Numbers, Row
from lightning_trackers.metrics.functional.seeds import (
    SeededInterval,
    needed,
    seeded_difference,
    seeded_interval,
    variances_of_difference,
)

NAN = math.nan
UNKNOWN = SeededInterval(NAN, NAN, NAN)


@dataclass(frozen=True)
class Mean:
    """A score over seeds, as stored.

    Args:
        values: Score by seed.
        interval: Mean and 95 % interval over sequences and seeds; its ends are NaN where none is
            known.
    """

    values: Mapping[int, float] = field(default_factory=dict)
    interval: SeededInterval = UNKNOWN

    @property
    def std(self) -> float:
        """Standard deviation over seeds; NaN of a single one."""
        values = list(self.values.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else NAN


@dataclass(frozen=True)
class Difference:
    """A row less its baseline in one score.

    Args:
        baseline: Name of the baseline.
        paper: The paper's; NaN where it prints none.
        ours: Ours with its interval.
        power: What it would take to resolve the paper's difference; empty where unknown.
    """

    baseline: str
    paper: float
    ours: SeededInterval
    power: str = ""

    @property
    def verdict(self) -> str:
        """Whether the signs agree, and whether ours is told from zero."""
        if not (math.isfinite(self.paper) and math.isfinite(self.ours.mean)):
            return ""
        same = np.sign(self.paper) == np.sign(self.ours.mean)
        word = "equal in the paper" if self.paper == 0 else "agrees" if same else "disagrees"
        known = math.isfinite(self.ours.low)
        if known and self.ours.low <= 0 <= self.ours.high:
            word += ", not resolved"
        return word


@dataclass(frozen=True)
class Entry:
    """A score of a row on a benchmark.

    Args:
        benchmark: The paper's benchmark.
        metric: The paper's metric.
        score: Our key; empty where there is no counterpart.
        paper: The paper's number; NaN where it prints none.
        ours: Ours, before any search.
        after_search: With the settings that a search found.
        differences: To its baselines, where there is one.
        missing: Why numbers are missing, each reason once.
        published_only: The row is of somebody else's tracker.
    """

    benchmark: str
    metric: str
    score: str
    paper: float
    ours: Mean
    after_search: Mean
    differences: tuple[Difference, ...]
    missing: tuple[str, ...]
    published_only: bool


def summarise(collected: Collected) -> dict[str, list[Entry]]:
    """Return the entries of each row, benchmark by benchmark and metric by metric."""
    table = collected.table
    columns = [
        (benchmark, metric)
        for benchmark in collected.ours
        for metric in table.metrics
        if collected.scores.get(metric) or _printed(table.rows, benchmark, metric)
    ]
    return {
        row.name: [_entry(collected, row, benchmark, metric) for benchmark, metric in columns]
        for row in table.rows.values()
    }


def _entry(collected: Collected, row: Row, benchmark: str, metric: str) -> Entry:
    key = collected.scores.get(metric, "")
    found = collected.rows[benchmark].get(row.name)
    missing: tuple[str, ...] = ()
    if row.name in collected.absent:
        missing = (collected.absent[row.name],)
    elif found is not None:
        missing = reasons(found.missing)
    differences = [
        _difference(collected, row, baseline, benchmark, metric)
        for baseline in collected.table.baselines_of(row)
    ]
    return Entry(
        benchmark,
        metric,
        key,
        row.paper.get(benchmark, {}).get(metric, NAN),
        _mean(found.measured, key) if found else Mean(),
        _mean(found.after_search, key) if found else Mean(),
        tuple(d for d in differences if d is not None),
        missing,
        row.exp is None,
    )


def reasons(missing: Mapping[int, str]) -> tuple[str, ...]:
    """Return why seeds are missing, those of one reason together."""
    by_reason: dict[str, list[int]] = {}
    for seed, reason in missing.items():
        by_reason.setdefault(reason.replace(f", seed {seed},", ","), []).append(seed)
    return tuple(
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}: {reason}"
        for reason, seeds in by_reason.items()
    )


def _mean(measured: Mapping[int, Measured], key: str) -> Mean:
    known = {seed: m for seed, m in measured.items() if key in m.scores}
    if not known:
        return Mean()
    values = {seed: m.scores[key] for seed, m in known.items()}
    scores = np.array(list(values.values()))
    if not np.isfinite(scores).all():
        return Mean(values, SeededInterval(float(scores.mean()), NAN, NAN))
    drawn = _draws(known, key)
    if drawn is None:
        return Mean(values, SeededInterval(float(scores.mean()), NAN, NAN))
    return Mean(values, seeded_interval(scores, drawn))


def _draws(measured: Mapping[int, Measured], key: str) -> np.ndarray | None:
    if not all(key in m.draws for m in measured.values()):
        return None
    drawn = np.stack([m.draws[key] for m in measured.values()])
    # A draw of sequences may leave a score undefined (no frame counts); it counts for nobody.
    return drawn if np.isfinite(drawn).all() else None


def _difference(
    collected: Collected, row: Row, baseline: Row, benchmark: str, metric: str
) -> Difference | None:
    paper = _paper_difference(row, baseline, benchmark, metric)
    rows, key = collected.rows[benchmark], collected.scores.get(metric, "")
    ours, power = SeededInterval(NAN, NAN, NAN), ""
    if key != "fps" and row.name in rows and baseline.name in rows:
        first, second = (_with(rows[name], key) for name in (row.name, baseline.name))
        shared = _weights(row) == _weights(baseline)
        if shared:  # the same trainings: seed by seed
            common = [seed for seed in first if seed in second]
            first, second = ({s: found[s] for s in common} for found in (first, second))
        if first and second:
            a, b = (np.array([m.scores[key] for m in found.values()]) for found in (first, second))
            drawn_a, drawn_b = _draws(first, key), _draws(second, key)
            if drawn_a is not None and drawn_b is not None and drawn_a.shape[1] == drawn_b.shape[1]:
                ours = seeded_difference((a, drawn_a), (b, drawn_b), same_trainings=shared)
            else:
                ours = SeededInterval(float(a.mean() - b.mean()), NAN, NAN)
            power = _power(paper, first, second, key, shared=shared)
    if math.isnan(paper) and math.isnan(ours.mean):
        return None
    return Difference(baseline.name, paper, ours, power)


def _weights(row: Row) -> str:
    """Return the row whose trained weights a row tracks with."""
    return row.weights_of or row.name


def _with(found: RowScores, key: str) -> dict[int, Measured]:
    return {seed: m for seed, m in found.measured.items() if key in m.scores}


def _paper_difference(row: Row, baseline: Row, benchmark: str, metric: str) -> float:
    said = row.paper_difference.get(benchmark, {}).get(metric)
    if said is not None:
        return said
    own, other = (r.paper.get(benchmark, {}).get(metric, NAN) for r in (row, baseline))
    return own - other


def _power(
    paper: float,
    first: Mapping[int, Measured],
    second: Mapping[int, Measured],
    key: str,
    *,
    shared: bool,
) -> str:
    """Return what it would take to resolve the paper's difference with these variances."""
    if not math.isfinite(paper) or paper == 0 or min(len(first), len(second)) < 2:
        return ""
    if not all(key in m.sequences for m in [*first.values(), *second.values()]):
        return ""
    a, b = (np.stack([m.sequences[key] for m in found.values()]) for found in (first, second))
    if a.shape[1] != b.shape[1] or a.shape[1] < 2:
        return ""
    sequences, seeds = a.shape[1], min(len(a), len(b))
    if shared:
        a, b = a - b, np.zeros_like(a)
    need = needed(paper, variances_of_difference(a, b), sequences=sequences, seeds=seeds)
    return (
        f"{_count(need.seeds, 'seed')} on {sequences} sequences, or "
        f"{_count(need.sequences, 'sequence')} with {seeds} seeds"
    )


def _count(number: int | None, what: str) -> str:
    if number is None:
        return f"no number of {what}s"
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _printed(rows: Mapping[str, Row], benchmark: str, metric: str) -> bool:
    def has(numbers: Numbers) -> bool:
        return metric in numbers.get(benchmark, {})

    return any(has(row.paper) or has(row.paper_difference) for row in rows.values())
