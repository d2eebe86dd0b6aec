"""RT-MDNet: convolutions over a whole scene, from whose map every box takes its features.

Source: Jung et al., Real-Time MDNet, ECCV 2018, Section 3.1 and 3.2.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_trackers.backbones.vgg_m import PIXEL_OFFSET, VGGM
from lightning_trackers.online import TargetHead
from lightning_trackers.ops import adaptive_roi_align


class RTMDNet(nn.Module):
    """A dense map of a scene, features of boxes in it, and the head with which every target begins.

    Args:
        backbone: Dense convolutions without padding, ``VGGM(dense=True)``.
        target_size: Width and height of the target in a scene, scene px.
        padding: Size of what is looked at for a box, relative to the box.
        pooled: Bins of adaptive RoIAlign along each axis, which a max pool of 3 and stride 2 reduces.
        hidden: Width of fc4 and fc5.
        dropout: Share of the hidden values dropped while learning.
        weight_std: Standard deviation of the head's first weights.

    Raises:
        ValueError: If nothing is left of the bins after the pool, or a box would be looked at in part.
    """

    def __init__(
        self,
        backbone: VGGM,
        target_size: int = 107,
        padding: float = 1.2,
        pooled: int = 7,
        hidden: int = 512,
        dropout: float = 0.5,
        weight_std: float = 0.01,
    ) -> None:
        super().__init__()
        if pooled < 3 or padding < 1:
            raise ValueError(
                f"rtmdnet: expected pooled >= 3 and padding >= 1, got {pooled} and {padding}"
            )
        self.backbone = backbone
        self.target_size = target_size
        self.padding = padding
        self.pooled = pooled
        side = (pooled - 3) // 2 + 1
        inputs = backbone.out_channels * side * side
        self.head = TargetHead(inputs, hidden, dropout, weight_std)

    @property
    def smallest(self) -> int:
        """Smallest side of a scene that has a map, scene px."""
        return self.backbone.receptive_field

    def maps(self, scenes: Tensor) -> Tensor:
        """Return dense features of scenes, uint8 RGB ``(B, 3, H, W)`` to ``(B, C, H', W')``."""
        images = scenes.to(next(self.parameters()).dtype) - PIXEL_OFFSET
        found: Tensor = self.backbone(images)
        return found

    def features(self, maps: Tensor, boxes_in_scene_xyxy: Tensor) -> Tensor:
        """Return the features of boxes.

        A box's bins lie over the cells that look at nothing outside the box and its margin; of a
        small box, over the one in its middle.

        Args:
            maps: Dense features of B scenes, shape ``(B, C, H', W')``.
            boxes_in_scene_xyxy: Boxes in each scene, shape ``(B, N, 4)``, scene px.

        Returns:
            Shape ``(B, N, d)``.
        """
        stride, field = self.backbone.stride, self.backbone.receptive_field
        low, high = boxes_in_scene_xyxy[..., :2], boxes_in_scene_xyxy[..., 2:]
        centre, half = (low + high) / 2, (high - low) * (self.padding / 2)
        # A cell in its stride x stride px looks this much further on each side.
        further = (field - stride) / 2
        half = (half - further).clamp(min=stride / 2)
        over_cells = torch.cat([centre - half, centre + half], dim=-1) - further
        # The gathering of bins is no matter of half precision.
        pooled = adaptive_roi_align(maps.float(), over_cells, self.pooled, 1 / stride)
        batch, count = pooled.shape[:2]
        reduced = functional.max_pool2d(pooled.flatten(0, 1), 3, 2)  # (B * N, C, 3, 3)
        return reduced.reshape(batch, count, -1)
