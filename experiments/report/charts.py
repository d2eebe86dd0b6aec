"""What the figures of a report show, whatever draws them.

A chart is drawn twice, by Plotly on the page and by Matplotlib in the PNG and PDF files, so what it
shows is said here once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from experiments.report.labels import (
    COLOURS,
    CURVE_SCORES,
    CURVE_TITLES,
    DASHES,
    label,
)
from lightning_trackers.evaluation.benchmarking import BenchmarkScores

Kind = Literal["lines", "radar", "bars", "ladder", "rank", "points", "heat"]

MOST_BARS = 4
"""Trackers up to which sequences are shown as bars and marks; more of them make a heat map."""
MOST_RADARS = 6
"""Trackers in a radar; more cannot be told apart."""
MOST_SPOKES = 16
"""Attributes in a radar."""
MOST_GROUPED = 10
"""Trackers in grouped bars."""
MOST_NAMED = 12
"""Points that bear their names; more of them have a legend."""


@dataclass(frozen=True)
class Style:
    """How a tracker is drawn, the same in every chart.

    Args:
        colour: Hexadecimal RGB.
        dash: One of :data:`experiments.report.labels.DASHES`.
    """

    colour: str
    dash: str = "solid"


@dataclass(frozen=True)
class Series:
    """One tracker in a chart.

    Args:
        name: Its name in the legend.
        x: Abscissae, or names of categories.
        y: Ordinates; NaN where there is none.
        style: Colour and dash.
        low: Lower ends of confidence intervals, where the chart shows them.
        high: Upper ends.
    """

    name: str
    x: Sequence[float] | Sequence[str]
    y: Sequence[float]
    style: Style
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Chart:
    """A figure.

    Args:
        name: Name of its files.
        kind: ``lines``; ``radar`` and ``bars`` over categories; ``ladder``: a bar for each category
            and marks on it for all trackers but the first; ``rank``: points with names, best at the
            right as in VOT's reports; ``points``: points with names; ``heat``: a row per tracker.
        title: Title, with the unit of the score.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        series: What it shows, in the order of the legend.
        x_range: Ends of the x axis, chosen by the data if None.
        y_range: Ends of the y axis, chosen by the data if None.
        x_log: Logarithmic x axis.
        band: Abscissae between which the score is the mean of a curve, shaded.
    """

    name: str
    kind: Kind
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series] = field(default_factory=tuple)
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    x_log: bool = False
    band: tuple[float, float] | None = None


def sequence_key(rows: Sequence[BenchmarkScores]) -> str | None:
    """Return the score that compares sequences: the headline, or what is defined for one of them."""
    return _common_key(rows, [values for row in rows for values in row.scores.sequences.values()])


def attribute_key(rows: Sequence[BenchmarkScores]) -> str | None:
    """Return the score that compares attributes; None where there are no attributes."""
    return _common_key(rows, [values for row in rows for values in row.scores.attributes.values()])


def _common_key(
    rows: Sequence[BenchmarkScores], values: Sequence[Mapping[str, float]]
) -> str | None:
    if not values:
        return None
    common = [key for key in values[0] if all(key in other for other in values)]
    scores = [key for key in common if label(key).better != "none"]
    if rows[0].headline in scores:
        return rows[0].headline
    return scores[0] if scores else None


def styles(trackers: Sequence[str]) -> dict[str, Style]:
    """Return the style of each tracker; colours first, then dashes tell them apart."""
    return {
        name: Style(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)])
        for i, name in enumerate(trackers)
    }


def ranked(rows: Sequence[BenchmarkScores], key: str) -> list[BenchmarkScores]:
    """Return the trackers, best first; those without the score last."""
    sign = 1.0 if label(key).better == "low" else -1.0

    def place(row: BenchmarkScores) -> float:
        value = row.scores.scalars.get(key, math.nan)
        return sign * value if math.isfinite(value) else math.inf

    return sorted(rows, key=place)


def charts(
    rows: Sequence[BenchmarkScores],
    tracker_styles: Mapping[str, Style],
    eao_interval: tuple[int, int] | None = None,
) -> dict[str, list[Chart]]:
    """Return the figures of a benchmark by the part of the report they belong to.

    Args:
        rows: Scores of every tracker on this benchmark.
        tracker_styles: Style by tracker.
        eao_interval: Sequence lengths over which EAO is the mean of its curve.

    Returns:
        Charts under ``curves``, ``attributes`` and ``sequences``; lists may be empty.
    """
    return {
        "curves": [
            *(_curve(n, rows, tracker_styles, eao_interval) for n in rows[0].scores.curves),
            *_rank(rows, tracker_styles),
            *_accuracy_robustness(rows, tracker_styles),
            *_speed(rows, tracker_styles),
        ],
        "attributes": _attributes(rows, tracker_styles),
        "sequences": _sequences(rows, tracker_styles),
    }


def curve_score(name: str, rows: Sequence[BenchmarkScores]) -> str:
    """Return the key of the score that a curve's legend shows."""
    scalars = rows[0].scores.scalars
    return next((key for key in CURVE_SCORES.get(name, ()) if key in scalars), rows[0].headline)


def _curve(
    name: str,
    rows: Sequence[BenchmarkScores],
    tracker_styles: Mapping[str, Style],
    eao_interval: tuple[int, int] | None,
) -> Chart:
    score = curve_score(name, rows)
    first = rows[0].scores.curves[name]
    # Fractions of frames are read in percent; an expected overlap is not.
    scale = 100.0 if label(score).percent else 1.0
    series = [
        Series(
            f"{row.tracker} [{label(score).format(row.scores.scalars.get(score, math.nan))}]",
            [float(v) for v in row.scores.curves[name].x],
            [scale * float(v) for v in row.scores.curves[name].y],
            tracker_styles[row.tracker],
        )
        for row in ranked(rows, score)
        if name in row.scores.curves
    ]
    title = CURVE_TITLES.get(name, name.replace("_", " ").capitalize())
    return Chart(
        name,
        "lines",
        f"{title} [{label(score).short or label(score).text}]",
        first.x_label,
        f"{first.y_label}, %" if scale == 100 else first.y_label,
        series,
        x_range=(float(first.x[0]), float(first.x[-1])),
        y_range=(0.0, 101.0) if scale == 100 else (0.0, 1.02),
        band=eao_interval if score == "eao" else None,
    )


def _rank(rows: Sequence[BenchmarkScores], tracker_styles: Mapping[str, Style]) -> list[Chart]:
    """Return VOT's rank plot: the best tracker is the rightmost and highest point."""
    if rows[0].headline != "eao" or len(rows) < 2:
        return []
    series = [
        Series(row.tracker, [rank], [row.scores.scalars["eao"]], tracker_styles[row.tracker])
        for rank, row in enumerate(ranked(rows, "eao"), start=1)
    ]
    return [Chart("eao_rank", "rank", "EAO rank", "rank", label("eao").text, series)]


def _accuracy_robustness(
    rows: Sequence[BenchmarkScores], tracker_styles: Mapping[str, Style]
) -> list[Chart]:
    if not all({"accuracy", "robustness"} <= row.scores.scalars.keys() for row in rows):
        return []
    series = [
        Series(
            row.tracker,
            [row.scores.scalars["robustness"]],
            [row.scores.scalars["accuracy"]],
            tracker_styles[row.tracker],
        )
        for row in rows
    ]
    return [
        Chart(
            "accuracy_robustness",
            "points",
            "Accuracy and robustness (better: upper left)",
            "robustness: failures per 100 frames",
            "accuracy",
            series,
            x_range=(0.0, 1.2 * max(*(float(s.x[0]) for s in series), 0.05)),
            y_range=(0.0, 1.0),
        )
    ]


def _speed(rows: Sequence[BenchmarkScores], tracker_styles: Mapping[str, Style]) -> list[Chart]:
    key = rows[0].headline
    timed = [row for row in rows if row.fps > 0 and key in row.scores.scalars]
    if len(timed) < 2:
        return []
    series = [
        Series(
            row.tracker,
            [row.fps],
            [label(key).shown(row.scores.scalars[key])],
            tracker_styles[row.tracker],
        )
        for row in timed
    ]
    title = f"Speed and {label(key).text}"
    return [Chart("speed", "points", title, "frames/s", label(key).text, series, x_log=True)]


def _attributes(
    rows: Sequence[BenchmarkScores], tracker_styles: Mapping[str, Style]
) -> list[Chart]:
    key = attribute_key(rows)
    if key is None:
        return []
    codes = list(rows[0].scores.attributes)
    best_first = ranked(rows, rows[0].headline)
    series = [
        Series(
            row.tracker,
            codes,
            [
                label(key).shown(row.scores.attributes.get(code, {}).get(key, math.nan))
                for code in codes
            ],
            tracker_styles[row.tracker],
        )
        for row in best_first
    ]
    text = label(key).text

    def title(most: int) -> str:
        return f"Attributes: {text}" + (f", the best {most} trackers" if len(rows) > most else "")

    radar = Chart("attributes_radar", "radar", title(MOST_RADARS), "", text, series[:MOST_RADARS])
    bars = Chart("attributes", "bars", title(MOST_GROUPED), "", text, series[:MOST_GROUPED])
    return [radar, bars] if 2 < len(codes) <= MOST_SPOKES else [bars]


def _sequences(rows: Sequence[BenchmarkScores], tracker_styles: Mapping[str, Style]) -> list[Chart]:
    """Return the chart of all sequences: hardest first, by the mean of all trackers."""
    key = sequence_key(rows)
    if key is None:
        return []
    names = list(rows[0].scores.sequences)
    table = np.array(
        [[row.scores.sequences.get(n, {}).get(key, math.nan) for n in names] for row in rows]
    )
    known = np.isfinite(table)
    means = np.where(known, table, 0).sum(axis=0) / known.sum(axis=0).clip(1)
    order = np.argsort(means if len(rows) > MOST_BARS else table[0], kind="stable")
    series = [
        Series(
            row.tracker,
            [names[i] for i in order],
            [label(key).shown(float(values[i])) for i in order],
            tracker_styles[row.tracker],
        )
        for row, values in zip(rows, table, strict=True)
    ]
    kind: Kind = "heat" if len(rows) > MOST_BARS else "ladder"
    text = label(key).text
    return [Chart("sequences", kind, f"Sequences: {text}", text, "", series)]
