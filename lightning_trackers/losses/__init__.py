"""Losses; one family a file."""

from lightning_trackers.losses.classification import (
    BinaryCrossEntropy,
    FocalLoss,
    ShrinkageLoss,
)
from lightning_trackers.losses.contrastive import ContrastiveLoss
from lightning_trackers.losses.focal import DetectionFocalLoss
from lightning_trackers.losses.gradient_sensitive import GradientSensitiveLoss, gradient_density
from lightning_trackers.losses.iou import iou_loss

__all__ = [
    "BinaryCrossEntropy",
    "ContrastiveLoss",
    "DetectionFocalLoss",
    "FocalLoss",
    "GradientSensitiveLoss",
    "ShrinkageLoss",
    "gradient_density",
    "iou_loss",
]
