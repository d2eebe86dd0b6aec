"""The report of a run: one HTML file that works offline, PNG plots and CSV tables."""

import base64
import csv
import html
import io
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import plotly.graph_objects as go
import plotly.offline
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from callbacks.benchmark_evaluation import BenchmarkScores
from lightning_trackers.files import atomic_file, write_text
from lightning_trackers.metrics.functional import ope

# Okabe and Ito's colours, told apart by colour-blind readers too.
# The first is that of the boxes in the clips.
COLOURS = ("#009e73", "#d55e00", "#0072b2", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MAX_EMBEDDED_BYTES = 1_500_000


@dataclass(frozen=True)
class Plot:
    """What one of the three curves of the protocol shows.

    Args:
        curve: Key of the curve.
        score: Key of the score in its legend.
        title: Title, with the unit of the score.
        thresholds: Thresholds, the x axis.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
    """

    curve: str
    score: str
    title: str
    thresholds: tuple[float, ...]
    x_label: str
    y_label: str


PLOTS = (
    Plot(
        "success_curve",
        "success_auc",
        "Success [AUC, %]",
        tuple(ope.SUCCESS_THRESHOLDS.tolist()),
        "overlap threshold (fraction)",
        "frames above it, %",
    ),
    Plot(
        "precision_curve",
        "precision_20px",
        "Precision [at 20 px, %]",
        tuple(ope.PRECISION_THRESHOLDS.tolist()),
        "centre error threshold, px",
        "frames within it, %",
    ),
    Plot(
        "normalized_precision_curve",
        "normalized_precision",
        "Normalised precision [at 0.20, %]",
        tuple(ope.NORMALIZED_PRECISION_THRESHOLDS.tolist()),
        "centre error threshold / target size",
        "frames within it, %",
    ),
)

COLUMNS = {
    "success_auc": "Success AUC, %",
    "precision_20px": "Precision 20 px, %",
    "normalized_precision": "Norm. precision, %",
    "fps": "Frames/s",
}


def write_report(
    output_dir: str | Path,
    scores: Sequence[BenchmarkScores],
    config: str,
    meta: Mapping[str, object],
) -> Path:
    """Write ``report.html``, ``plots/*.png``, ``scores.csv`` and ``sequence_scores.csv``.

    Training curves are read from every ``metrics.csv`` that Lightning's CSVLogger left in the
    folder; a resumed run has several.

    Args:
        output_dir: Folder of the run.
        scores: Scores of every tracker on every benchmark; may be empty.
        config: The resolved configuration, YAML.
        meta: Lines of the header, e.g. exp, profile, data, git commit, seed, duration, device.

    Returns:
        Path of the HTML file.
    """
    output_dir = Path(output_dir)
    names = list(dict.fromkeys(row.tracker for row in scores))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    by_benchmark: dict[str, list[BenchmarkScores]] = defaultdict(list)
    for row in scores:
        by_benchmark[row.benchmark].append(row)

    _write_tables(output_dir, scores)
    for benchmark, rows in by_benchmark.items():
        for plot in PLOTS:
            file = output_dir / "plots" / f"{benchmark}_{plot.curve}.png"
            _write_png(file, benchmark, plot, rows, colours)
    training = training_curves(output_dir)
    if training:
        _write_training_png(output_dir / "plots" / "training.png", training)

    page = (
        _environment()
        .get_template("report.html")
        .render(
            title=str(meta.get("exp", output_dir.name)),
            meta={key: str(value) for key, value in meta.items()},
            columns=COLUMNS,
            trackers=names,
            colours=colours,
            benchmarks=by_benchmark,
            best=best_trackers,
            curves={
                benchmark: [script_json(_curves_figure(plot, rows, colours)) for plot in PLOTS]
                for benchmark, rows in by_benchmark.items()
            },
            bars={
                benchmark: script_json(_sequences_figure(rows, colours))
                for benchmark, rows in by_benchmark.items()
            },
            clips={
                benchmark: _clip(rows, output_dir)
                for benchmark, rows in by_benchmark.items()
                if rows[0].clip is not None
            },
            training=[
                script_json(_training_figure(name, series)) for name, series in training.items()
            ],
            files=_files(output_dir),
            config=config,
            # The library is a trusted text of 4 MB and comes once.
            plotly_js=Markup(plotly.offline.get_plotlyjs()),
        )
    )
    report = output_dir / "report.html"
    write_text(report, page)
    return report


def training_curves(output_dir: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return what was logged while training: panel -> series -> (step, value).

    Series that end in the same word share a panel, so ``train/loss`` lies beside ``val/loss``.
    """
    panels: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for file in sorted(output_dir.rglob("metrics.csv"), key=lambda f: f.stat().st_mtime):
        with file.open(newline="", encoding="utf-8") as lines:
            for record in csv.DictReader(lines):
                step = int(float(record.get("step") or 0))
                for key, text in record.items():
                    stage = key.split("/")[0]
                    if not text or key in ("epoch", "step") or stage in ("test", "reference"):
                        continue
                    value = float(text)
                    if math.isfinite(value):
                        panels[key.split("/")[-1]][key].append((step, value))
    return {
        panel: {key: sorted(points) for key, points in series.items()}
        for panel, series in panels.items()
        if panel != "fps"
    }


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["rate"] = rate
    environment.filters["size"] = file_size
    return environment


def percent(fraction: float) -> str:
    """Write a fraction as percent with one decimal; a dash where there is none."""
    return f"{100 * fraction:.1f}" if math.isfinite(fraction) else "–"


def rate(value: float) -> str:
    """Write frames per second with three digits or so; a dash where nothing was timed."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def file_size(count: int) -> str:
    """Write a number of bytes for readers."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def best_trackers(rows: Sequence[BenchmarkScores], key: str) -> set[str]:
    """Return who is best in a column; nobody where there is no contest.

    The fastest tracker is the one that does nothing: no prize for that.
    """
    if key == "fps" or len(rows) < 2:
        return set()
    best = max(float(getattr(row, key)) for row in rows)
    return {row.tracker for row in rows if float(getattr(row, key)) == best}


def _ranked(rows: Sequence[BenchmarkScores], key: str) -> list[tuple[str, BenchmarkScores]]:
    """Return legend and row, best first, in the benchmarks' style: ``name [score]``."""
    ranked = sorted(rows, key=lambda row: -_or_zero(getattr(row, key)))
    return [(f"{row.tracker} [{percent(getattr(row, key))}]", row) for row in ranked]


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


# --- figures of the HTML page -------------------------------------------------------------------


def _figure(title: str, x_label: str, y_label: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "font": {"size": 15}, "x": 0.02, "xanchor": "left"},
        xaxis={"title": {"text": x_label, "standoff": 8}, "gridcolor": "#e5e5e5"},
        yaxis={"title": {"text": y_label, "standoff": 8}, "gridcolor": "#e5e5e5"},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1a1a1a"},
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 56, "r": 12, "t": 44, "b": 44},
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0},
        height=400,
    )
    return figure


def _curves_figure(
    plot: Plot, rows: Sequence[BenchmarkScores], colours: Mapping[str, str]
) -> go.Figure:
    figure = _figure(plot.title, plot.x_label, plot.y_label)
    for legend, row in _ranked(rows, plot.score):
        figure.add_scatter(
            x=plot.thresholds,
            y=[100 * float(v) for v in row.curves[plot.curve]],
            name=html.escape(legend),
            mode="lines",
            line={"color": colours[row.tracker], "width": 2.5},
            hovertemplate="%{y:.1f} % at %{x}",
        )
    figure.update_yaxes(range=[0, 101])
    figure.update_xaxes(range=[0, plot.thresholds[-1]])
    return figure


def _sequences_figure(rows: Sequence[BenchmarkScores], colours: Mapping[str, str]) -> go.Figure:
    """Bars of the first tracker, best at the top, and a mark for each reference."""
    figure = _figure("Success AUC of each sequence, %", "success AUC, %", "")
    main = rows[0]
    order = [s.sequence for s in sorted(main.sequences, key=lambda s: s.success_auc)]
    for index, row in enumerate(rows):
        values = {s.sequence: 100 * s.success_auc for s in row.sequences}
        common = {
            "x": [values.get(name) for name in order],
            "y": [html.escape(name) for name in order],  # plotly reads HTML
            "name": html.escape(row.tracker),
            "hovertemplate": "%{y}: %{x:.1f} %",
        }
        if index == 0:
            figure.add_bar(**common, orientation="h", marker={"color": colours[row.tracker]})
        else:
            mark = {
                "color": colours[row.tracker],
                "symbol": "diamond",
                "size": 11,
                "line": {"width": 1.5, "color": "white"},
            }
            figure.add_scatter(**common, mode="markers", marker=mark)
    figure.update_xaxes(range=[0, 100])
    # Names as they are: "0001" is no number. All of them are shown.
    figure.update_yaxes(type="category", automargin=True, dtick=1)
    figure.update_layout(
        height=130 + 24 * len(order),
        legend={"y": 1.0, "yanchor": "bottom", "x": 0},
        margin={"t": 84},
        bargap=0.3,
    )
    return figure


def _training_figure(name: str, series: Mapping[str, Sequence[tuple[int, float]]]) -> go.Figure:
    figure = _figure(html.escape(name), "step", "")
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


def script_json(figure: go.Figure) -> Markup:
    """Return a figure as JSON that may stand inside a ``<script>`` element."""
    return Markup(figure.to_json().replace("<", "\\u003c"))


def _clip(rows: Sequence[BenchmarkScores], output_dir: Path) -> dict[str, str]:
    """Return the source of a ``<video>``: the clip itself, or its path where it is too large."""
    clip = rows[0].clip
    assert clip is not None
    relative = clip.relative_to(output_dir).as_posix() if clip.is_relative_to(output_dir) else ""
    data = clip.read_bytes()
    if len(data) > MAX_EMBEDDED_BYTES:
        return {"source": relative or clip.resolve().as_uri(), "tracker": rows[0].tracker}
    encoded = base64.b64encode(data).decode("ascii")
    return {"source": f"data:video/mp4;base64,{encoded}", "tracker": rows[0].tracker}


def _files(output_dir: Path) -> list[tuple[str, int]]:
    """Return files of the run that a reader may want to open, with their sizes."""
    patterns = (
        "*.csv",
        "config.yaml",
        "git.txt",
        "checkpoints/*.ckpt",
        "clips/*.mp4",
        "plots/*.png",
    )
    found = [f for pattern in patterns for f in sorted(output_dir.glob(pattern))]
    return [(f.relative_to(output_dir).as_posix(), f.stat().st_size) for f in found]


# --- PNG and CSV --------------------------------------------------------------------------------


def _write_png(
    file: Path,
    benchmark: str,
    plot: Plot,
    rows: Sequence[BenchmarkScores],
    colours: Mapping[str, str],
) -> None:
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for legend, row in _ranked(rows, plot.score):
            values = [100 * float(v) for v in row.curves[plot.curve]]
            axes.plot(
                plot.thresholds, values, label=legend, color=colours[row.tracker], linewidth=2
            )
        axes.set(
            title=f"{benchmark}: {plot.title}",
            xlabel=plot.x_label,
            ylabel=plot.y_label,
            xlim=(0, plot.thresholds[-1]),
            ylim=(0, 101),
        )
        axes.grid(color="0.9")
        axes.legend(fontsize="small")

    _save_png(file, (5.2, 4.2), draw)


def _write_training_png(
    file: Path, panels: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]
) -> None:
    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, (name, series) in zip(grid, panels.items(), strict=True):
            for index, (key, points) in enumerate(series.items()):
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, label=key, color=COLOURS[index % len(COLOURS)])
            axes.set(title=name, xlabel="step")
            axes.grid(color="0.9")
            axes.legend(fontsize="small")

    _save_png(file, (7.0, 2.6 * len(panels)), draw)


def _save_png(file: Path, size: tuple[float, float], draw: Callable[[Figure], None]) -> None:
    # The object interface: pyplot's global state would need a display or a chosen backend.
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    with atomic_file(file) as temporary:
        figure.savefig(temporary, format="png")


def _write_tables(output_dir: Path, scores: Sequence[BenchmarkScores]) -> None:
    columns = list(COLUMNS)
    _write_csv(
        output_dir / "scores.csv",
        ["benchmark", "tracker", "sequences", *columns],
        [
            [row.benchmark, row.tracker, len(row.sequences), *(getattr(row, c) for c in columns)]
            for row in scores
        ],
    )
    _write_csv(
        output_dir / "sequence_scores.csv",
        ["benchmark", "tracker", "sequence", "frames", *columns],
        [
            [row.benchmark, row.tracker, *asdict(sequence).values()]
            for row in scores
            for sequence in row.sequences
        ],
    )


def _write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([f"{v:.6f}" if isinstance(v, float) else v for v in row])
    write_text(file, text.getvalue())
