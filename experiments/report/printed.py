"""Charts drawn by Matplotlib, as PNG for talks and PDF for papers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.report.charts import MOST_NAMED, Chart
from experiments.report.labels import COLOURS
from lightning_trackers.files import atomic_file

LINE_STYLES = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (8, 2)),
}
FORMATS = ("png", "pdf")
INSIDE_LEGEND = 8
"""Trackers up to which a legend stands inside a figure; longer ones stand beside it."""


def save_chart(chart: Chart, folder: Path, benchmark: str) -> None:
    """Write ``<folder>/<benchmark>_<chart>.png`` and ``.pdf``."""
    size = {"ladder": (6.0, 1.2 + 0.2 * len(chart.series[0].x))}.get(chart.kind, (5.2, 4.2))
    if chart.kind in ("bars", "heat"):
        size = (9.0, 4.2 if chart.kind == "bars" else 1.6 + 0.22 * len(chart.series))
    if chart.kind in ("lines", "points", "rank") and len(chart.series) > INSIDE_LEGEND:
        size = (8.4, max(4.8, 0.16 * len(chart.series)))

    def draw(figure: Figure) -> None:
        polar = {"projection": "polar"} if chart.kind == "radar" else {}
        axes = figure.add_subplot(**polar)
        _DRAW[chart.kind](axes, chart)
        axes.set_title(f"{benchmark}: {chart.title}", fontsize="medium")

    save(folder / f"{benchmark}_{chart.name}", size, draw)


def save_training(
    file: Path, panels: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]
) -> None:
    """Write the curves of a training: panel -> series -> (step, value)."""

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, (name, series) in zip(grid, panels.items(), strict=True):
            for index, (key, points) in enumerate(series.items()):
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, label=key, color=COLOURS[index % len(COLOURS)])
            axes.set(title=name, xlabel="step")
            axes.grid(color="0.9")
            axes.legend(fontsize="small")

    save(file, (7.0, 2.6 * len(panels)), draw)


def save(file: Path, size: tuple[float, float], draw: Callable[[Figure], None]) -> None:
    """Write a figure in every format; ``file`` has no suffix yet, ``size`` is in inches."""
    # The object interface: pyplot's global state would need a display or a chosen backend.
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    for suffix in FORMATS:
        with atomic_file(file.with_name(f"{file.name}.{suffix}")) as temporary:
            # No date inside, so that the same scores make the same file.
            metadata = {"CreationDate": None} if suffix == "pdf" else {}
            figure.savefig(temporary, format=suffix, metadata=metadata)


def _lines(axes: Axes, chart: Chart) -> None:
    if chart.band is not None:
        axes.axvspan(*chart.band, color="0.9")
    for series in chart.series:
        axes.plot(
            np.array(series.x, dtype=float),
            series.y,
            label=_plain(series.name),
            color=series.style.colour,
            linestyle=LINE_STYLES[series.style.dash],
            linewidth=2,
        )
    _label(axes, chart)
    _legend(axes, len(chart.series))


def _radar(axes: Axes, chart: Chart) -> None:
    names = chart.series[0].x
    angles = np.linspace(0, 2 * np.pi, len(names), endpoint=False)
    for series in chart.series:
        axes.plot(
            [*angles, angles[0]],
            [*series.y, series.y[0]],
            label=_plain(series.name),
            color=series.style.colour,
            linestyle=LINE_STYLES[series.style.dash],
        )
    axes.set_xticks(angles, [_plain(str(name)) for name in names])
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.05, 1.05))


def _bars(axes: Axes, chart: Chart) -> None:
    names = chart.series[0].x
    width = 0.8 / len(chart.series)
    for index, series in enumerate(chart.series):
        places = np.arange(len(names)) + (index + 0.5) * width - 0.4
        axes.bar(places, series.y, width, label=_plain(series.name), color=series.style.colour)
    axes.set_xticks(np.arange(len(names)), [_plain(str(name)) for name in names])
    if max(len(str(name)) for name in names) > 5:
        axes.tick_params(axis="x", rotation=40)
    _label(axes, chart)
    axes.grid(visible=False, axis="x")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _ladder(axes: Axes, chart: Chart) -> None:
    names = [_plain(str(name)) for name in chart.series[0].x]
    for index, series in enumerate(chart.series):
        colour, legend = series.style.colour, _plain(series.name)
        if index == 0:
            axes.barh(names, series.y, color=colour, label=legend)
        else:
            axes.plot(series.y, names, "D", color=colour, markeredgecolor="white", label=legend)
    axes.set_ylim(-0.6, len(names) - 0.4)
    _label(axes, chart)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelsize="small")
    axes.legend(fontsize="small")


def _points(axes: Axes, chart: Chart) -> None:
    for series in chart.series:
        x = np.array(series.x, dtype=float)
        colour, legend = series.style.colour, _plain(series.name)
        axes.plot(x, series.y, "o", color=colour, markersize=8, label=legend)
        if len(chart.series) > MOST_NAMED:
            continue
        axes.annotate(
            legend,
            (float(x[0]), series.y[0]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
    _label(axes, chart)
    axes.margins(0.15)
    if len(chart.series) > MOST_NAMED:
        _legend(axes, len(chart.series))
    if chart.kind == "rank":
        axes.set_xlim(len(chart.series) + 0.5, 0.5)  # the first rank stands at the right
        axes.set_ylim(bottom=0)


def _heat(axes: Axes, chart: Chart) -> None:
    table = np.array([series.y for series in chart.series], dtype=float)
    picture = axes.imshow(table, aspect="auto", cmap="viridis", interpolation="nearest")
    names = [_plain(str(name)) for name in chart.series[0].x]
    axes.set_xticks(np.arange(len(names)), names, rotation=90, fontsize=5)
    axes.set_yticks(np.arange(len(table)), [_plain(s.name) for s in chart.series], fontsize=7)
    assert axes.figure is not None
    axes.figure.colorbar(picture, ax=axes, label=_plain(chart.x_label))


def _label(axes: Axes, chart: Chart) -> None:
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    if chart.x_log:
        axes.set_xscale("log")
    if chart.x_range is not None:
        axes.set_xlim(*chart.x_range)
    if chart.y_range is not None:
        axes.set_ylim(*chart.y_range)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)


def _legend(axes: Axes, entries: int) -> None:
    if entries <= INSIDE_LEGEND:
        axes.legend(fontsize="small")
    else:
        axes.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _plain(text: str) -> str:
    """Return a name without what Matplotlib would read as mathematics."""
    return text.replace("$", r"\$")


_DRAW: dict[str, Callable[[Axes, Chart], None]] = {
    "lines": _lines,
    "radar": _radar,
    "bars": _bars,
    "ladder": _ladder,
    "rank": _points,
    "points": _points,
    "heat": _heat,
}
