"""What a table of a paper is: rows with the paper's numbers, and how each is made here.

A file of ``conf/table`` holds one. Percentages are stored as fractions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.config import CONF, ConfigError, nearest

SCORES = {
    "precision": "precision_20px",
    "success": "success_auc",
    "normalized_precision": "normalized_precision",
    "ao": "average_overlap",
    "sr50": "success_rate_50",
    "sr75": "success_rate_75",
    "eao": "eao",
    "accuracy": "accuracy",
    "robustness": "robustness",
    "failures": "failures",
    "fps": "fps",
}
"""The score of ours that a paper's metric is called."""
Numbers = dict[str, dict[str, float]]
"""A paper's numbers by benchmark and metric."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        name: Its name.
        paper: What the paper prints.
        paper_difference: What the paper says of the difference to the baseline alone, where it
            prints no scores.
        exp: The experiment that makes it; None where the row is of somebody else's tracker.
        overrides: Further words of the command line.
        paper_overrides: Those that ``profile=paper`` needs besides, e.g. the paper's data.
        weights_of: The row whose trained weights it tracks with; only tracking settings differ.
        baseline: The rows that it is compared with; the table's by default.
        note: What a reader has to know.
        files: Tables (CSV) and figures (PNG) that its experiment writes into the run's folder; the page
            shows them, and a run without them is not taken.
    """

    name: str
    paper: Numbers = field(default_factory=dict)
    paper_difference: Numbers = field(default_factory=dict)
    exp: str | None = None
    overrides: tuple[str, ...] = ()
    paper_overrides: tuple[str, ...] = ()
    weights_of: str | None = None
    baseline: tuple[str, ...] = ()
    note: str = ""
    files: tuple[str, ...] = ()

    @property
    def unknown_exp(self) -> str:
        """Why its experiment cannot be run; empty where it can."""
        if self.exp is None or (CONF / "exp" / f"{self.exp}.yaml").is_file():
            return ""
        known = [
            p.relative_to(CONF / "exp").with_suffix("").as_posix()
            for p in (CONF / "exp").rglob("*.yaml")
        ]
        return (
            f"exp not there: conf/exp/{self.exp}.yaml; the nearest is {nearest(self.exp, known)!r}"
        )


@dataclass(frozen=True)
class StandIn:
    """What a table is evaluated on where it is not the paper's data.

    Args:
        benchmark: Choice of ``conf/benchmark``.
        stands_for: The paper's benchmark whose numbers stand beside it; the last one by default.
        metrics: Our score by the paper's metric; those left out have no counterpart.
        rule: ``otb`` or ``got10k``: how one-pass results are scored.
    """

    benchmark: str
    stands_for: str
    metrics: dict[str, str]
    rule: str = "otb"


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Args:
        name: E.g. ``gradnet/table3``.
        title: What it shows.
        source: Where it is printed.
        benchmarks: Choices of ``conf/benchmark`` by the paper's benchmark; several are one pool.
        metrics: The paper's metrics.
        stand_in: What is evaluated where the profile is not ``paper``.
        rows: Its rows by name.
        baseline: The row that others are compared with.
        notes: What a reader has to know, contradictions of the paper included.
    """

    name: str
    title: str
    source: str
    benchmarks: dict[str, list[str]]
    metrics: list[str]
    stand_in: StandIn
    rows: dict[str, Row]
    baseline: str | None = None
    notes: tuple[str, ...] = ()

    def baselines_of(self, row: Row) -> list[Row]:
        """Return the rows that a row is compared with; none for the table's baseline itself."""
        names = row.baseline or ((self.baseline,) if self.baseline else ())
        return [self.rows[name] for name in names if name != row.name]


def read_table(name: str, content: Mapping[str, Any]) -> Table:
    """Return the table that a file of ``conf/table`` describes.

    Raises:
        ConfigError: If a key, a metric, a benchmark or a row that is named does not exist.
    """
    known = ("title", "source", "benchmarks", "metrics", "baseline", "rows", "notes", "laptop")
    _check_keys(f"table {name}", content, known)
    missing = [
        key
        for key in ("title", "source", "benchmarks", "metrics", "rows", "laptop")
        if key not in content
    ]
    if missing:
        raise ConfigError(f"table {name}: no value for {missing}")
    benchmarks = {str(b): list(choices) for b, choices in content["benchmarks"].items()}
    for choice in [c for choices in benchmarks.values() for c in choices]:
        _check_benchmark(name, choice)
    metrics = list(content["metrics"])
    _check_known(f"table {name}, metrics", metrics, SCORES)
    rows = {str(key): _row(name, str(key), row or {}) for key, row in content["rows"].items()}
    table = Table(
        name,
        content["title"],
        content["source"],
        benchmarks,
        metrics,
        _stand_in(name, content["laptop"], benchmarks, metrics),
        rows,
        content.get("baseline"),
        tuple(content.get("notes", ())),
    )
    _check_known(f"table {name}, baseline", [table.baseline] if table.baseline else [], rows)
    for row in rows.values():
        where = f"table {name}, row {row.name}"
        _check_known(where, [r for r in (row.weights_of, *row.baseline) if r], rows)
        for numbers in (row.paper, row.paper_difference):
            _check_known(where, numbers, benchmarks)
            for values in numbers.values():
                _check_known(where, values, metrics)
        if row.exp is None and (row.overrides or row.weights_of):
            raise ConfigError(f"{where}: overrides or weights_of without exp")
    return table


def _row(table: str, name: str, content: Mapping[str, Any]) -> Row:
    known = [f for f in Row.__dataclass_fields__ if f != "name"]
    _check_keys(f"table {table}, row {name}", content, known)
    given = dict(content)
    for key in ("overrides", "paper_overrides", "baseline", "files"):
        given[key] = tuple(given.get(key, ()))
    for key in ("paper", "paper_difference"):
        given[key] = {
            str(b): {m: float(v) for m, v in values.items() if v is not None}
            for b, values in given.get(key, {}).items()
        }
    return Row(name, **given)


def _stand_in(
    table: str, content: Mapping[str, Any], benchmarks: Mapping[str, Any], metrics: list[str]
) -> StandIn:
    where = f"table {table}, laptop"
    _check_keys(where, content, list(StandIn.__dataclass_fields__))
    _check_benchmark(table, content["benchmark"])
    stand_in = StandIn(
        content["benchmark"],
        content.get("stands_for", list(benchmarks)[-1]),
        dict(content.get("metrics", {m: SCORES[m] for m in metrics})),
        content.get("rule", "otb"),
    )
    _check_known(where, [stand_in.stands_for], benchmarks)
    _check_known(where, stand_in.metrics, metrics)
    _check_known(where, [stand_in.rule], ("otb", "got10k"))
    return stand_in


def _check_benchmark(table: str, choice: str) -> None:
    known = [p.stem for p in (CONF / "benchmark").glob("*.yaml")]
    _check_known(f"table {table}, benchmark", [choice], known)


def _check_keys(where: str, content: Mapping[str, Any], known: Any) -> None:
    _check_known(where, content, known, "key")


def _check_known(where: str, names: Any, known: Any, what: str = "name") -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{where}: unknown {what} {name!r}; nearest: {nearest(str(name), map(str, known))!r}"
            )
