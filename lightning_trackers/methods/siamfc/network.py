"""The SiamFC network: one embedding for both crops, their cross-correlation plus a bias.

Source: Bertinetto et al., Fully-Convolutional Siamese Networks for Object Tracking, ECCVW 2016,
Eq. 2; Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Eq. 8.
"""

import torch
from torch import Tensor, nn

from lightning_trackers.ops import xcorr


class SiamFC(nn.Module):
    """Compares an exemplar with every place of a search region.

    Args:
        backbone: Feature extractor with ``stride`` and ``out_channels``.
        response_scale: Factor of the raw correlation, which sums thousands of products; without it
            the first responses saturate the sigmoid. The published code uses 1e-3.
    """

    def __init__(self, backbone: nn.Module, response_scale: float = 1e-3) -> None:
        super().__init__()
        self.backbone = backbone
        self.stride = int(backbone.stride)  # type: ignore[arg-type]
        self.response_scale = response_scale
        self.bias = nn.Parameter(torch.zeros(()))

    def exemplar(self, images: Tensor) -> Tensor:
        """Return exemplar features ``(B, C, Hz, Wz)`` of images ``(B, 3, H, W)``."""
        features: Tensor = self.backbone(images)
        return features

    def track(self, images: Tensor, exemplars: Tensor) -> Tensor:
        """Return the response map ``(B, H', W')`` of search images to exemplar features."""
        response = xcorr(self.backbone(images), exemplars)[:, 0]  # (B, H', W')
        return response * self.response_scale + self.bias

    def forward(self, exemplars: Tensor, searches: Tensor) -> Tensor:
        """Return the response map of exemplar images in search images, ``(B, H', W')``."""
        return self.track(searches, self.exemplar(exemplars))
