"""Single-object trackers: methods, losses, metrics and evaluation."""
