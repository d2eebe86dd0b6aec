"""The report of a run or a comparison: one HTML file that works offline, figures and tables."""

from experiments.report.charts import styles
from experiments.report.details import Details, benchmark_details, run_details
from experiments.report.page import write_report

__all__ = ["Details", "benchmark_details", "run_details", "styles", "write_report"]
