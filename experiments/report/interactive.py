"""Charts drawn by Plotly, for the page."""

import html
import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from markupsafe import Markup

from experiments.report.charts import MOST_NAMED, Chart, Series
from experiments.report.labels import COLOURS

LEGEND_BELOW = 8
"""Trackers up to which the legend stands below a chart; longer ones stand beside it and scroll."""


def drawn(chart: Chart) -> go.Figure:
    """Return a chart as a Plotly figure.

    Raises:
        ValueError: If its kind is unknown.
    """
    match chart.kind:
        case "lines":
            return _lines(chart)
        case "radar":
            return _radar(chart)
        case "bars":
            return _bars(chart)
        case "ladder":
            return _ladder(chart)
        case "rank" | "points":
            return _points(chart)
        case "heat":
            return _heat(chart)
    raise ValueError(f"chart {chart.name}: unknown kind {chart.kind!r}")


def script_json(figure: go.Figure) -> Markup:
    """Return a figure as JSON that may stand inside a ``<script>`` element."""
    return Markup(figure.to_json().replace("<", "\\u003c"))


def training_figure(name: str, series: Mapping[str, Sequence[tuple[int, float]]]) -> go.Figure:
    """Return the curves of a training panel: series -> (step, value)."""
    figure = _figure(Chart(name, "lines", name, "step", ""))
    for index, (key, points) in enumerate(series.items()):
        steps, values = zip(*points, strict=True)
        figure.add_scatter(
            x=steps,
            y=values,
            name=html.escape(key),
            mode="lines+markers" if len(points) < 50 else "lines",
            line={"color": COLOURS[index % len(COLOURS)]},
        )
    figure.update_layout(height=320, showlegend=True)
    return figure


def _figure(chart: Chart, legend_entries: int = 1) -> go.Figure:
    # Plotly reads HTML in every text, so names are escaped wherever they go into a figure.
    figure = go.Figure()
    below = legend_entries <= LEGEND_BELOW
    legend = {"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0}
    if not below:
        legend = {"orientation": "v", "yanchor": "top", "y": 1, "x": 1.02}
    figure.update_layout(
        title={
            "text": html.escape(chart.title),
            "font": {"size": 15},
            "x": 0.02,
            "xanchor": "left",
        },
        xaxis={"title": {"text": chart.x_label, "standoff": 8}, "gridcolor": "#e5e5e5"},
        yaxis={"title": {"text": chart.y_label, "standoff": 8}, "gridcolor": "#e5e5e5"},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1a1a1a"},
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 56, "r": 12, "t": 44, "b": 44},
        legend={**legend, "font": {"size": 13 if below else 11}},
        height=400 if below else 520,
    )
    if chart.x_range is not None:
        figure.update_xaxes(range=list(chart.x_range))
    if chart.y_range is not None:
        figure.update_yaxes(range=list(chart.y_range))
    if chart.x_log:
        figure.update_xaxes(type="log")
    return figure


def _lines(chart: Chart) -> go.Figure:
    figure = _figure(chart, len(chart.series))
    if chart.band is not None:
        figure.add_vrect(*chart.band, fillcolor="#e5e5e5", opacity=0.6, line_width=0, layer="below")
    for series in chart.series:
        figure.add_scatter(
            x=list(series.x),
            y=_values(series),
            name=html.escape(series.name),
            mode="lines",
            line={"color": series.style.colour, "dash": series.style.dash, "width": 2.5},
            hovertemplate="%{y:.4g} at %{x:.4g}",
        )
    figure.update_layout(showlegend=True)
    return figure


def _radar(chart: Chart) -> go.Figure:
    figure = _figure(chart, len(chart.series))
    for series in chart.series:
        figure.add_scatterpolar(
            # The first point again closes the line.
            theta=[html.escape(str(x)) for x in (*series.x, series.x[0])],
            r=[*_values(series), _values(series)[0]],
            name=html.escape(series.name),
            mode="lines+markers",
            line={"color": series.style.colour, "dash": series.style.dash, "width": 2},
            hovertemplate="%{theta}: %{r:.4g}",
        )
    figure.update_polars(
        bgcolor="white",
        radialaxis={
            "gridcolor": "#e5e5e5",
            "angle": 90,
            "tickangle": 90,
            "rangemode": "tozero",
            "nticks": 5,
            "tickfont": {"size": 11, "color": "#5a5a5a"},
        },
        angularaxis={"gridcolor": "#e5e5e5"},
    )
    figure.update_layout(showlegend=True, margin={"t": 70}, height=480)
    figure.update_layout(legend={"y": -0.1})
    return figure


def _bars(chart: Chart) -> go.Figure:
    figure = _figure(chart, len(chart.series))
    for series in chart.series:
        figure.add_bar(
            x=[html.escape(str(x)) for x in series.x],
            y=_values(series),
            name=html.escape(series.name),
            marker={"color": series.style.colour},
            hovertemplate="%{x}: %{y:.4g}",
        )
    figure.update_layout(showlegend=True, barmode="group", bargap=0.25)
    figure.update_xaxes(type="category")
    return figure


def _ladder(chart: Chart) -> go.Figure:
    """Bars of the first tracker, best at the top, and a mark for each other one."""
    figure = _figure(chart, len(chart.series))
    for index, series in enumerate(chart.series):
        common = {
            "x": _values(series),
            "y": [html.escape(str(x)) for x in series.x],
            "name": html.escape(series.name),
            "hovertemplate": "%{y}: %{x:.4g}",
        }
        if index == 0:
            figure.add_bar(**common, orientation="h", marker={"color": series.style.colour})
        else:
            mark = {
                "color": series.style.colour,
                "symbol": "diamond",
                "size": 11,
                "line": {"width": 1.5, "color": "white"},
            }
            figure.add_scatter(**common, mode="markers", marker=mark)
    # Names as they are: "0001" is no number. All of them are shown.
    # Marks would widen the axis by some rows.
    ends = [-0.6, len(chart.series[0].x) - 0.4]
    figure.update_yaxes(type="category", automargin=True, dtick=1, range=ends)
    figure.update_xaxes(rangemode="tozero")
    figure.update_layout(
        height=130 + 24 * len(chart.series[0].x),
        legend={"y": 1.0, "yanchor": "bottom", "x": 0},
        margin={"t": 84},
        bargap=0.3,
        showlegend=True,
    )
    return figure


def _points(chart: Chart) -> go.Figure:
    named = len(chart.series) <= MOST_NAMED
    figure = _figure(chart, len(chart.series))
    for series in chart.series:
        figure.add_scatter(
            x=list(series.x),
            y=_values(series),
            name=html.escape(series.name),
            text=[html.escape(series.name)],
            textposition="top center",
            mode="markers+text" if named else "markers",
            marker={"color": series.style.colour, "size": 11},
            cliponaxis=False,
            hovertemplate="%{text}: %{y:.4g} at %{x:.4g}",
        )
    figure.update_layout(showlegend=not named, margin={"r": 50})
    if chart.kind == "rank":
        # The first rank stands at the right.
        figure.update_xaxes(
            range=[len(chart.series) + 0.5, 0.5], dtick=max(1, len(chart.series) // 10)
        )
        figure.update_yaxes(rangemode="tozero")
    return figure


def _heat(chart: Chart) -> go.Figure:
    figure = _figure(chart)
    figure.add_heatmap(
        x=[html.escape(str(x)) for x in chart.series[0].x],
        y=[html.escape(series.name) for series in reversed(chart.series)],
        z=[_values(series) for series in reversed(chart.series)],
        colorscale="Viridis",
        colorbar={"title": {"text": html.escape(chart.x_label), "side": "right"}},
        hovertemplate="%{y}, %{x}: %{z:.4g}<extra></extra>",
    )
    figure.update_xaxes(type="category", tickfont={"size": 9}, title="", automargin=True)
    figure.update_yaxes(type="category", automargin=True, dtick=1)
    figure.update_layout(height=200 + 22 * len(chart.series))
    return figure


def _values(series: Series) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in series.y]
