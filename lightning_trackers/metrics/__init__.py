"""Benchmark metrics."""

from lightning_trackers.metrics.ope import OnePassEvaluation

__all__ = ["OnePassEvaluation"]
