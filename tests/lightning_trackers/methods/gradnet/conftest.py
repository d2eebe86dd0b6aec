import pytest
import torch
from torch import nn

from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.gradnet import GradNet


class FourConvolutions(nn.Module):
    """An embedding of one convolution before U1 and three in it; (B, 2, 5, 5) -> (B, 2, 2, 2)."""

    stride = 1

    def __init__(self, channels=2, kernel=2):
        super().__init__()
        self.out_channels = channels
        layers = [nn.Conv2d(channels, channels, 1), nn.Tanh()]
        for _ in range(3):
            layers += [nn.Conv2d(channels, channels, kernel), nn.Softplus()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, images):
        return self.layers(images)


@pytest.fixture
def tiny():
    """A function that makes a float64 network of 2 channels with order-one gradients."""

    def make(**options):
        torch.manual_seed(0)
        options = {"response_scale": 0.3, "gradient_scale": 5.0} | options
        network = GradNet(FourConvolutions(), BinaryCrossEntropy(balanced=True), **options)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.3)
                if module.bias is not None:
                    nn.init.normal_(module.bias, std=0.1)
        return network.double()

    return make


@pytest.fixture
def sample():
    """Exemplars of two targets, features of two search regions each, labels of their 5 × 5 maps."""
    generator = torch.Generator().manual_seed(1)
    exemplars = torch.randn(2, 2, 5, 5, generator=generator, dtype=torch.float64)
    searches = torch.randn(4, 2, 6, 6, generator=generator, dtype=torch.float64)
    labels = torch.zeros(4, 5, 5)
    for index, (row, column) in enumerate([(2, 2), (1, 3), (0, 0), (4, 2)]):
        labels[index, row, column] = 1
    return exemplars, searches, labels
