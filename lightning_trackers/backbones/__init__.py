"""Feature extractors; each has ``stride`` (px per cell) and ``out_channels``.

Those with features of several depths return a tuple of them, and ``out_channels`` is a tuple too.
"""

from lightning_trackers.backbones.alexnet import AlexNet
from lightning_trackers.backbones.resnet50 import DilatedResNet, ResNet50, TinyResNet
from lightning_trackers.backbones.tiny import Tiny
from lightning_trackers.backbones.tiny_vgg import TinyVGG
from lightning_trackers.backbones.vgg16 import VGG16
from lightning_trackers.backbones.vgg_m import VGGM

__all__ = ["VGG16", "VGGM", "AlexNet", "DilatedResNet", "ResNet50", "Tiny", "TinyResNet", "TinyVGG"]
