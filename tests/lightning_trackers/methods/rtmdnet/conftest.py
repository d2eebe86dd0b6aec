import numpy as np
import pytest
import torch

from lightning_trackers.backbones import VGGM
from lightning_trackers.methods.rtmdnet import RTMDNet


@pytest.fixture
def network():
    torch.manual_seed(0)
    return RTMDNet(VGGM((6, 8, 12), dense=True), hidden=16, weight_std=0.1)


@pytest.fixture
def noise():
    """A frame without two places alike."""
    return np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
