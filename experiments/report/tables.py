"""Tables of a report: confidence intervals, significance, CSV, Markdown and LaTeX."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from experiments.report.charts import ranked, sequence_key
from experiments.report.labels import label, written
from lightning_trackers.evaluation.benchmarking import BenchmarkScores
from lightning_trackers.files import write_text
from lightning_trackers.metrics.functional.statistics import holm, paired_difference

LEVEL = 0.05
"""Probability under which a difference counts as significant."""
MOST_COMPARED = 16
"""Trackers compared in pairs, the best ones: each further pair weakens all after correction."""

Intervals = Mapping[str, Mapping[str, tuple[float, float]]]
"""Ends of confidence intervals by tracker and key of the score."""


@dataclass(frozen=True)
class Cell:
    """A score of a tracker.

    Args:
        text: The score as it is printed.
        interval: Its 95 % confidence interval as it is printed; empty where none is known.
        low: Lower end, as stored; NaN where none is known.
        high: Upper end.
        value: The score as stored.
        best: No tracker has a better one.
    """

    text: str
    interval: str
    low: float
    high: float
    value: float
    best: bool


@dataclass(frozen=True)
class ScoreTable:
    """Scores of a benchmark, a row for each tracker, best first.

    Args:
        benchmark: Its name.
        columns: Heading by key of the score.
        rows: Cells of each tracker by key of the score.
        sequences: How many sequences were scored.
    """

    benchmark: str
    columns: dict[str, str]
    rows: dict[str, dict[str, Cell]]
    sequences: int

    @property
    def has_intervals(self) -> bool:
        """Whether a confidence interval is known of any score."""
        return any(cell.interval for cells in self.rows.values() for cell in cells.values())


@dataclass(frozen=True)
class Difference:
    """How two trackers differ on the sequences of a benchmark.

    Args:
        first: One tracker.
        second: The other.
        mean: Mean difference, first less second, as stored.
        low: Lower end of its 95 % confidence interval.
        high: Upper end.
        p_value: Probability of a difference as large if the two were exchangeable, two-sided.
        p_adjusted: The same after Holm's correction for all pairs of this benchmark.
    """

    first: str
    second: str
    mean: float
    low: float
    high: float
    p_value: float
    p_adjusted: float

    @property
    def significant(self) -> bool:
        """Whether the difference is significant after correction."""
        return self.p_adjusted < LEVEL


def score_table(rows: Sequence[BenchmarkScores], intervals: Intervals) -> ScoreTable:
    """Return the scores of a benchmark, with the intervals that are known."""
    keys = [*rows[0].scores.scalars, "fps"]
    values = {row.tracker: {**row.scores.scalars, "fps": row.fps} for row in rows}
    best = {key: _best([v.get(key, math.nan) for v in values.values()], key) for key in keys}
    cells: dict[str, dict[str, Cell]] = {}
    for row in ranked(rows, rows[0].headline):
        cells[row.tracker] = {}
        for key in keys:
            value = values[row.tracker].get(key, math.nan)
            low, high = intervals.get(row.tracker, {}).get(key, (math.nan, math.nan))
            known = math.isfinite(low)
            cells[row.tracker][key] = Cell(
                written(key, value),
                f"{written(key, low)}–{written(key, high)}" if known else "",
                low,
                high,
                value,
                value == best[key],
            )
    return ScoreTable(
        rows[0].benchmark, {k: label(k).text for k in keys}, cells, len(rows[0].scores.sequences)
    )


def differences(rows: Sequence[BenchmarkScores]) -> list[Difference]:
    """Return every pair of the best trackers, compared sequence by sequence, best tracker first."""
    key = sequence_key(rows)
    if key is None or len(rows) < 2 or len(rows[0].scores.sequences) < 2:
        return []
    order = ranked(rows, rows[0].headline)[:MOST_COMPARED]
    names = list(rows[0].scores.sequences)
    values = [
        np.array([row.scores.sequences.get(n, {}).get(key, math.nan) for n in names])
        for row in order
    ]
    pairs = [(i, j) for i in range(len(order)) for j in range(i + 1, len(order))]
    known = np.isfinite(values).all(axis=0)
    if known.sum() < 2:
        return []
    found = [paired_difference(values[i][known], values[j][known]) for i, j in pairs]
    adjusted = holm(np.array([f.p_value for f in found]))
    return [
        Difference(order[i].tracker, order[j].tracker, f.mean, f.low, f.high, f.p_value, float(p))
        for (i, j), f, p in zip(pairs, found, adjusted, strict=True)
    ]


def write_tables(
    output_dir: Path,
    by_benchmark: Mapping[str, list[BenchmarkScores]],
    tables: Mapping[str, ScoreTable],
    compared: Mapping[str, Sequence[Difference]],
) -> None:
    """Write every number as CSV, and the score tables as Markdown and LaTeX.

    ``scores.csv``, ``sequence_scores.csv``, ``attribute_scores.csv``, ``differences.csv`` (the last
    two where there is something to write), ``tables/<benchmark>.md`` and ``.tex``.
    """
    _write_scores(output_dir / "scores.csv", tables)
    _write_parts(output_dir / "sequence_scores.csv", "sequence", by_benchmark)
    if any(row.scores.attributes for rows in by_benchmark.values() for row in rows):
        _write_parts(output_dir / "attribute_scores.csv", "attribute", by_benchmark)
    found = [(name, d) for name, pairs in compared.items() for d in pairs]
    if found:
        write_csv(
            output_dir / "differences.csv",
            ["benchmark", "score", *(f.name for f in fields(Difference))],
            [[name, sequence_key(by_benchmark[name]), *astuple(d)] for name, d in found],
        )
    for name, table in tables.items():
        write_text(output_dir / "tables" / f"{name}.md", markdown(table))
        write_text(output_dir / "tables" / f"{name}.tex", latex(table))


def markdown(table: ScoreTable) -> str:
    """Return a table as GitHub's Markdown; the best of each column is bold."""
    lines = [
        f"| tracker | {' | '.join(markdown_text(t) for t in table.columns.values())} |",
        "|---|" + "---:|" * len(table.columns),
    ]
    for tracker, cells in table.rows.items():
        texts = []
        for key in table.columns:
            cell = cells[key]
            text = f"**{cell.text}**" if cell.best else cell.text
            texts.append(f"{text} ({cell.interval})" if cell.interval else text)
        lines.append(f"| {markdown_text(tracker)} | {' | '.join(texts)} |")
    lines += ["", _caption(table)]
    return "\n".join(lines) + "\n"


def latex(table: ScoreTable) -> str:
    """Return a table for the LaTeX package booktabs; the best of each column is bold."""
    heading = " & ".join(latex_text(t) for t in table.columns.values())
    lines = [
        f"% {_caption(table)}",
        r"\begin{tabular}{l" + "r" * len(table.columns) + "}",
        r"\toprule",
        rf"Tracker & {heading} \\",
        r"\midrule",
    ]
    for tracker, cells in table.rows.items():
        texts = []
        for key in table.columns:
            cell = cells[key]
            number = latex_text(cell.text)
            text = rf"\textbf{{{number}}}" if cell.best else number
            if cell.interval:
                text += rf" {{\scriptsize ({latex_text(cell.interval)})}}"
            texts.append(text)
        lines.append(rf"{latex_text(tracker)} & {' & '.join(texts)} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    **{sign: rf"\{sign}" for sign in "&%$#_"},
}


def latex_text(text: str) -> str:
    """Return a text in which LaTeX finds no commands."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def markdown_text(text: str) -> str:
    """Return a text in which Markdown finds no markup."""
    return re.sub(r"([\\|*_`\[\]<>])", r"\\\1", text).replace("\n", " ")


def _caption(table: ScoreTable) -> str:
    ends = "; in brackets 95 % bootstrap intervals over sequences" if table.has_intervals else ""
    return f"{table.benchmark}: {table.sequences} sequences{ends}".replace("\n", " ")


def _best(values: Sequence[float], key: str) -> float:
    """Return the best value of a column; NaN, which equals nothing, where there is no contest."""
    known = [v for v in values if math.isfinite(v)]
    if len(known) < 2 or label(key).better == "none":
        return math.nan
    return min(known) if label(key).better == "low" else max(known)


def _write_scores(file: Path, tables: Mapping[str, ScoreTable]) -> None:
    keys = list(dict.fromkeys(key for table in tables.values() for key in table.columns))
    bounded = [
        key
        for key in keys
        if any(c[key].interval for t in tables.values() for c in t.rows.values() if key in c)
    ]
    lines = []
    for table in tables.values():
        for tracker, cells in table.rows.items():
            line: list[object] = [table.benchmark, tracker, table.sequences]
            line += [cells[key].value if key in cells else None for key in keys]
            for key in bounded:
                cell = cells.get(key)
                line += [None, None] if cell is None else [cell.low, cell.high]
            lines.append(line)
    ends = [f"{key}_{end}" for key in bounded for end in ("low", "high")]
    write_csv(file, ["benchmark", "tracker", "sequences", *keys, *ends], lines)


def _write_parts(file: Path, part: str, by_benchmark: Mapping[str, list[BenchmarkScores]]) -> None:
    """Write the scores of sequences or attributes, one line each."""
    lines: list[tuple[list[object], dict[str, float]]] = []
    for benchmark, rows in by_benchmark.items():
        for row in rows:
            scored = row.scores.sequences if part == "sequence" else row.scores.attributes
            for name, values in scored.items():
                extra = {}
                if part == "sequence":
                    extra = {"fps": row.sequence_fps.get(name, math.nan)}
                    frames: list[object] = [row.frames.get(name)]
                else:
                    frames = []
                lines.append(([benchmark, row.tracker, name, *frames], {**values, **extra}))
    keys = list(dict.fromkeys(key for _, values in lines for key in values))
    counted = ["frames"] if part == "sequence" else []
    write_csv(
        file,
        ["benchmark", "tracker", part, *counted, *keys],
        [[*who, *(values.get(key) for key in keys)] for who, values in lines],
    )


def write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table; numbers with ten digits, nothing where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_csv_text(value) for value in row])
    write_text(file, text.getvalue())


def _csv_text(value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.10g}" if math.isfinite(value) else ""
