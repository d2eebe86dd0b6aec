"""How scores and curves are called, written and ranked in a report: one line for each."""

import math
from dataclasses import dataclass

# Okabe and Ito's colours, told apart by colour-blind readers too.
# The first is that of the boxes in the clips.
COLOURS = ("#009e73", "#d55e00", "#0072b2", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
"""Where there are more trackers than colours, lines differ in this too (plotly's names)."""


@dataclass(frozen=True)
class ScoreLabel:
    """How a score is written.

    Args:
        text: Heading of its column, with the unit.
        short: What a plot of that curve adds to its title; the heading if empty.
        percent: A fraction, written in percent.
        decimals: Digits after the point.
        better: ``high``, ``low``, or ``none`` where there is no prize.
    """

    text: str
    percent: bool = False
    decimals: int = 3
    better: str = "high"
    short: str = ""

    def format(self, value: float) -> str:
        """Write a value without its unit; a dash where there is none."""
        if not math.isfinite(value):
            return "–"
        return f"{self.shown(value):.{self.decimals}f}"

    def shown(self, value: float) -> float:
        """Return the value in the unit that is shown."""
        return 100 * value if self.percent else value


def _percent(text: str, short: str = "") -> ScoreLabel:
    return ScoreLabel(text, percent=True, decimals=1, short=short)


_KNOWN = {
    "success_auc": _percent("Success AUC, %", "AUC, %"),
    "precision_20px": _percent("Precision 20 px, %", "at 20 px, %"),
    "normalized_precision": _percent("Norm. precision, %", "at 0.20, %"),
    "average_overlap": _percent("AO, %"),
    "success_rate_50": _percent("SR 0.50, %"),
    "success_rate_75": _percent("SR 0.75, %"),
    "mean_average_overlap": _percent("mAO, %"),
    "mean_success_rate_50": _percent("mSR 0.50, %"),
    "mean_success_rate_75": _percent("mSR 0.75, %"),
    "success": _percent("Success, %"),
    "precision": _percent("Precision, %"),
    "eao": ScoreLabel("EAO"),
    "accuracy": ScoreLabel("Accuracy"),
    "robustness": ScoreLabel("Robustness", better="low"),
    "failures": ScoreLabel("Failures", decimals=1, better="low"),
    "frames": ScoreLabel("Frames", decimals=0, better="none"),
    # The fastest tracker is the one that does nothing: no prize for that.
    "fps": ScoreLabel("Frames/s", decimals=1, better="none"),
}

CURVE_SCORES = {
    "success": ("success_auc", "average_overlap", "success"),
    "precision": ("precision_20px", "precision"),
    "normalized_precision": ("normalized_precision",),
    "eao": ("eao",),
    "expected_overlap": ("eao",),
}
"""The score in a curve's legend, by the curve's name: the first that the benchmark has."""

CURVE_TITLES = {
    "success": "Success",
    "precision": "Precision",
    "normalized_precision": "Normalised precision",
    "eao": "Expected average overlap",
    "expected_overlap": "Expected average overlap",
}


def label(key: str) -> ScoreLabel:
    """Return how a score is written; an unknown one by its key, three decimals."""
    if key in _KNOWN:
        return _KNOWN[key]
    return ScoreLabel(key.replace("_", " ").capitalize())


def rate(value: float) -> str:
    """Write frames per second with three digits or so; a dash where nothing was timed."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def file_size(count: int) -> str:
    """Write a number of bytes for readers."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def written(key: str, value: float) -> str:
    """Write a score as its column wants it."""
    return rate(value) if key == "fps" else label(key).format(value)
