"""Losses; one family a file."""

from lightning_trackers.losses.classification import (
    BinaryCrossEntropy,
    FocalLoss,
    ShrinkageLoss,
)
from lightning_trackers.losses.contrastive import ContrastiveLoss
from lightning_trackers.losses.focal import DetectionFocalLoss
from lightning_trackers.losses.gradient_sensitive import GradientSensitiveLoss, gradient_density
from lightning_trackers.losses.instance_embedding import instance_embedding_loss
from lightning_trackers.losses.iou import iou_loss
from lightning_trackers.losses.regression import (
    HardMiningLoss,
    PowerLoss,
    RegressionLoss,
    ShrinkageRegressionLoss,
)

__all__ = [
    "BinaryCrossEntropy",
    "ContrastiveLoss",
    "DetectionFocalLoss",
    "FocalLoss",
    "GradientSensitiveLoss",
    "HardMiningLoss",
    "PowerLoss",
    "RegressionLoss",
    "ShrinkageLoss",
    "ShrinkageRegressionLoss",
    "gradient_density",
    "instance_embedding_loss",
    "iou_loss",
]
