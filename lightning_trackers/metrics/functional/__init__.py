"""Metrics as pure functions."""

from lightning_trackers.metrics.functional.ope import (
    centre_errors,
    normalized_centre_errors,
    normalized_precision_curve,
    overlaps,
    precision_curve,
    success_curve,
)

__all__ = [
    "centre_errors",
    "normalized_centre_errors",
    "normalized_precision_curve",
    "overlaps",
    "precision_curve",
    "success_curve",
]
