"""The HTML page of a report, and the figures and tables written beside it."""

import base64
import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.offline
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.report import printed
from experiments.report.charts import charts, ranked, sequence_key, styles
from experiments.report.details import Details, mean_intervals
from experiments.report.interactive import LEGEND_BELOW, drawn, script_json, training_figure
from experiments.report.labels import file_size, label, rate, written
from experiments.report.tables import Difference, differences, score_table, write_tables
from lightning_trackers.evaluation.benchmarking import BenchmarkScores
from lightning_trackers.files import write_text

MAX_EMBEDDED_BYTES = 1_500_000
LONG_TABLE = 3
"""Trackers up to which each has a line of its own for every sequence; more become columns."""


def write_report(
    output_dir: str | Path,
    scores: Sequence[BenchmarkScores],
    config: str,
    meta: Mapping[str, object],
    *,
    details: Mapping[str, Details] | None = None,
) -> Path:
    """Write ``report.html``, figures in ``plots/``, tables in ``tables/`` and CSV files.

    Training curves are read from every ``metrics.csv`` that Lightning's CSVLogger left in the
    folder; a resumed run has several.

    Args:
        output_dir: Folder of the run.
        scores: Scores of every tracker on every benchmark; may be empty.
        config: The resolved configuration, YAML.
        meta: Lines of the header, e.g. exp, profile, data, git commit, seed, duration, device.
        details: What the results themselves tell beyond the scores, by benchmark. Without them
            intervals are those of means over sequences, and there are no worst frames.

    Returns:
        Path of the HTML file.
    """
    output_dir = Path(output_dir)
    tracker_styles = styles(list(dict.fromkeys(row.tracker for row in scores)))
    by_benchmark: dict[str, list[BenchmarkScores]] = defaultdict(list)
    for row in scores:
        by_benchmark[row.benchmark].append(row)
    training = training_curves(output_dir)
    more = {
        name: (details or {}).get(name) or Details(mean_intervals(rows))
        for name, rows in by_benchmark.items()
    }
    tables = {name: score_table(rows, more[name].intervals) for name, rows in by_benchmark.items()}
    compared = {name: differences(rows) for name, rows in by_benchmark.items()}

    write_tables(output_dir, by_benchmark, tables, compared)
    parts = {
        name: charts(rows, tracker_styles, more[name].eao_interval)
        for name, rows in by_benchmark.items()
    }
    for benchmark, by_part in parts.items():
        for chart in (chart for group in by_part.values() for chart in group):
            printed.save_chart(chart, output_dir / "plots", benchmark)
    if training:
        printed.save_training(output_dir / "plots" / "training", training)

    page = (
        environment()
        .get_template("report.html")
        .render(
            title=str(meta.get("exp", output_dir.name)),
            meta={key: str(value) for key, value in meta.items()},
            styles=tracker_styles,
            tables=list(tables.values()),
            benchmarks=[
                {
                    "name": name,
                    "rows": rows,
                    "notes": more[name].notes,
                    "charts": {
                        part: [script_json(drawn(chart)) for chart in group]
                        for part, group in parts[name].items()
                    },
                    "wide": len(rows) > LEGEND_BELOW,
                    "clip": _clip(rows, output_dir),
                    "sequences": sequence_table(rows),
                    "matrix": significance_matrix(rows, compared[name]),
                    "pictures": more[name].pictures,
                }
                for name, rows in by_benchmark.items()
            ],
            training=[
                script_json(training_figure(name, series)) for name, series in training.items()
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


@dataclass(frozen=True)
class SequenceTable:
    """The table of all sequences of a benchmark.

    Args:
        title: What it shows.
        headings: Of its columns; the first ``names`` of them hold text.
        names: How many columns hold text.
        rows: Cells as (shown, value to sort by).
    """

    title: str
    headings: list[str]
    names: int
    rows: list[list[tuple[str, float | str]]]


def sequence_table(rows: Sequence[BenchmarkScores]) -> SequenceTable | None:
    """Return the table of all sequences; None where sequences have no scores.

    A few trackers have a line each with all their scores; many are columns of one score.
    """
    key = sequence_key(rows)
    if key is None:
        return None
    if len(rows) > LONG_TABLE:
        order = ranked(rows, rows[0].headline)
        lines: list[list[tuple[str, float | str]]] = [
            [
                (name, name),
                *(_cell(key, row.scores.sequences.get(name, {}).get(key)) for row in order),
            ]
            for name in rows[0].scores.sequences
        ]
        headings = ["Sequence", *(row.tracker for row in order)]
        return SequenceTable(f"All sequences: {label(key).text}", headings, 1, lines)
    scored = [values for row in rows for values in row.scores.sequences.values()]
    keys = list(dict.fromkeys(key for values in scored for key in values))
    lines = [
        [
            (name, name),
            (row.tracker, row.tracker),
            _cell("frames", row.frames.get(name)),
            *(_cell(key, values.get(key)) for key in keys),
            _cell("fps", row.sequence_fps.get(name)),
        ]
        for row in rows
        for name, values in row.scores.sequences.items()
    ]
    headings = ["Sequence", "Tracker", *(label(key).text for key in ["frames", *keys, "fps"])]
    return SequenceTable("All sequences", headings, 2, lines)


def _cell(key: str, value: float | None) -> tuple[str, float | str]:
    value = math.nan if value is None else float(value)
    return written(key, value), value


@dataclass(frozen=True)
class SignificanceMatrix:
    """Differences between every two trackers.

    Args:
        title: What is compared.
        trackers: Best first.
        cells: By row and column: text, tooltip, and ``better``, ``worse`` or ``same``; None on the
            diagonal.
    """

    title: str
    trackers: list[str]
    cells: list[list[tuple[str, str, str] | None]]


def significance_matrix(
    rows: Sequence[BenchmarkScores], found: Sequence[Difference]
) -> SignificanceMatrix | None:
    """Return the matrix of paired differences; None where there is nothing to compare."""
    key = sequence_key(rows)
    if not found or key is None:
        return None
    compared = {name for d in found for name in (d.first, d.second)}
    trackers = [r.tracker for r in ranked(rows, rows[0].headline) if r.tracker in compared]
    low_is_better = label(key).better == "low"
    cells: dict[tuple[str, str], tuple[str, str, str]] = {}
    for d in found:
        for first, second, sign in ((d.first, d.second, 1), (d.second, d.first, -1)):
            ends = sorted(sign * label(key).shown(end) for end in (d.low, d.high))
            shown = sign * label(key).shown(d.mean)
            verdict = "same"
            if d.significant:
                verdict = "better" if (shown > 0) != low_is_better else "worse"
            digits = label(key).decimals
            tip = (
                f"{first} less {second}: {shown:+.{digits}f} "
                f"({ends[0]:+.{digits}f} to {ends[1]:+.{digits}f}), p = {d.p_value:.2g}, "
                f"{d.p_adjusted:.2g} after Holm's correction"
            )
            cells[first, second] = (f"{shown:+.{digits}f}".replace("-", "−"), tip, verdict)
    return SignificanceMatrix(
        label(key).text, trackers, [[cells.get((a, b)) for b in trackers] for a in trackers]
    )


def environment() -> Environment:
    """Return what renders the pages of ``templates``."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = file_size
    environment.filters["rate"] = rate
    return environment


def _clip(rows: Sequence[BenchmarkScores], output_dir: Path) -> dict[str, str] | None:
    """Return the source of a ``<video>``: the clip itself, or its path where it is too large."""
    clip = rows[0].clip
    if clip is None:
        return None
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
        "device.txt",
        "checkpoints/*.ckpt",
        "clips/*.mp4",
        "tables/*",
        "plots/*.p*",
    )
    found = [f for pattern in patterns for f in sorted(output_dir.glob(pattern))]
    return [(f.relative_to(output_dir).as_posix(), f.stat().st_size) for f in found]
