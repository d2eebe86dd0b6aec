"""Benchmark metrics."""

from lightning_trackers.metrics.average_overlap import AverageOverlap
from lightning_trackers.metrics.ope import OnePassEvaluation

__all__ = ["AverageOverlap", "OnePassEvaluation"]
