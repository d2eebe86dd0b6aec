"""The network: three levels of features, three FCOS heads, their weighted sum, and RoI vectors.

Source: Zhang and Zhang, Hard Negative Samples Emphasis Tracker without Anchors, MM 2020, Section 3,
Fig. 2.
"""

from collections.abc import Callable
from math import log
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_trackers.heads import Kernels, PointMaps
from lightning_trackers.methods.hnse.targets import decode, grid_points, map_origin
from lightning_trackers.ops import roi_align

_MOST_STRIDES = 64.0  # a distance is no larger, so that an untrained network's boxes stay finite


class LevelFeatures(NamedTuple):
    """phi_2, phi_3 and phi_4 of one crop, shape ``(B, C, H, W)`` each."""

    block2: Tensor
    block3: Tensor
    block4: Tensor


class HNSE(nn.Module):
    """Compares an exemplar with a search region at three levels.

    Args:
        backbone: Feature extractor with three outputs, ``stride`` and a tuple ``out_channels``.
        head: Makes one FCOS head from ``in_channels``.
        embedding: Makes the layers that turn pooled RoI features into vectors, from ``in_channels``;
            None leaves out the hard negative samples emphasis, which only training needs.
        channels: Channels of phi_2, phi_3 and phi_4.
        exemplar_cells: Side of the exemplar features' middle part that is correlated, as in SiamRPN++,
            whose padded backbone spoils the border; the paper does not speak of it.

    Raises:
        ValueError: If the backbone has not three outputs.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: Callable[..., nn.Module],
        embedding: Callable[..., nn.Module] | None = None,
        channels: int = 256,
        exemplar_cells: int = 7,
    ) -> None:
        super().__init__()
        inputs = backbone.out_channels
        if not isinstance(inputs, tuple) or len(inputs) != 3:
            raise ValueError(f"hnse: expected a backbone with three outputs, got channels {inputs}")
        self.backbone = backbone
        self.stride = int(backbone.stride)  # type: ignore[arg-type]
        self.exemplar_cells = exemplar_cells
        self.adjust = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for n in inputs
        )
        self.heads = nn.ModuleList(head(in_channels=channels) for _ in inputs)
        # Eq. 9. Weights are plain parameters, as the paper says; the heads begin as equals.
        self.cls_weights = nn.Parameter(torch.full((3,), 1 / 3))
        self.centerness_weights = nn.Parameter(torch.full((3,), 1 / 3))
        self.box_weights = nn.Parameter(torch.full((3,), 1 / 3))
        self.embedding = None if embedding is None else embedding(in_channels=2 * channels)

    def features(self, images: Tensor) -> LevelFeatures:
        """Return phi_2, phi_3 and phi_4 of images ``(B, 3, H, W)``."""
        levels = zip(self.adjust, self.backbone(images), strict=True)
        return LevelFeatures(*(adjust(found) for adjust, found in levels))

    def kernels(self, features: LevelFeatures) -> Kernels:
        """Return what is kept of exemplar features, ``(B, 3, C, h, w)`` for each branch."""
        cut = (features.block3.shape[-1] - self.exemplar_cells) // 2
        middle = slice(cut, cut + self.exemplar_cells)
        found = [
            head.exemplar(level[..., middle, middle])  # type: ignore[operator]
            for head, level in zip(self.heads, features, strict=True)
        ]
        return Kernels(
            torch.stack([k.cls for k in found], dim=1), torch.stack([k.box for k in found], dim=1)
        )

    def compare(self, features: LevelFeatures, kernels: Kernels) -> PointMaps:
        """Return the three heads' maps for search features, summed with their weights (Eq. 9)."""
        levels = zip(
            self.heads, features, kernels.cls.unbind(1), kernels.box.unbind(1), strict=True
        )
        found = [head(level, Kernels(cls, box)) for head, level, cls, box in levels]
        cls_logits, centerness_logits, log_ltrb = zip(*found, strict=True)
        return PointMaps(
            weighted_sum(self.cls_weights, cls_logits),
            weighted_sum(self.centerness_weights, centerness_logits),
            weighted_sum(self.box_weights, log_ltrb),
        )

    def boxes_xyxy(self, log_ltrb: Tensor, search_size: int) -> Tensor:
        """Return the box of every place, ``(B, H, W, 4)``, px of a search crop of that size."""
        points = grid_points(log_ltrb.shape[-2], self.stride, search_size).to(log_ltrb.device)
        ltrb = self.stride * log_ltrb.float().clamp(max=log(_MOST_STRIDES)).exp()
        return decode(points.expand(*ltrb.shape[:-1], 2), ltrb)

    def vectors(self, features: LevelFeatures, boxes_xyxy: Tensor, size: int) -> Tensor:
        """Return the vectors of boxes ``(B, N, 4)`` in crops of a size, shape ``(B, N, D)``.

        Raises:
            RuntimeError: If the network was made without the emphasis.
        """
        if self.embedding is None:
            raise RuntimeError("hnse: this network was made without an embedding")
        joined = torch.cat([features.block3, features.block4], dim=1)  # (B, 2C, H, W)
        boxes = boxes_xyxy - map_origin(joined.shape[-1], self.stride, size)
        found: Tensor = self.embedding(joined, boxes, self.stride)
        return found

    def exemplar(self, images: Tensor) -> Kernels:
        """Return what is kept of exemplar images ``(B, 3, Hz, Wz)`` while they are tracked."""
        return self.kernels(self.features(images))

    def track(self, images: Tensor, kernels: Kernels) -> PointMaps:
        """Return the maps for search images ``(B, 3, Hx, Wx)``."""
        return self.compare(self.features(images), kernels)

    def forward(self, exemplars: Tensor, searches: Tensor) -> PointMaps:
        """Return the maps for exemplars ``(B, 3, Hz, Wz)`` in searches ``(B, 3, Hx, Wx)``."""
        return self.track(searches, self.exemplar(exemplars))


class RoIEmbedding(nn.Module):
    """RoIAlign, then two convolutions without padding that leave one vector of each RoI.

    The vectors are not normalised: the paper's margin of 2 would be the largest distance of unit
    vectors, so no pair could ever lie beyond it.

    Args:
        in_channels: Channels of the joined features.
        channels: Length of the vectors; the paper does not give it.
        pool: Side of the pooled features, cells; 5 in the paper.
        sampling_ratio: Samples along each axis of a pooled cell.

    Raises:
        ValueError: If two 3 × 3 convolutions cannot turn the pooled features into a vector.
    """

    def __init__(
        self, in_channels: int, channels: int = 256, pool: int = 5, sampling_ratio: int = 2
    ) -> None:
        super().__init__()
        if pool < 3:
            raise ValueError(f"embedding: expected pooled features of 3 cells or more, got {pool}")
        self.pool = pool
        self.sampling_ratio = sampling_ratio
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, pool - 2),
        )
        # Distances begin in the order of the margin, not of the square root of `channels`.
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, std=last.weight.numel() ** -0.5)

    def forward(self, features: Tensor, boxes_xyxy: Tensor, stride: int) -> Tensor:
        """Return the vectors ``(B, N, D)`` of boxes ``(B, N, 4)``, px of the map's own corner."""
        pooled = roi_align(features, boxes_xyxy, self.pool, 1 / stride, self.sampling_ratio)
        vectors: Tensor = self.layers(pooled.flatten(0, 1))  # (B * N, D, 1, 1)
        return vectors.reshape(*pooled.shape[:2], -1)


def weighted_sum(weights: Tensor, maps: tuple[Tensor, ...]) -> Tensor:
    """Return the maps of the levels, all of one shape, summed with their weights."""
    return torch.einsum("i,i...->...", weights.to(maps[0].dtype), torch.stack(maps))
