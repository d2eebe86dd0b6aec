"""A table's page: Markdown, LaTeX, CSV and HTML of the same cells."""

import csv
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.report.labels import label, rate
from experiments.report.page import environment
from experiments.report.tables import latex_text, markdown_text, write_csv
from experiments.tables.collecting import Collected
from experiments.tables.definition import SCORES
from experiments.tables.summary import Difference, Entry, Mean, summarise
from lightning_trackers.files import atomic_file, write_text
from lightning_trackers.metrics.functional.seeds import SeededInterval

DASH = "–"
LONGEST = 60
"""Lines of an experiment's own table that a page shows."""


@dataclass(frozen=True)
class Grid:
    """A table as texts.

    Args:
        title: Its heading.
        headings: Of the columns.
        rows: Cells.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Page:
    """What a page says, whatever the format.

    Args:
        title: Heading.
        warnings: What must not be overlooked.
        intro: What is shown.
        grids: Tables.
        lists: Lists by heading.
        command: What makes the page.
        figures: Names of figures in ``plots/``.
    """

    title: str
    warnings: list[str]
    intro: list[str]
    grids: list[Grid]
    lists: dict[str, list[str]]
    command: str
    figures: list[str]


def write_pages(
    folder: Path, collected: Collected, command: str, figures: Sequence[str] = ()
) -> Path:
    """Write ``table.md``, ``table.tex``, ``table.csv`` and ``index.html``; return the last."""
    entries = summarise(collected)
    page = page_of(collected, entries, command, [*figures, *_copied_figures(folder, collected)])
    write_text(folder / "table.md", markdown(page))
    write_text(folder / "table.tex", latex(page))
    _write_csv(folder / "table.csv", collected, entries)
    html = environment().get_template("table.html").render(vars(page))
    write_text(folder / "index.html", html)
    return folder / "index.html"


def page_of(
    collected: Collected,
    entries: dict[str, list[Entry]],
    command: str,
    figures: Sequence[str] = (),
) -> Page:
    """Return what the page of a table says."""
    table, budget = collected.table, collected.budget
    warnings = []
    if not budget.on_paper_data:
        stand_in = table.stand_in
        warnings.append(
            f"Not the paper's data. Ours is profile={budget.profile}: a scaled-down network, trained "
            "and evaluated on video drawn by code. The paper's numbers are of "
            f"{stand_in.stands_for}, ours of the benchmark {' and '.join(collected.ours[stand_in.stands_for])}; "
            "the two columns cannot be compared with each other, only the signs of differences within "
            "each."
        )
        other = {m: s for m, s in stand_in.metrics.items() if SCORES[m] != s}
        for metric, score in other.items():
            warnings.append(
                f"Our {label(score).text} stands beside the paper's {_heading(metric)}."
            )
    intro = [
        f"{table.source}. Ours: mean ± standard deviation over seeds {', '.join(map(str, budget.seeds))}; "
        "in brackets the 95 % interval from a bootstrap over sequences and seeds.",
        *(
            f"{' and '.join(collected.ours[b])}: {n} sequences."
            for b, n in collected.sequences.items()
        ),
    ]
    if any(len(e.ours.values) == 1 for row in entries.values() for e in row):
        intro.append("The interval of a single seed is one over sequences alone.")
    disagreeing = [
        f"{name}, {e.benchmark}, {_heading(e.metric)}: the paper {_signed(e, d.paper)}, ours "
        f"{_signed_interval(e, d.ours)} against {d.baseline} ({d.verdict})"
        for name, e, d in _compared(entries)
        if d.verdict.startswith("disagrees")
    ]
    power = [
        f"{name} against {d.baseline}, {e.benchmark}, {_heading(e.metric)}: the paper's difference of "
        f"{_signed(e, d.paper)} takes {d.power}"
        for name, e, d in _compared(entries)
        if d.power
    ]
    missing = [
        f"{name}: {reason}"
        for name, row in entries.items()
        for reason in dict.fromkeys(r for e in row for r in e.missing)
    ]
    notes = [*table.notes, *(f"{r.name}: {r.note}" for r in table.rows.values() if r.note)]
    return Page(
        f"{table.name}: {table.title}",
        warnings,
        intro,
        [_scores(collected, entries), *_differences(entries), *_own_tables(collected)],
        {
            "Signs that disagree with the paper": disagreeing,
            "Missing": missing,
            "Notes": notes,
            "What it takes to resolve the paper's differences (two-sided test at 5 %, power 80 %, from "
            "our variances)": power,
            "Made by": _made_by(collected),
        },
        command,
        list(figures),
    )


def _scores(collected: Collected, entries: dict[str, list[Entry]]) -> Grid:
    first = next(iter(entries.values()))
    headings = ["Row"]
    for e in first:
        score, place = _heading(e.metric), " and ".join(collected.ours[e.benchmark])
        headings += [f"{score}: paper, {e.benchmark}"]
        headings += [f"{score}: ours, {place}"] if e.score else []
        if _searched(entries, e):
            headings += [f"{score}: ours after search, {place}"]
    rows = []
    for name, row in entries.items():
        cells = [name]
        for e in row:
            cells.append(_number(e, e.paper))
            if e.score:
                cells.append(_ours(e))
            if _searched(entries, e):
                cells.append(_mean(e, e.after_search) if e.after_search.values else DASH)
        rows.append(cells)
    return Grid("Scores", headings, rows)


def _searched(entries: dict[str, list[Entry]], like: Entry) -> bool:
    return any(
        e.after_search.values
        for row in entries.values()
        for e in row
        if (e.benchmark, e.metric) == (like.benchmark, like.metric)
    )


def _differences(entries: dict[str, list[Entry]]) -> list[Grid]:
    rows = [
        [
            name,
            d.baseline,
            f"{e.benchmark} {_heading(e.metric)}",
            _signed(e, d.paper),
            _signed_interval(e, d.ours),
            d.verdict or DASH,
        ]
        for name, e, d in _compared(entries)
        if e.metric != "fps"
    ]
    headings = ["Row", "Less", "Score", "Paper", "Ours", "Sign"]
    return [Grid("Differences to the baseline", headings, rows)] if rows else []


def _own_tables(collected: Collected) -> list[Grid]:
    """Return the tables that experiments wrote themselves."""
    grids = []
    for file, row, seed in _own_files(collected, ".csv"):
        with file.open(newline="", encoding="utf-8") as lines:
            headings, *rows = csv.reader(lines)
        if len(rows) <= LONGEST:  # longer ones are the numbers of a figure
            grids.append(Grid(f"{row}, seed {seed}: {file.name}", headings, rows))
    return grids


def _copied_figures(folder: Path, collected: Collected) -> list[str]:
    """Copy the figures that experiments drew themselves; return their names."""
    names = []
    for file, row, seed in _own_files(collected, ".png"):
        names.append(f"{row}_seed{seed}_{file.stem}")
        with atomic_file(folder / "plots" / f"{names[-1]}.png") as copied:
            shutil.copyfile(file, copied)
    return names


def _own_files(collected: Collected, suffix: str) -> Iterator[tuple[Path, str, int]]:
    for rows in collected.rows.values():
        for name, found in rows.items():
            for seed, measured in found.measured.items():
                for file in collected.table.rows[name].files:
                    if file.endswith(suffix):
                        yield Path(measured.where) / file, name, seed


def _compared(entries: dict[str, list[Entry]]) -> Iterator[tuple[str, Entry, Difference]]:
    for name, row in entries.items():
        for entry in row:
            for difference in entry.differences:
                if not entry.published_only:
                    yield name, entry, difference


def _ours(e: Entry) -> str:
    if e.published_only:
        return DASH
    if not e.ours.values:
        return "missing" if e.missing else "not measured"
    text = _mean(e, e.ours)
    return f"{text}; {len(e.ours.values)} seed(s) alone" if e.missing else text


def _mean(e: Entry, mean: Mean) -> str:
    text = _number(e, mean.interval.mean)
    if math.isfinite(mean.std):
        text += f" ± {_number(e, mean.std)}"
    if math.isfinite(mean.interval.low):
        text += f" ({_number(e, mean.interval.low)} to {_number(e, mean.interval.high)})"
    return text


def _heading(metric: str) -> str:
    return label(SCORES[metric]).text


def _number(e: Entry, value: float) -> str:
    if e.metric == "fps":
        return rate(value)
    return label(SCORES[e.metric]).format(value)


def _signed(e: Entry, value: float) -> str:
    if not math.isfinite(value):
        return DASH
    shown = label(SCORES[e.metric])
    return f"{shown.shown(value):+.{shown.decimals}f}".replace("-", "−")


def _signed_interval(e: Entry, found: SeededInterval) -> str:
    text = _signed(e, found.mean)
    if math.isfinite(found.low):
        text += f" ({_signed(e, found.low)} to {_signed(e, found.high)})"
    return text


def short(where: str | Path) -> str:
    """Return the end of a path, as others have other folders before it; an address as it is."""
    return str(where) if "://" in str(where) else "/".join(Path(where).parts[-2:])


def _made_by(collected: Collected) -> list[str]:
    lines: dict[str, list[str]] = {}
    for rows in collected.rows.values():
        for name, row in rows.items():
            for seed, m in row.measured.items():
                made = f"commit {m.commit}, precision {m.precision}, device {m.device}"
                lines.setdefault(made, []).append(f"{name} seed {seed} ({short(m.where)})")
    notes = [f"{made}: {'; '.join(who)}" for made, who in lines.items()]
    if len(lines) > 1:
        notes.insert(0, "The runs are not of one version, precision and device; see below.")
    return notes


def markdown(page: Page) -> str:
    """Return a page as GitHub's Markdown."""
    parts = [f"# {markdown_text(page.title)}"]
    parts += [f"> **{markdown_text(text)}**" for text in page.warnings]
    parts += [markdown_text(text) for text in page.intro]
    for grid in page.grids:
        lines = [
            f"| {' | '.join(map(markdown_text, grid.headings))} |",
            "|---|" + "---:|" * (len(grid.headings) - 1),
            *(f"| {' | '.join(map(markdown_text, row))} |" for row in grid.rows),
        ]
        parts += [f"## {grid.title}", "\n".join(lines)]
    for heading, items in page.lists.items():
        if items:
            parts += [f"## {heading}", "\n".join(f"- {markdown_text(text)}" for text in items)]
    if page.figures:
        parts += ["## Figures", "\n".join(f"![{name}](plots/{name}.png)" for name in page.figures)]
    parts += ["## Command", f"```sh\n{page.command}\n```"]
    return "\n\n".join(parts) + "\n"


def latex(page: Page) -> str:
    """Return the tables of a page for the LaTeX package booktabs; what else it says as comments."""
    lines = [f"% {text}" for text in [page.title, *page.warnings, *page.intro]]
    for grid in page.grids:
        lines += [
            f"% {grid.title}",
            r"\begin{tabular}{l" + "r" * (len(grid.headings) - 1) + "}",
            r"\toprule",
            " & ".join(map(latex_text, grid.headings)) + r" \\",
            r"\midrule",
            *(" & ".join(map(latex_text, row)) + r" \\" for row in grid.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    lines += [f"% {heading}: {text}" for heading, items in page.lists.items() for text in items]
    return "\n".join(lines) + "\n"


def _write_csv(file: Path, collected: Collected, entries: dict[str, list[Entry]]) -> None:
    header = [
        *("table", "profile", "row", "benchmark", "metric", "paper", "our_benchmark", "our_score"),
        *("seeds", "mean", "std", "low", "high", "after_search"),
        *(
            "baseline",
            "paper_difference",
            "difference",
            "difference_low",
            "difference_high",
            "sign",
        ),
        "missing",
    ]
    lines: list[list[object]] = []
    for name, row in entries.items():
        for e in row:
            ours = e.ours
            line: list[object] = [collected.table.name, collected.budget.profile, name]
            line += [e.benchmark, e.metric, e.paper, "+".join(collected.ours[e.benchmark]), e.score]
            line += [" ".join(map(str, ours.values)), ours.interval.mean, ours.std]
            line += [ours.interval.low, ours.interval.high, e.after_search.interval.mean]
            compared: list[list[object]] = [
                [d.baseline, d.paper, d.ours.mean, d.ours.low, d.ours.high, d.verdict]
                for d in e.differences
            ]
            lines += [[*line, *d, "; ".join(e.missing)] for d in compared or [[None] * 6]]
    write_csv(file, header, lines)
