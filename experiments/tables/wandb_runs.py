"""Scores from W&B, for cells whose runs are on another machine.

A run logs its whole configuration, so the same test as for folders says whether it is a cell's. W&B
keeps the scores and not the boxes, so intervals over sequences are not known of these.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from experiments.config import ConfigError
from experiments.tables.cells import Cell, description, row_cells
from experiments.tables.collecting import Collected, Measured

log = logging.getLogger(__name__)


class LoggedRun(Protocol):
    """A run of ``wandb.Api().runs(...)``."""

    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    state: str
    url: str


def fill_from_wandb(collected: Collected, project: str) -> None:
    """Give cells without a run on disk the scores of a finished run of a W&B project.

    Raises:
        ConfigError: If the project cannot be read.
    """
    import wandb  # here, as it takes a second and a table without W&B does not need it

    try:
        fill(collected, list(wandb.Api().runs(project)))
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise ConfigError(f"wandb={project}: {error}") from error


def fill(collected: Collected, runs: Iterable[LoggedRun]) -> None:
    """Give cells without a run on disk the scores of finished W&B runs."""
    logged = [(run, known) for run in runs if run.state == "finished" and (known := _known(run))]
    for column, rows in collected.rows.items():
        if len(collected.ours[column]) != 1:
            continue  # a pool needs the scores of single sequences
        for name, found in rows.items():
            for cell in row_cells(collected.table, collected.table.rows[name], collected.budget):
                if cell.seed in found.measured:
                    continue
                measured = _measured(cell, collected.ours[column][0], logged, collected)
                if measured is not None:
                    found.measured[cell.seed] = measured
                    found.missing.pop(cell.seed, None)


def _measured(
    cell: Cell, benchmark: str, logged: list[tuple[LoggedRun, Any]], collected: Collected
) -> Measured | None:
    for run, (training, tracker, benchmarks) in logged:
        same = training == cell.training and tracker == cell.tracker
        if not same or run.config.get("profile_name") != cell.profile:
            continue
        for name, node in benchmarks.items():
            if node != cell.benchmarks[benchmark]:
                continue
            scores = {
                key: float(run.summary[f"test/{name}/{key}"])
                for key in collected.scores.values()
                if f"test/{name}/{key}" in run.summary
            }
            if scores:
                return Measured(cell.seed, scores, where=run.url)
    return None


def _known(run: LoggedRun) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None:
    """Return what a run is; None where its configuration is not one of this version."""
    try:
        return description(run.config)
    except (KeyError, TypeError, AttributeError, ImportError) as error:
        log.warning("%s: not a run of this version (%s: %s)", run.url, type(error).__name__, error)
        return None
