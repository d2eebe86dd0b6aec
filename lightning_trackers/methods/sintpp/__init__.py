"""SINT++: hard positives for SINT, generated and occluded."""

from lightning_trackers.methods.sintpp.adversary import AdversaryModule, SpatialTransformer
from lightning_trackers.methods.sintpp.environment import (
    OcclusionEnvironment,
    OcclusionSettings,
    Score,
)
from lightning_trackers.methods.sintpp.hptn import HPTN, Learning, QNetwork, Scorer
from lightning_trackers.methods.sintpp.occluders import (
    AdversaryOccluder,
    AgentOccluder,
    Hidden,
    Occluder,
    RandomOccluder,
)
from lightning_trackers.methods.sintpp.occlusion import Action
from lightning_trackers.methods.sintpp.regions import PixelFeatures, RegionFeatures, VGGFeatures
from lightning_trackers.methods.sintpp.scoring import SINTScorer, sint_scorer

__all__ = [
    "HPTN",
    "Action",
    "AdversaryModule",
    "AdversaryOccluder",
    "AgentOccluder",
    "Hidden",
    "Learning",
    "Occluder",
    "OcclusionEnvironment",
    "OcclusionSettings",
    "PixelFeatures",
    "QNetwork",
    "RandomOccluder",
    "RegionFeatures",
    "SINTScorer",
    "Score",
    "Scorer",
    "SpatialTransformer",
    "VGGFeatures",
    "sint_scorer",
]
