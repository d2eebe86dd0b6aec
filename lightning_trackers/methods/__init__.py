"""One room per method, and the way from a file of weights back to a tracker."""

from lightning_trackers.methods.loading import load_tracker, read_checkpoint, save_weights

__all__ = ["load_tracker", "read_checkpoint", "save_weights"]
