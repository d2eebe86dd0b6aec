"""The papers' plots from our runs: success, precision and expected overlap, the mean over seeds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from callbacks.benchmark_evaluation import BenchmarkScores
from experiments.report.charts import charts, styles
from experiments.report.printed import save_chart
from experiments.tables.collecting import Collected, RowScores
from lightning_trackers.evaluation.protocol import Scores
from lightning_trackers.metrics.functional.vot import RULES


def draw_figures(collected: Collected, folder: Path) -> list[str]:
    """Draw the curves of every benchmark of a table; return the figures' names.

    A row without a finished run is not drawn.
    """
    names = []
    table_styles = styles([row.name for row in collected.table.rows.values() if row.exp])
    for column, rows in collected.rows.items():
        drawn = [mean_scores(name, found) for name, found in rows.items() if _tables(found)]
        if not drawn:
            continue
        found = charts(drawn, table_styles, _eao_interval(column))["curves"]
        place = "+".join(collected.ours[column])
        for chart in (c for c in found if c.name in drawn[0].scores.curves or c.name == "eao_rank"):
            save_chart(chart, folder, place)
            names.append(f"{place}_{chart.name}")
    return names


def mean_scores(name: str, found: RowScores) -> BenchmarkScores:
    """Return a row's scores and curves, the mean over seeds."""
    tables = _tables(found)
    first = tables[0]
    curves = {}
    for curve_name, curve in first.scores.curves.items():
        same = [t.scores.curves[curve_name].y for t in tables if curve_name in t.scores.curves]
        if all(len(y) == len(curve.y) for y in same):
            curves[curve_name] = replace(curve, y=np.mean(same, axis=0))
    scalars = {
        key: float(np.mean([t.scores.scalars[key] for t in tables])) for key in first.scores.scalars
    }
    return replace(
        first,
        tracker=name,
        scores=Scores(scalars, curves),
        fps=float(np.mean([t.fps for t in tables])),
    )


def _tables(found: RowScores) -> Sequence[BenchmarkScores]:
    return [m.table for m in found.measured.values() if m.table is not None]


def _eao_interval(benchmark: str) -> tuple[int, int] | None:
    year = benchmark.removeprefix("vot")
    return RULES[int(year)].eao_interval if year.isdigit() and int(year) in RULES else None
