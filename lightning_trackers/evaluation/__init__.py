"""Sequences, the tracker protocol, one-pass evaluation and official result files."""

from lightning_trackers.evaluation.one_pass import TrackResult, track_one_pass
from lightning_trackers.evaluation.results import ResultStore
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.tracker import LiveTracker, Prediction, Tracker

__all__ = [
    "Benchmark",
    "LiveTracker",
    "Prediction",
    "ResultStore",
    "TrackResult",
    "Tracker",
    "TrackingSequence",
    "track_one_pass",
]
