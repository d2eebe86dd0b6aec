"""What a penalty search found for a run: ``<run folder>/search/best.yaml``.

The file has the keys ``settings`` (tracking settings that replace the run's), ``score`` and
``benchmark`` (the validation benchmark of the search).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from experiments.tables.cells import Cell
from experiments.tables.finished import Run, Runs

BEST = "search/best.yaml"


def searched_cell(cell: Cell, runs: Runs) -> Cell | str:
    """Return the cell with the settings that a search found, or why there is none."""
    run = runs.trained(cell)
    if run is None or run.tracker != cell.tracker or not (run.folder / BEST).is_file():
        return "no search"  # one of another row's way to track says nothing of this one
    best = read_best(run)
    if isinstance(best, str):
        return best
    tracker, recipe = (
        {**described, "settings": {**described["settings"], **best}}
        for described in (cell.tracker, cell.recipe)
    )
    return replace(cell, tracker=tracker, recipe=recipe)


def read_best(run: Run) -> Mapping[str, Any] | str:
    """Return the settings that the search of a run found, or what is wrong with its file."""
    file = run.folder / BEST
    content = OmegaConf.to_container(OmegaConf.load(file))
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        return f"{file}: expected the keys settings, score and benchmark"
    settings: dict[str, Any] = content["settings"]
    if unknown := sorted(settings.keys() - run.tracker["settings"].keys()):
        return f"{file}: the tracker has no settings {unknown}"
    return settings
