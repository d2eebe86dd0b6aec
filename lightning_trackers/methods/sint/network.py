"""SINT's stream: one vector of unit length for every box of an image.

Source: Tao et al., Siamese Instance Search for Tracking, CVPR 2016, Section 3.1, Fig. 2.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lightning_trackers.ops import roi_pool
from lightning_trackers.siamese import normalise


class Stream(Protocol):
    """What the network asks of its backbone: levels of features of one stride, and one layer more."""

    stride: int
    out_channels: tuple[int, ...]

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the features of every level."""
        ...

    def fc6(self, regions: Tensor) -> Tensor:
        """Return what the layer answers to pooled regions of the last level."""
        ...


class Regions(NamedTuple):
    """What boxes look like.

    Args:
        vectors: Unit vectors, shape ``(B, N, D)``.
        first_level: Pooled features of the first level, shape ``(B, N, C * P * P)``, not normalised.
    """

    vectors: Tensor
    first_level: Tensor


class SINTNetwork(nn.Module):
    """The two streams, which are one: both images go through the same weights.

    A box is pooled from every level of features; the last one also goes through fc6. Each part is
    brought to unit length, and all of them together again. The cosine of two boxes' vectors is m of
    Eq. 1. As all parts end in a ReLU, it is at least 0.

    Args:
        backbone: Stream of the images, e.g. ``VGG16(fc6=True)``.
        pool: Bins along each axis of a pooled region; VGG's fc6 needs 7.

    Legend: C channels of a level, P bins, D = sum of C * P * P over the levels, plus fc6's length.
    """

    def __init__(self, backbone: nn.Module, pool: int = 7) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = pool

    @property
    def stride(self) -> int:
        """Px per cell of the features."""
        return self._stream.stride

    @property
    def _stream(self) -> Stream:
        return self.backbone  # type: ignore[return-value]

    def embed(self, images: Tensor, boxes_xyxy: Tensor) -> Tensor:
        """Return a unit vector for every box.

        Args:
            images: Images, shape ``(B, 3, H, W)``: uint8 RGB, or floats as ``siamese.normalise`` makes
                them.
            boxes_xyxy: Boxes of each image, shape ``(B, N, 4)``, px.

        Returns:
            Vectors, shape ``(B, N, D)``.
        """
        return self.regions(self.levels(images), boxes_xyxy).vectors

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the features of whole images, the one pass that serves all their boxes."""
        if not images.is_floating_point():
            images = normalise(images, next(self.parameters()).dtype)
        return self._stream(images)

    def regions(self, levels: tuple[Tensor, ...], boxes_xyxy: Tensor) -> Regions:
        """Return what boxes ``(B, N, 4)`` look like in images whose features are ``levels``."""
        pooled = [roi_pool(x, boxes_xyxy, self.pool, 1 / self.stride) for x in levels]
        fc6 = self._stream.fc6(pooled[-1].flatten(0, 1))  # (B * N, F)
        parts = [x.flatten(2) for x in pooled]  # (B, N, C * P * P)
        parts.append(fc6.view(*boxes_xyxy.shape[:2], fc6.shape[-1]))
        vectors = torch.cat([normalize(part.float(), dim=-1) for part in parts], dim=-1)
        return Regions(normalize(vectors, dim=-1), parts[0])
