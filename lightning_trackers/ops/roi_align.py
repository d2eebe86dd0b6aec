"""RoIAlign as two small matrix products, because bilinear sampling is separable."""

import torch
from torch import Tensor


def roi_align(
    features: Tensor,
    boxes_xyxy: Tensor,
    output_size: int,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
) -> Tensor:
    """Return the features of each box as a grid of equal size.

    A box is cut into ``output_size`` × ``output_size`` bins; a bin is the mean of its bilinear samples,
    which lie evenly in it. Cell i of the map has its centre at ``i + 0.5`` on the scaled box's axis (what
    torchvision calls ``aligned=True``). A sample more than one cell outside the outermost centres
    counts as 0, a nearer one as the border's value.

    Source: He et al., Mask R-CNN, ICCV 2017, Section 3.

    Args:
        features: Feature maps, shape ``(B, C, H, W)``.
        boxes_xyxy: Boxes of each map, shape ``(B, N, 4)``, px.
        output_size: Bins along each axis.
        spatial_scale: Cells per px.
        sampling_ratio: Samples along each axis of a bin; 0 takes as many as the bin has cells, rounded
            up, for each box and axis.

    Returns:
        Pooled features, shape ``(B, N, C, output_size, output_size)``; differentiable in the features
        and, but for the number of samples, in the boxes.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    if boxes_xyxy.shape[0] != features.shape[0] or boxes_xyxy.dim() != 3:
        raise ValueError(
            f"roi_align: expected boxes of shape ({features.shape[0]}, N, 4), got "
            f"{tuple(boxes_xyxy.shape)}"
        )
    edges = boxes_xyxy * spatial_scale - 0.5  # cell centres lie on whole numbers
    height, width = features.shape[2:]
    rows = _bin_weights(edges[..., 1], edges[..., 3], height, output_size, sampling_ratio)
    columns = _bin_weights(edges[..., 0], edges[..., 2], width, output_size, sampling_ratio)
    rows, columns = rows.to(features.dtype), columns.to(features.dtype)
    tall = torch.einsum("bnph,bchw->bnpcw", rows, features)  # (B, N, P, C, W)
    return torch.einsum("bnpcw,bnqw->bncpq", tall, columns)  # (B, N, C, P, P)


def _bin_weights(low: Tensor, high: Tensor, cells: int, bins: int, sampling_ratio: int) -> Tensor:
    """Return what each cell of one axis adds to each bin, ``(B, N)`` edges to ``(B, N, bins, cells)``."""
    size = (high - low) / bins  # (B, N)
    if sampling_ratio > 0:
        counts = torch.full_like(size, sampling_ratio)
    else:
        counts = size.detach().ceil().clamp(min=0)
    most = int(counts.max()) if counts.numel() else 0
    sample = torch.arange(most, device=low.device, dtype=low.dtype)
    within = (sample + 0.5) / counts.clamp(min=1)[..., None]  # (B, N, S), share of the bin
    bin_start = torch.arange(bins, device=low.device, dtype=low.dtype)
    share = bin_start[:, None] + within[..., None, :]  # (B, N, bins, S)
    place = low[..., None, None] + share * size[..., None, None]
    counted = (sample < counts[..., None])[..., None, :] & (place >= -1) & (place <= cells)
    place = place.clamp(0, cells - 1)
    cell = torch.arange(cells, device=low.device, dtype=low.dtype)
    weights = (1 - (place[..., None] - cell).abs()).clamp(min=0)  # (B, N, bins, S, cells)
    total = (weights * counted[..., None]).sum(-2)  # (B, N, bins, cells)
    return total / counts.clamp(min=1)[..., None, None]
