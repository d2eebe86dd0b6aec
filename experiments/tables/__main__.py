r"""A paper's table with our numbers beside the paper's.

python -m experiments.tables table=gradnet/table3                      # from finished runs
python -m experiments.tables table=gradnet/table3 mode=run             # make what is missing, then the page
python -m experiments.tables table=gradnet/table3 mode=plan            # what is there, what is missing
python -m experiments.tables table=hnse/table4 runs=[/data/runs]       # look there for finished runs, too
python -m experiments.tables -m table=gradnet/table3 mode=run 'rows=[gradnet],[siamfc]' \
    'seeds=[0],[1],[2]' page=false hydra/launcher=submitit_slurm        # a job for each row and seed
"""

import logging
import re
import shlex
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments.config import run_checked, user_errors
from experiments.tables.cells import Budget
from experiments.tables.collecting import collect
from experiments.tables.definition import Table, read_table
from experiments.tables.figures import draw_figures
from experiments.tables.pages import write_pages
from experiments.tables.running import Places, chosen_cells, make, quoted, state
from experiments.tables.wandb_runs import fill_from_wandb

log = logging.getLogger(__name__)

_CELL = "cell_"


def tables(cfg: DictConfig) -> Path | None:
    """Do what ``mode`` says; return the page, None where none is written.

    Raises:
        ConfigError: If the table or an option is not as expected.
        SystemExit: If a cell could not be made.
    """
    table, budget, places = read(cfg)
    failed = 0
    if cfg.mode != "collect":
        cells = chosen_cells(table, budget, cfg.rows)
        if cfg.mode == "plan":
            runs = places.runs()
            for cell in cells:
                log.info("%s, seed %d: %s", cell.row, cell.seed, state(cell, runs))
            return None
        failed = make(table, cells, places)
    page = None
    if cfg.page:
        collected = collect(table, budget, places.runs())
        if cfg.wandb:
            fill_from_wandb(collected, cfg.wandb)
        folder = Path(cfg.out)
        figures = draw_figures(collected, folder / "plots") if cfg.figures else []
        words = [word.removeprefix(_CELL) for word in sys.argv[1:]]
        command = f"python -m experiments.tables {shlex.join(words)}"
        page = write_pages(folder, collected, command, figures)
        log.info("page: %s", page)
    if failed:
        raise SystemExit(f"error: {failed} of {len(cells)} cells could not be made; see above")
    return page


def read(cfg: DictConfig) -> tuple[Table, Budget, Places]:
    """Return the table, the budget and the places that a configuration says."""
    name = str(HydraConfig.get().runtime.choices["table"])
    content = OmegaConf.to_container(cfg.table, resolve=True)
    assert isinstance(content, dict)
    paths = tuple(
        f"paths.{key}={quoted(value)}" for key, value in cfg.paths.items() if value is not None
    )
    budget = Budget(
        cfg.cell_profile,
        tuple(cfg.seeds),
        cfg.epochs,
        cfg.sequences,
        cfg.frames,
        tuple(cfg.overrides),
        paths,
    )
    places = Places(
        Path(cfg.paths.outputs), tuple(Path(folder) for folder in cfg.runs), logger=cfg.cell_logger
    )
    return read_table(name, {str(k): v for k, v in content.items()}), budget, places


@hydra.main(version_base="1.3", config_path="../conf", config_name="tables")
def main(cfg: DictConfig) -> None:
    """Make or collect one table."""
    with user_errors():
        tables(cfg)


if __name__ == "__main__":
    # As they stand, Hydra would take these words for choices of the groups that trainings have.
    sys.argv[1:] = [re.sub(r"^(?=(profile|logger)=)", _CELL, word) for word in sys.argv[1:]]
    run_checked(main)
