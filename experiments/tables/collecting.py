"""From finished runs to scores: what was measured of every row, seed and benchmark of a table."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from callbacks.benchmark_evaluation import BenchmarkScores
from datamodules.errors import DatasetError
from datamodules.raw_results import read_results
from experiments.compare import scored
from experiments.config import made
from experiments.report.resampling import scores_drawn, sequence_values
from experiments.tables.cells import (
    Budget,
    Cell,
    benchmark_nodes,
    columns,
    row_cells,
    scores_of,
)
from experiments.tables.definition import Table
from experiments.tables.finished import Run, Runs
from experiments.tables.searched import searched_cell
from lightning_trackers.evaluation.ope_protocol import AverageOverlapOnePass
from lightning_trackers.evaluation.protocol import Scores
from lightning_trackers.evaluation.sequence import Benchmark
from lightning_trackers.evaluation.submission import ServerScored
from lightning_trackers.metrics.functional.seeds import times_drawn

log = logging.getLogger(__name__)

RESAMPLES = 10_000
EAO_RESAMPLES = 500
"""An EAO curve is made anew for each, so there are fewer than for a mean."""


@dataclass(frozen=True)
class Measured:
    """Scores of one training on one of the table's benchmarks.

    Args:
        seed: Seed of the training.
        scores: Our scores by key.
        draws: Scores under draws of the sequences, by key, ``(R,)``.
        sequences: Scores of each sequence by key, ``(S,)``.
        commit: Commit of the code.
        precision: Precision of the training.
        device: What evaluated it.
        where: Folder or W&B run.
        table: The scores as a report has them; None where W&B keeps scores alone.
    """

    seed: int
    scores: Mapping[str, float]
    draws: Mapping[str, np.ndarray] = field(default_factory=dict)
    sequences: Mapping[str, np.ndarray] = field(default_factory=dict)
    commit: str = "not known"
    precision: str = "not known"
    device: str = "not known"
    where: str = ""
    table: BenchmarkScores | None = None


@dataclass
class RowScores:
    """What was measured of a row on one benchmark.

    Args:
        measured: By seed.
        after_search: The same with the settings that a search found.
        missing: Why a seed has no scores.
        not_searched: Why a seed has none after a search.
    """

    measured: dict[int, Measured] = field(default_factory=dict)
    after_search: dict[int, Measured] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    not_searched: dict[int, str] = field(default_factory=dict)


@dataclass
class Collected:
    """What was measured of a table.

    Args:
        table: The table.
        budget: On which recipe, seeds and sequences.
        rows: By the paper's benchmark and the row's name; rows of others' trackers are not there.
        absent: Why a row has no cells at all, by name.
        sequences: Number of sequences by the paper's benchmark.
        ours: Names of our benchmarks by the paper's.
    """

    table: Table
    budget: Budget
    rows: dict[str, dict[str, RowScores]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    ours: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def scores(self) -> dict[str, str]:
        """Our score by the paper's metric."""
        return scores_of(self.table, self.budget)


def collect(table: Table, budget: Budget, runs: Runs) -> Collected:
    """Score every finished run of a table, and say of every other cell why it is empty."""
    collected = Collected(table, budget)
    cells: dict[str, list[Cell]] = {}
    for row in table.rows.values():
        if row.exp is None:
            continue
        if row.unknown_exp:
            collected.absent[row.name] = row.unknown_exp
        else:
            cells[row.name] = row_cells(table, row, budget)
    for column, choices in columns(table, budget).items():
        pool = Pool(choices, budget, table.stand_in.rule if not budget.on_paper_data else "")
        collected.ours[column] = pool.names
        collected.rows[column] = {
            name: _row(row, pool, runs, tuple(collected.scores.values()))
            for name, row in cells.items()
        }
        if not pool.problem and any(r.measured for r in collected.rows[column].values()):
            collected.sequences[column] = len(pool.joined)
    return collected


def _row(cells: Sequence[Cell], pool: "Pool", runs: Runs, keys: tuple[str, ...]) -> RowScores:
    found = RowScores()
    for cell in cells:
        measured = _measured(cell, pool, runs, keys)
        if isinstance(measured, str):
            found.missing[cell.seed] = measured
            continue
        found.measured[cell.seed] = measured
        better = searched_cell(cell, runs)
        again = better if isinstance(better, str) else _measured(better, pool, runs, keys)
        if isinstance(again, str):
            found.not_searched[cell.seed] = again
        else:
            found.after_search[cell.seed] = again
    return found


def _measured(cell: Cell, pool: "Pool", runs: Runs, keys: tuple[str, ...]) -> Measured | str:
    """Return the scores of a cell, or why there are none."""
    parts: dict[str, tuple[Run, str]] = {}
    for name in pool.names:
        found = runs.evaluated(cell, name)
        if found is None:
            return runs.why_missing(cell, name)
        parts[name] = found
    if pool.problem:
        return pool.problem
    run = next(iter(parts.values()))[0]
    results = {}
    for name, (place, stored) in parts.items():
        folder = place.results(stored)
        try:
            results[name], bad = read_results(pool.benchmarks[name], folder)
        except DatasetError as error:
            return str(error)
        if bad:
            return f"{len(bad)} of {len(pool.benchmarks[name])} sequences have no usable result: {next(iter(bad.values()))}"
    return pool.measured(cell, run, results, keys)


class Pool:
    """The benchmarks whose sequences together make a column of a table.

    Args:
        choices: Choices of ``conf/benchmark``.
        budget: May shorten them.
        rule: ``got10k`` scores one-pass results by GOT-10k's rule instead of the benchmark's own.
    """

    def __init__(self, choices: Sequence[str], budget: Budget, rule: str = "") -> None:
        self.nodes = {
            name: node
            for choice in choices
            for name, node in benchmark_nodes(choice, budget).items()
        }
        self.rule = rule

    @property
    def names(self) -> list[str]:
        """Names of the benchmarks."""
        return list(self.nodes)

    @cached_property
    def problem(self) -> str:
        """Why the benchmarks cannot be read here; empty if they can."""
        try:
            served = [
                b.name for b in self.benchmarks.values() if isinstance(b.protocol, ServerScored)
            ]
        except (DatasetError, InstantiationException, ValueError, OSError, TypeError) as error:
            cause = error.__cause__ or error
            return f"{' and '.join(self.names)} cannot be read here: {str(cause).partition(chr(10))[0]}"
        if served:
            return (
                f"tracked; {served[0]} is scored by its server alone: make the archive with "
                "experiments.submit"
            )
        return ""

    @cached_property
    def benchmarks(self) -> dict[str, Benchmark]:
        """The benchmarks by name; frames are not read."""
        built: dict[str, Benchmark] = {
            name: made(DictConfig(OmegaConf.create(node))) for name, node in self.nodes.items()
        }
        if self.rule == "got10k":
            rule = AverageOverlapOnePass()
            built = {name: replace(b, protocol=rule) for name, b in built.items()}
        return built

    @cached_property
    def joined(self) -> Benchmark:
        """All sequences together."""
        first = next(iter(self.benchmarks.values()))
        return replace(first, sequences=[s for b in self.benchmarks.values() for s in b])

    def measured(
        self,
        cell: Cell,
        run: Run,
        results: Mapping[str, Mapping[str, Any]],
        keys: tuple[str, ...],
    ) -> Measured:
        """Score the results of one training."""
        parts = [scored(self.benchmarks[n], cell.row, found) for n, found in results.items()]
        row = parts[0] if len(parts) == 1 else joined_scores(parts)
        everything = {k: v for found in results.values() for k, v in found.items()}
        resamples = EAO_RESAMPLES if "eao" in keys else RESAMPLES
        times = times_drawn(len(row.scores.sequences), resamples)
        sequences = {key: sequence_values(row, key) for key in keys}
        return Measured(
            cell.seed,
            {key: row.scalars[key] for key in keys if key in row.scalars},
            scores_drawn(self.joined, row, everything, times, keys),
            {key: values for key, values in sequences.items() if len(values)},
            run.commit,
            run.precision,
            run.device,
            str(run.folder),
            row,
        )


def joined_scores(parts: Sequence[BenchmarkScores]) -> BenchmarkScores:
    """Return scores over the sequences of several benchmarks, every sequence alike.

    Raises:
        ValueError: If two sequences have one name.
    """
    sequences = {name: values for part in parts for name, values in part.scores.sequences.items()}
    if len(sequences) != sum(len(part.scores.sequences) for part in parts):
        raise ValueError(f"{[p.benchmark for p in parts]}: sequences of the same name in a pool")
    keys = [k for k in parts[0].scores.scalars if all(k in v for v in sequences.values())]
    shares = [len(part.scores.sequences) / len(sequences) for part in parts]
    curves = {
        name: replace(
            curve,
            y=np.average([p.scores.curves[name].y for p in parts], axis=0, weights=shares),
        )
        for name, curve in parts[0].scores.curves.items()
        if all(name in p.scores.curves for p in parts)
    }
    return replace(
        parts[0],
        benchmark="+".join(part.benchmark for part in parts),
        scores=Scores(
            {key: float(np.mean([v[key] for v in sequences.values()])) for key in keys},
            curves,
            sequences,
        ),
        frames={name: n for part in parts for name, n in part.frames.items()},
        fps=float(np.mean([part.fps for part in parts])),
    )
