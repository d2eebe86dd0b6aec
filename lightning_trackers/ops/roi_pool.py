"""RoI max pooling, as a search for the largest cell of every bin."""

import torch
from torch import Tensor


def roi_pool(
    features: Tensor, boxes_xyxy: Tensor, output_size: int, spatial_scale: float = 1.0
) -> Tensor:
    """Return the largest features of each box as a grid of equal size.

    A box covers the cells from ``round(x1 * scale)`` to ``round((x2 - 1) * scale)``, the last one
    included: its first and last pixel, rounded to cells. They are cut into ``output_size`` ×
    ``output_size`` bins that begin at rounded down and end at rounded up places, so neighbours may share
    cells. A bin outside the map is 0.

    Source: Girshick, Fast R-CNN, ICCV 2015, Section 2.1; Caffe's ROIPooling layer.

    Args:
        features: Feature maps, shape ``(B, C, H, W)``.
        boxes_xyxy: Boxes of each map, shape ``(B, N, 4)``, px.
        output_size: Bins along each axis, P.
        spatial_scale: Cells per px.

    Returns:
        Pooled features, shape ``(B, N, C, P, P)``; differentiable in the features alone.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    if boxes_xyxy.shape[0] != features.shape[0] or boxes_xyxy.dim() != 3:
        raise ValueError(
            f"roi_pool: expected boxes of shape ({features.shape[0]}, N, 4), got "
            f"{tuple(boxes_xyxy.shape)}"
        )
    (batch, channels, height, width), boxes = features.shape, boxes_xyxy.shape[1]
    low = torch.floor(boxes_xyxy[..., :2] * spatial_scale + 0.5)  # C's round of positive numbers
    high = torch.floor((boxes_xyxy[..., 2:] - 1) * spatial_scale + 0.5)
    columns, full_x = _bins(low[..., 0], high[..., 0], width, output_size)  # (B, N, P, K)
    rows, full_y = _bins(low[..., 1], high[..., 1], height, output_size)
    # Cells as rows of one table: what is looked up lies side by side in memory.
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)  # (B * H * W, C)
    first = torch.arange(batch, device=features.device)[:, None, None, None] * (height * width)
    rows = first + rows * width
    best: Tensor | None = None
    with torch.no_grad():  # the search itself has no slope; what it finds is looked up below
        for row in rows.unbind(-1):
            for column in columns.unbind(-1):
                cell = (row[..., :, None] + column[..., None, :]).flatten()  # (B * N * P * P,)
                values = table[cell]
                if best is None:
                    best, found = values, cell[:, None].expand_as(values)
                elif table.requires_grad:
                    larger = values > best
                    best = torch.where(larger, values, best)
                    found = torch.where(larger, cell[:, None], found)
                else:
                    best = torch.maximum(best, values)
    assert best is not None  # every bin has a place, be it empty
    if table.requires_grad:
        best = table.gather(0, found)
    pooled = best.view(batch, boxes, output_size, output_size, channels)
    full = full_y[..., :, None] & full_x[..., None, :]  # (B, N, P, P)
    return (pooled * full[..., None]).permute(0, 1, 4, 2, 3)  # (B, N, C, P, P)


def _bins(low: Tensor, high: Tensor, cells: int, bins: int) -> tuple[Tensor, Tensor]:
    """Return the cells of each bin along one axis, and which bins have any.

    Args:
        low: First cell of each box, shape ``(B, N)``.
        high: Last cell of each box.
        cells: Cells of the map, L.
        bins: P.

    Returns:
        Cells, int64 ``(B, N, P, K)`` with K those of the largest bin (smaller ones repeat their last),
        and whether a bin has any, bool ``(B, N, P)``.
    """
    size = (high - low + 1).clamp(min=1) / bins  # (B, N)
    number = torch.arange(bins, device=low.device, dtype=low.dtype)
    begin = torch.floor(number * size[..., None]) + low[..., None]  # (B, N, P)
    end = torch.ceil((number + 1) * size[..., None]) + low[..., None]
    begin, end = begin.clamp(0, cells), end.clamp(0, cells)
    most = max(1, int((end - begin).max())) if begin.numel() else 1
    step = torch.arange(most, device=low.device, dtype=low.dtype)
    place = torch.minimum(begin[..., None] + step, end[..., None] - 1)
    return place.clamp(0, cells - 1).long(), end > begin
