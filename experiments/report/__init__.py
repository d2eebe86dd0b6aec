"""The report of a run or a comparison: one HTML file that works offline, figures and tables."""

from experiments.report.page import write_report

__all__ = ["write_report"]
