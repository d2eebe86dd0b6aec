"""Makes what a table lacks: trainings and evaluations, each a command of its own.

A training is kept in ``<outputs>/tables/runs/<experiment>_<digest>/seed_<n>``, an evaluation of somebody
else's weights in ``<outputs>/tables/evaluations/...``, and the stages that come before trainings, which
rows share, in ``<outputs>/tables/stages/...``. Whoever starts the same table again finds what is
finished, and an interrupted training or evaluation goes on where it stopped. Several jobs may share the
folder: whoever comes second waits, and finds the cell made.
"""

import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import OmegaConf

from experiments.config import ConfigError
from experiments.tables.cells import Budget, Cell, digest, row_cells
from experiments.tables.definition import Table
from experiments.tables.finished import CHECKPOINT, ORIGIN, Run, Runs
from experiments.tables.searched import searched_cell
from lightning_trackers.files import write_text
from lightning_trackers.methods.loading import read_checkpoint, write_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Places:
    """Where runs are made and looked for.

    Args:
        outputs: Folder of all outputs.
        more: Folders with other finished runs.
        words: Words that every command gets, e.g. the machine's paths.
        logger: Choice of ``conf/logger``.
    """

    outputs: Path
    more: tuple[Path, ...] = ()
    words: tuple[str, ...] = ()
    logger: str = "wandb"

    @property
    def own(self) -> Path:
        """Folder of the runs of all tables."""
        return self.outputs / "tables"

    def runs(self) -> Runs:
        """Read the finished runs."""
        own = [folder for name in ("runs", "evaluations") if (folder := self.own / name).is_dir()]
        return Runs.below([*own, *self.more])

    def training(self, cell: Cell) -> Path:
        """Return the folder of a cell's training."""
        return self.own / "runs" / cell.profile / cell.training_name / f"seed_{cell.seed}"

    def stages(self, cell: Cell) -> Path:
        """Return the folder of the stages before a training, for all rows that are made alike."""
        own = ("+exp=", "benchmark")
        words = [word for word in cell.trained_as[1] if not word.startswith(own)]
        return self.own / "stages" / cell.profile / digest(words) / f"seed_{cell.seed}"

    def evaluation(self, cell: Cell) -> Path:
        """Return the folder of a cell's evaluation."""
        return self.own / "evaluations" / cell.profile / cell.evaluation_name / f"seed_{cell.seed}"


def chosen_cells(table: Table, budget: Budget, rows: Sequence[str] = ()) -> list[Cell]:
    """Return the cells to make, seed by seed, so that an early look compares all rows.

    Raises:
        ConfigError: If a row is not one of the table's.
    """
    if unknown := [name for name in rows if name not in table.rows]:
        raise ConfigError(
            f"rows: table {table.name} has no {unknown}; there are {list(table.rows)}"
        )
    cells = []
    for row in table.rows.values():
        if rows and row.name not in rows:
            continue
        if row.exp is not None and row.unknown_exp:
            log.warning("%s: left out: %s", row.name, row.unknown_exp)
        cells += row_cells(table, row, budget)
    return sorted(cells, key=lambda cell: cell.seed)


def make(table: Table, cells: Sequence[Cell], places: Places) -> int:
    """Make what is missing; return how many cells could not be made."""
    failed = 0
    for place, cell in enumerate(cells, start=1):
        log.info(
            "== %s, cell %d of %d: %s, seed %d", table.name, place, len(cells), cell.row, cell.seed
        )
        lock = places.training(cell).with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            failed += not _make_cell(table, cell, places)
    return failed


def state(cell: Cell, runs: Runs) -> str:
    """Return what has been made of a cell: ``done``, or what is missing."""
    for name in cell.benchmarks:
        if runs.evaluated(cell, name) is None:
            return runs.why_missing(cell, name)
    return "done"


def _make_cell(table: Table, cell: Cell, places: Places) -> bool:
    runs = places.runs()
    if state(cell, runs) != "done":
        trained = runs.trained(cell)
        if trained is None:
            if not _start(training_command(table, cell, places), places.training(cell)):
                return False
            runs = places.runs()
            trained = runs.trained(cell)
        if trained is None:
            log.error(
                "%s: the training ended, but %s",
                cell.row,
                runs.why_missing(cell, next(iter(cell.benchmarks))),
            )
            return False
        if state(cell, runs) != "done" and not _evaluate(cell, trained, places):
            return False
    better = searched_cell(cell, places.runs())
    if isinstance(better, str):
        return True
    runs = places.runs()
    trained = runs.trained(cell)
    return trained is None or state(better, runs) == "done" or _evaluate(better, trained, places)


def training_command(table: Table, cell: Cell, places: Places) -> list[str]:
    """Return the command that trains a cell's weights, as the row that they belong to says."""
    command = [sys.executable, "-m", "experiments.run", *cell.trained_as[1], f"seed={cell.seed}"]
    command += [f"run_dir={quoted(places.training(cell))}", "resume=auto"]
    if cell.training["pipeline"]:
        command.append(f"stages_dir={quoted(places.stages(cell))}")
    command += [
        "evaluation.references=false",
        "evaluation.clip_frames=0",
        f"logger={places.logger}",
    ]
    return [*command, *_grouped(table.name, cell, places)]


def _grouped(table: str, cell: Cell, places: Places) -> list[str]:
    if places.logger != "wandb":
        return []
    return [
        f"logger.wandb.group={table}/{cell.row}",
        f"logger.wandb.name={cell.row}_seed{cell.seed}",
    ]


def _evaluate(cell: Cell, trained: Run, places: Places) -> bool:
    """Track the benchmarks with a training's weights as a cell says."""
    folder = places.evaluation(cell)
    config: Any = OmegaConf.to_container(OmegaConf.load(trained.folder / "config.yaml"))
    weights = folder / "weights.pt"
    recipe, tensors = read_checkpoint(trained.folder / CHECKPOINT)
    write_checkpoint(weights, {"network": recipe["network"], "tracker": dict(cell.recipe)}, tensors)
    origin = {"run": str(trained.folder), "seed": config["seed"], "tracker": dict(cell.recipe)}
    write_text(folder / ORIGIN, OmegaConf.to_yaml(OmegaConf.create(origin)))
    benchmarks = [w for w in cell.words if w.startswith(("benchmark=", "benchmarks.", "paths."))]
    command = [sys.executable, "-m", "experiments.evaluate", *benchmarks]
    command += [f"exp_name={quoted(cell.exp)}", f"checkpoint={quoted(weights)}"]
    command += [f"run_dir={quoted(folder)}", "overwrite=true", "logger=csv"]
    command += ["evaluation.references=false", "evaluation.clip_frames=0"]
    return _start(command, folder)


def _start(command: Sequence[str], folder: Path) -> bool:
    """Run a command whose output the reader sees; keep what went wrong beside the run."""
    log.info("%s", shlex.join(command))
    ended = subprocess.run(command, check=False)
    failure = folder / "failed.txt"
    if ended.returncode == 0:
        failure.unlink(missing_ok=True)
        return True
    reason = f"exit code {ended.returncode} of: {shlex.join(command)}"
    write_text(failure, reason + "\n")
    log.error("%s", reason)
    return False


def quoted(value: object) -> str:
    """Return a text as a word of Hydra's command line that is taken as it stands."""
    # A backslash stands for itself, except in front of a quotation mark.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", str(value))
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"
