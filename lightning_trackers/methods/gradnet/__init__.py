"""GradNet: SiamFC whose template is corrected by one non-linear gradient step."""

from lightning_trackers.methods.gradnet.descent import iterations_to_converge
from lightning_trackers.methods.gradnet.module import GradNetModule
from lightning_trackers.methods.gradnet.network import Adaptation, GradNet
from lightning_trackers.methods.gradnet.tracker import GradNetSettings, GradNetTracker

__all__ = [
    "Adaptation",
    "GradNet",
    "GradNetModule",
    "GradNetSettings",
    "GradNetTracker",
    "iterations_to_converge",
]
