"""Learning on the target while it is tracked: collect samples, mine hard ones, update, decide.

The loop is ``OnlineTracker``; it serves every tracker that scores candidate boxes by their features
with a head of the target's own. What a candidate's features are is the method's to say.
"""

from lightning_trackers.online.box_regression import BoxRegression, ridge
from lightning_trackers.online.collecting import SampleMemory, SampleSettings
from lightning_trackers.online.head import TargetHead
from lightning_trackers.online.statistical_samples import confidence_interval, statistical_samples
from lightning_trackers.online.tracker import (
    OnlineSettings,
    OnlineState,
    OnlineTracker,
    SampleFeatures,
)
from lightning_trackers.online.updating import Learner, Pool, UpdateSettings, hardest, update

__all__ = [
    "BoxRegression",
    "Learner",
    "OnlineSettings",
    "OnlineState",
    "OnlineTracker",
    "Pool",
    "SampleFeatures",
    "SampleMemory",
    "SampleSettings",
    "TargetHead",
    "UpdateSettings",
    "confidence_interval",
    "hardest",
    "ridge",
    "statistical_samples",
    "update",
]
