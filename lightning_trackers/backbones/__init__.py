"""Feature extractors; each has ``stride`` (px per cell) and ``out_channels``."""

from lightning_trackers.backbones.alexnet import AlexNet
from lightning_trackers.backbones.tiny import Tiny

__all__ = ["AlexNet", "Tiny"]
