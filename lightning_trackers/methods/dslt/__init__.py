"""DSLT: a convolution per target that regresses its response, learnt with the shrinkage loss."""

from lightning_trackers.methods.dslt.backbones import StridedResNet50, TinyLevels
from lightning_trackers.methods.dslt.learning import Descent, Learner, Rates, Sample
from lightning_trackers.methods.dslt.module import DSLTModule
from lightning_trackers.methods.dslt.network import DSLT, Maps
from lightning_trackers.methods.dslt.targets import gaussian_label, kernel_size
from lightning_trackers.methods.dslt.tracker import DSLTSettings, DSLTState, DSLTTracker

__all__ = [
    "DSLT",
    "DSLTModule",
    "DSLTSettings",
    "DSLTState",
    "DSLTTracker",
    "Descent",
    "Learner",
    "Maps",
    "Rates",
    "Sample",
    "StridedResNet50",
    "TinyLevels",
    "gaussian_label",
    "kernel_size",
]
