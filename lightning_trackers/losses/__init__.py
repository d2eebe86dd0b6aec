"""Losses; one family a file."""

from lightning_trackers.losses.classification import (
    BinaryCrossEntropy,
    FocalLoss,
    ShrinkageLoss,
)
from lightning_trackers.losses.contrastive import ContrastiveLoss
from lightning_trackers.losses.focal import DetectionFocalLoss
from lightning_trackers.losses.iou import iou_loss

__all__ = [
    "BinaryCrossEntropy",
    "ContrastiveLoss",
    "DetectionFocalLoss",
    "FocalLoss",
    "ShrinkageLoss",
    "iou_loss",
]
