"""MDNet: convolutions that all videos share, and fully connected layers that become one target's.

Source: Nam & Han, Learning Multi-Domain Convolutional Neural Networks for Visual Tracking, CVPR 2016,
Section 3.1.
"""

import torch
from torch import Tensor, nn

from lightning_trackers.backbones.vgg_m import PIXEL_OFFSET
from lightning_trackers.online import TargetHead


class MDNet(nn.Module):
    """Features of crops, and the head with which every target begins.

    Args:
        backbone: Convolutions, e.g. :class:`~lightning_trackers.backbones.VGGM`.
        crop_size: Side of a crop, px.
        hidden: Width of fc4 and fc5.
        dropout: Share of the hidden values dropped while learning.
        weight_std: Standard deviation of the head's first weights.
    """

    def __init__(
        self,
        backbone: nn.Module,
        crop_size: int = 107,
        hidden: int = 512,
        dropout: float = 0.5,
        weight_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.crop_size = crop_size
        self.head = TargetHead(self._feature_length(), hidden, dropout, weight_std)

    def features(self, crops: Tensor) -> Tensor:
        """Return features of crops, uint8 RGB ``(B, 3, S, S)`` to ``(B, d)``."""
        images = crops.to(next(self.parameters()).dtype) - PIXEL_OFFSET
        found: Tensor = self.backbone(images)
        return found.flatten(1)  # (B, C * H' * W')

    @torch.no_grad()
    def _feature_length(self) -> int:
        like = next(self.backbone.parameters())
        image = like.new_zeros((1, 3, self.crop_size, self.crop_size))
        return int(self.backbone(image).numel())
