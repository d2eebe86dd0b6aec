"""Video drawn by code: training pairs and whole sequences with known ground truth."""

from .bank import SPLITS, Bank
from .scene import Scene
from .sequence import ATTRIBUTES, ProceduralSequence
from .source import ProceduralSource, SceneView
from .style import Style

__all__ = [
    "ATTRIBUTES",
    "SPLITS",
    "Bank",
    "ProceduralSequence",
    "ProceduralSource",
    "Scene",
    "SceneView",
    "Style",
]
