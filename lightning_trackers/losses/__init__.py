"""Losses; one family a file."""

from lightning_trackers.losses.classification import (
    BinaryCrossEntropy,
    FocalLoss,
    ShrinkageLoss,
)

__all__ = ["BinaryCrossEntropy", "FocalLoss", "ShrinkageLoss"]
