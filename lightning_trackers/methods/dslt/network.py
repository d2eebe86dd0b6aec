"""The regression network of DSLT: frozen features, and a few layers that every target learns anew.

Source: Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Sections 3.1 and 3.3, Fig. 2.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Weights = dict[str, Tensor]


class Maps(NamedTuple):
    """Features of two depths on one grid of cells.

    Args:
        shallow: ``(..., C1, H, W)``.
        deep: ``(..., C2, H, W)``.
    """

    shallow: Tensor
    deep: Tensor


class DSLT(nn.Module):
    """Frozen backbone; 1 × 1 reductions of two depths and a regression of each, learnt online.

    The reduced deep map is added to the reduced shallow one, and one convolution without bias regresses
    the sum to the response; a second one regresses the deep map alone, and both responses are added.
    The network itself never learns: a target's weights begin as :meth:`initial_weights` and live in
    its state.

    Args:
        backbone: Gives a shallow and a deep map, ``out_channels`` of two numbers; ``deep_stride`` where
            the deep map's stride is not the shallow one's.
        channels: Channels of the reduced maps.
        connect_features: Add the deep map to the shallow one before the regression.
        connect_responses: Regress the deep map too and add its response.

    Raises:
        ValueError: If the backbone has not two maps, or the deep one is connected nowhere.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int = 128,
        connect_features: bool = True,
        connect_responses: bool = True,
    ) -> None:
        super().__init__()
        widths = backbone.out_channels
        if not isinstance(widths, tuple) or len(widths) != 2:
            raise ValueError(
                f"dslt: expected a backbone of two maps, got out_channels={widths} of "
                f"{type(backbone).__name__}"
            )
        if not (connect_features or connect_responses):
            raise ValueError("dslt: the deep map has no use without any connection")
        self.backbone = backbone
        self.stride = int(backbone.stride)  # type: ignore[arg-type]  # of the shallow map, px
        self.upsampling = int(getattr(backbone, "deep_stride", self.stride)) // self.stride
        self.channels = channels
        self.connect_features = connect_features
        self.connect_responses = connect_responses
        self.reduce_shallow = nn.Conv2d(widths[0], channels, 1, bias=False)
        self.reduce_deep = nn.Conv2d(widths[1], channels, 1, bias=False)
        for conv in (self.reduce_shallow, self.reduce_deep):
            # A random projection that keeps the mean square of a channel.
            nn.init.normal_(conv.weight, std=conv.in_channels**-0.5)
        self.requires_grad_(False)

    def features(self, images: Tensor) -> Maps:
        """Return both maps of images, ``(B, 3, H, W)`` to ``(B, C_i, H', W')`` each."""
        return aligned(Maps(*self.backbone(images)), self.upsampling)

    def initial_weights(self, kernel_hw: tuple[int, int]) -> Weights:
        """Return a new target's weights: the shared reductions, and regressions of 0.

        Args:
            kernel_hw: Size of the regression's convolution, cells, odd.
        """
        reduce_shallow, reduce_deep = self.reduce_shallow.weight, self.reduce_deep.weight
        kernel = reduce_deep.new_zeros(self.channels, *kernel_hw)
        weights = {
            "reduce_shallow": reduce_shallow[:, :, 0, 0].clone(),  # (R, C1)
            "reduce_deep": reduce_deep[:, :, 0, 0].clone(),  # (R, C2)
            "regress_fused": kernel,
        }
        return weights | ({"regress_deep": kernel.clone()} if self.connect_responses else {})

    def reduced(self, weights: Mapping[str, Tensor], maps: Maps) -> Maps:
        """Return each target's maps with fewer channels, the deep one added to the shallow one.

        Args:
            weights: T targets' weights, ``(T, ...)`` each.
            maps: ``(T, N, C_i, H, W)`` each.

        Returns:
            What is regressed, ``(T, N, R, H, W)`` each.
        """
        shallow = _project(weights["reduce_shallow"], maps.shallow)
        deep = _project(weights["reduce_deep"], maps.deep)
        return Maps(shallow + deep if self.connect_features else shallow, deep)

    def responses(self, weights: Mapping[str, Tensor], reduced: Maps) -> Tensor:
        """Return response maps, ``(T, N, H, W)``, of reduced maps ``(T, N, R, H, W)``."""
        response = correlate(weights["regress_fused"], reduced.shallow)
        if self.connect_responses:
            response = response + correlate(weights["regress_deep"], reduced.deep)
        return response


def aligned(maps: Maps, upsampling: int = 1) -> Maps:
    """Bring the deep map onto the shallow one's cells, and cut both to the cells that both have.

    A deep map of larger stride is interpolated bilinearly: its first and last cell lie on the shallow
    one's where padded convolutions thinned it out (9 cells become 5), in the middle of 2 × 2 cells
    where pooling did (8 become 4). Maps of one stride share their middle.

    Args:
        maps: ``(B, C_i, H_i, W_i)`` each.
        upsampling: Stride of the deep map relative to the shallow one's.
    """
    shallow, deep = maps
    size = shallow.shape[-2:]
    if upsampling > 1:
        corners = size[0] % upsampling == 1
        deep = functional.interpolate(deep, size, mode="bilinear", align_corners=corners)
    height, width = (min(a, b) for a, b in zip(size, deep.shape[-2:], strict=True))
    return Maps(_middle(shallow, height, width), _middle(deep, height, width))


def correlate(kernels: Tensor, maps: Tensor) -> Tensor:
    """Correlate each target's maps with its own kernel, padded with zeros to the maps' size.

    One output channel per target makes a poor convolution; as a product of matrices, followed by the
    sum over the kernel's cells, it is several times as fast, and targets are a batch.

    Args:
        kernels: ``(T, R, Kh, Kw)``, Kh and Kw odd.
        maps: ``(T, N, R, H, W)``.

    Returns:
        Responses, ``(T, N, H, W)``.
    """
    targets, samples, _, height, width = maps.shape
    kh, kw = kernels.shape[-2:]
    # fold adds where correlation reads: the kernel is turned round.
    taps = kernels.flatten(2).flip(2).transpose(1, 2)  # (T, Kh * Kw, R)
    products = taps[:, None] @ maps.flatten(3)  # (T, N, Kh * Kw, H * W)
    summed = functional.fold(
        products.flatten(0, 1), (height, width), (kh, kw), padding=(kh // 2, kw // 2)
    )  # (T * N, 1, H, W)
    return summed.view(targets, samples, height, width)


def stacked_maps(maps: list[Maps]) -> Maps:
    """Return maps ``(C_i, H, W)`` of several samples as one, ``(N, C_i, H, W)``."""
    return Maps(torch.stack([m.shallow for m in maps]), torch.stack([m.deep for m in maps]))


def _project(weights: Tensor, maps: Tensor) -> Tensor:
    """Apply 1 × 1 convolutions ``(T, R, C)`` to maps ``(T, N, C, H, W)``."""
    products = weights[:, None] @ maps.flatten(3)  # (T, N, R, H * W)
    return products.view(*products.shape[:3], *maps.shape[-2:])


def _middle(maps: Tensor, height: int, width: int) -> Tensor:
    top, left = (maps.shape[-2] - height) // 2, (maps.shape[-1] - width) // 2
    return maps[..., top : top + height, left : left + width]
