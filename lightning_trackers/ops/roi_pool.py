"""RoI max pooling, as a search for the largest cell of every bin."""

from typing import NamedTuple, Self

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
    x1, x2, power_x, full_x = _bins(low[..., 0], high[..., 0], width, output_size)
    y1, y2, power_y, full_y = _bins(low[..., 1], high[..., 1], height, output_size)
    maps = features.permute(0, 2, 3, 1)  # (B, H, W, C): what is looked up lies side by side
    first = torch.arange(batch, device=features.device)[:, None, None] * (height * width)
    corners = torch.stack(
        [(first + y * width)[..., :, None] + x[..., None, :] for y in (y1, y2) for x in (x1, x2)]
    ).flatten(1)  # (4, B * N * P * P), cells of the table below
    # The search itself has no slope; what it finds is looked up below.
    with torch.no_grad():
        best = maps.new_zeros(corners.shape[1], channels)
        learns = features.requires_grad
        found = corners.new_zeros(best.shape) if learns else None
        column = _Largest.of_cells(maps, learns)
        for j in range(int(power_y.max()) + 1 if power_y.numel() else 0):
            column = column if j == 0 else column.doubled(1, 2 ** (j - 1))
            largest = column
            for i in range(int(power_x.max()) + 1):
                largest = largest if i == 0 else largest.doubled(2, 2 ** (i - 1))
                own = (power_y == j)[..., :, None] & (power_x == i)[..., None, :]  # (B, N, P, P)
                bins = own.flatten().nonzero().flatten()
                if len(bins):
                    best[bins], where = largest.of_corners(corners[:, bins])
                    if found is not None and where is not None:
                        found[bins] = where
    if found is not None:
        best = maps.reshape(-1, channels).gather(0, found)
    pooled = best.view(batch, boxes, output_size, output_size, channels)
    full = full_y[..., :, None] & full_x[..., None, :]  # (B, N, P, P)
    return (pooled * full[..., None]).permute(0, 1, 4, 2, 3)  # (B, N, C, P, P)


class _Largest(NamedTuple):
    """The largest of the rectangle that begins at each cell, one size for all of them.

    Rectangles of 2^j × 2^i cells: the largest of any other one is that of four such, which overlap,
    one in each of its corners. So a bin costs four lookups, however many cells it has.

    Args:
        values: Largest values, shape ``(B, H, W, C)``.
        cells: Where they are, as rows of the cells of all maps, int32 of the same shape; None where
            nobody asks.
    """

    values: Tensor
    cells: Tensor | None

    @classmethod
    def of_cells(cls, maps: Tensor, with_cells: bool) -> Self:
        """Return rectangles of one cell."""
        if not with_cells:
            return cls(maps, None)
        count = maps[..., 0].numel()
        cells = torch.arange(count, dtype=torch.int32, device=maps.device)
        return cls(maps, cells.view(*maps.shape[:3], 1).expand_as(maps))

    def doubled(self, axis: int, step: int) -> Self:
        """Return rectangles twice as long along an axis, where they are ``step`` cells long."""
        rest = self.values.shape[axis] - step  # the last ones have no room and stay as they are

        def halves(table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return (
                table.narrow(axis, 0, rest),
                table.narrow(axis, step, rest),
                table.narrow(axis, rest, step),
            )

        near, far, last = halves(self.values)
        values = torch.cat([torch.maximum(near, far), last], axis)
        if self.cells is None:
            return self._replace(values=values)
        near_cells, far_cells, last_cells = halves(self.cells)
        cells = torch.cat([torch.where(far > near, far_cells, near_cells), last_cells], axis)
        return self._replace(values=values, cells=cells)

    def of_corners(self, corners: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the largest of the rectangles that begin at any of ``corners`` ``(4, M)``.

        Returns:
            Values, shape ``(M, C)``, and their cells, int64, if they are known.
        """
        channels = self.values.shape[-1]
        values, places = self.values.reshape(-1, channels)[corners].max(0)  # (M, C)
        if self.cells is None:
            return values, None
        cells = self.cells.reshape(-1, channels)[corners]  # (4, M, C)
        return values, cells.gather(0, places[None])[0].long()


def _bins(low: Tensor, high: Tensor, cells: int, bins: int) -> tuple[Tensor, ...]:
    """Return where two runs of 2^i cells lie that cover a bin along one axis.

    Args:
        low: First cell of each box, shape ``(B, N)``.
        high: Last cell of each box.
        cells: Cells of the map, L.
        bins: P.

    Returns:
        First cells of both runs, i, and whether the bin has any cell, each of shape ``(B, N, P)``.
    """
    size = (high - low + 1).clamp(min=1) / bins  # (B, N)
    number = torch.arange(bins, device=low.device, dtype=low.dtype)
    begin = torch.floor(number * size[..., None]) + low[..., None]  # (B, N, P)
    end = torch.ceil((number + 1) * size[..., None]) + low[..., None]
    begin, end = begin.clamp(0, cells), end.clamp(0, cells)
    full = end > begin
    begin, length = begin.clamp(max=cells - 1).long(), (end - begin).clamp(min=1).long()
    power = torch.frexp(length.double())[1] - 1  # of the largest run that is not longer
    return begin, begin + length - 2**power, power, full
