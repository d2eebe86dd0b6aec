"""RoIAlign whose interpolation looks further in larger boxes."""

import torch
from torch import Tensor
from torch.nn import functional


def adaptive_roi_align(
    features: Tensor, boxes_xyxy: Tensor, output_size: int, spatial_scale: float = 1.0
) -> Tensor:
    """Return the features of each box as a grid of equal size; no cell of a large box is left out.

    A box is cut into ``output_size`` × ``output_size`` bins, and a bin's value is taken at its centre
    with a triangular kernel. The kernel's bandwidth along an axis is the bin's size, rounded, at least
    a cell: with 1 it is the bilinear interpolation of RoIAlign with one sample a bin, with 2 a value
    mixes four cells along the axis. As bandwidths are whole numbers, the weights of a value add up to
    1. Cell i of the map has its centre at ``i + 0.5`` on the scaled box's axis; outside the map its
    border goes on.

    Source: Jung et al., Real-Time MDNet, ECCV 2018, Section 3.2: the bandwidth of the bilinear
        interpolation is proportional to ``[w / w']``, the rounded ratio of a box's width on the map and
        in the output.
    Deviation: the released code takes four cells that are a bandwidth apart, and not those between.

    Args:
        features: Feature maps, shape ``(B, C, H, W)``; channels-last memory is the fastest.
        boxes_xyxy: Boxes of each map, shape ``(B, N, 4)``, px.
        output_size: Bins along each axis, P.
        spatial_scale: Cells per px.

    Returns:
        Pooled features, shape ``(B, N, C, P, P)``; differentiable in the features and, but for the
        bandwidths, in the boxes.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    batch, channels, height, width = features.shape
    if boxes_xyxy.dim() != 3 or boxes_xyxy.shape[0] != batch or boxes_xyxy.shape[2] != 4:
        raise ValueError(
            f"adaptive_roi_align: expected boxes of shape ({batch}, N, 4), got "
            f"{tuple(boxes_xyxy.shape)}"
        )
    edges = (boxes_xyxy * spatial_scale - 0.5).flatten(0, 1)  # (B * N, 4), centres on whole numbers
    low, bins = edges[:, :2], (edges[:, 2:] - edges[:, :2]) / output_size
    bandwidths = bins.detach().round().clamp(min=1)
    cells = features.permute(0, 2, 3, 1).reshape(-1, channels)  # (B * H * W, C)
    number = torch.arange(batch, device=features.device)
    first = number.repeat_interleave(boxes_xyxy.shape[1]) * (height * width)  # (B * N,)
    pooled = cells.new_zeros(len(edges), output_size**2, channels)
    widest = bandwidths.amax(1)
    for reach in sorted(set(widest.tolist())):  # boxes of one have equally many cells a value
        own = (widest == reach).nonzero()[:, 0]
        taps = [
            _taps(low[own, axis], bins[own, axis], bandwidths[own, axis], int(reach), output_size)
            for axis in (0, 1)
        ]
        (x, wx), (y, wy) = taps  # (M, P, K) each
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
        index = y[:, :, None, :, None] * width + x[:, None, :, None, :]  # (M, P, P, K, K)
        index = index + first[own].view(-1, 1, 1, 1, 1)
        weights = wy[:, :, None, :, None] * wx[:, None, :, None, :]  # (M, P, P, K, K)
        found = functional.embedding_bag(
            index.flatten(3).flatten(0, 2),
            cells,
            per_sample_weights=weights.to(cells.dtype).flatten(3).flatten(0, 2),
            mode="sum",
        )  # (M * P * P, C)
        pooled[own] = found.view(len(own), -1, channels)
    grid = pooled.view(batch, -1, output_size, output_size, channels)  # (B, N, P, P, C)
    return grid.permute(0, 1, 4, 2, 3)


def _taps(
    low: Tensor, bins: Tensor, bandwidths: Tensor, reach: int, count: int
) -> tuple[Tensor, Tensor]:
    """Return the cells along one axis that the bins' values are made of, and their weights.

    Args:
        low: Where M boxes begin, cells, shape ``(M,)``.
        bins: Their bins' sizes, shape ``(M,)``.
        bandwidths: Half the width of their kernels, shape ``(M,)``.
        reach: The largest of them.
        count: Bins.

    Returns:
        Numbers of cells, which may lie outside the map, and weights, shape ``(M, count, 2 * reach)``.
    """
    middle = torch.arange(count, device=low.device, dtype=low.dtype) + 0.5
    place = low[:, None] + middle * bins[:, None]  # (M, count)
    around = torch.arange(1 - reach, 1 + reach, device=low.device, dtype=low.dtype)
    cells = place.detach().floor()[..., None] + around  # (M, count, K)
    width = bandwidths[:, None, None]
    weights = (1 - (place[..., None] - cells).abs() / width).clamp(min=0) / width
    return cells.long(), weights
