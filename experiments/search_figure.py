"""The figure of a search: scores over trials, settings beside scores, which setting mattered."""

from pathlib import Path

import optuna
from optuna import visualization

from lightning_trackers.files import write_text


def write_figure(study: optuna.Study, baseline: float, path: Path) -> None:
    """Write a page with the scores over trials, parallel coordinates, and each setting alone.

    Args:
        study: The trials.
        baseline: Score of the settings as they were, drawn as a line.
        path: HTML file; it needs no network.
    """
    history = visualization.plot_optimization_history(study, target_name="score")
    history.add_hline(baseline, line_dash="dot", annotation_text="settings as they were")
    figures = [
        history,
        visualization.plot_parallel_coordinate(study, target_name="score"),
        visualization.plot_slice(study, target_name="score"),
    ]
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=index == 0)
        for index, figure in enumerate(figures)
    ]
    body = "\n".join(parts)
    title = "<title>Penalty search</title>"
    write_text(path, f'<!doctype html><html lang="en"><meta charset="utf-8">{title}{body}</html>')
