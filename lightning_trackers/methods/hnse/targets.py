"""What each place of the response map should answer.

Source: Zhang and Zhang, Hard Negative Samples Emphasis Tracker without Anchors, MM 2020, Section 3.2,
Eq. 2-5.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class PointTargets(NamedTuple):
    """Targets of all places.

    Args:
        labels: 1 inside the target's box, 0 elsewhere; int8, shape ``(B, H, W)``.
        ltrb: Distances to the box's left, upper, right and lower side, px, shape ``(B, H, W, 4)``;
            they count where the label is 1.
        centerness: Centre-ness in [0, 1], 0 where the label is 0, shape ``(B, H, W)``.
    """

    labels: Tensor
    ltrb: Tensor
    centerness: Tensor


def map_origin(cells: int, stride: int, size: int) -> float:
    """Return where a map's first cell begins in its crop, px.

    A map that covers the whole crop begins at 0. One that lost cells on all sides alike, by
    convolutions without padding or by the correlation, lies in the crop's middle.
    """
    return (size - stride * cells) / 2


def grid_points(cells: int, stride: int, size: int) -> Tensor:
    """Return the places that a response map looks at, Eq. 2.

    Deviation: Eq. 2 maps cell x to ``floor(s / 2) + s x``, which is right for a map that covers the
    whole crop, and is what this function returns for one. The correlation's map of 25 × 25 cells covers
    the middle 200 of 255 px, so :func:`map_origin` is added.

    Args:
        cells: Side of the map, cells.
        stride: Px per cell.
        size: Side of the crop, px.

    Returns:
        Places (X, Y), crop px, shape ``(cells, cells, 2)``, first axis the row.
    """
    along = map_origin(cells, stride, size) + stride // 2 + stride * torch.arange(cells)  # (cells,)
    rows, columns = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([columns, rows], dim=-1)


def encode(points: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Return the distances from places to the sides of boxes, Eq. 3.

    Source: Eq. 3 is printed with ``r* = X + x1`` and ``b* = Y - y1``; distances to the right and lower
        side are ``x1 - X`` and ``y1 - Y``.

    Args:
        points: Places (X, Y), shape ``(..., 2)``, px.
        boxes_xyxy: Boxes, shape ``(..., 4)``, px.

    Returns:
        Distances l, t, r, b, shape ``(..., 4)``, px; negative on the far side of an edge.
    """
    return torch.cat([points - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points], dim=-1)


def decode(points: Tensor, ltrb: Tensor) -> Tensor:
    """Return the boxes of distances from places, ``boxes_xyxy``, shape ``(..., 4)``; undoes encode."""
    return torch.cat([points - ltrb[..., :2], points + ltrb[..., 2:]], dim=-1)


def centerness(ltrb: Tensor) -> Tensor:
    """Return how near the centre of a box a place lies, Eq. 4 and 5.

    Args:
        ltrb: Distances to the sides, shape ``(..., 4)``.

    Returns:
        1 at the centre, 0 on an edge and outside, shape ``(...)``.
    """
    left, top, right, bottom = ltrb.unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    inside = ltrb.amin(-1) > 0
    # Outside, a ratio may be negative or its divisor 0: replaced before the root is taken.
    product = torch.where(inside, across * down, torch.zeros_like(left))
    return product.sqrt()


def point_targets(points: Tensor, boxes_xyxy: Tensor, is_positive: Tensor) -> PointTargets:
    """Return labels, distances and centre-ness for a batch.

    Args:
        points: Places of the map, shape ``(H, W, 2)``, crop px.
        boxes_xyxy: Target in each search crop, shape ``(B, 4)``, crop px.
        is_positive: Whether it is the exemplar's, shape ``(B,)``; otherwise every place is negative.
    """
    ltrb = encode(points[None].expand(len(boxes_xyxy), -1, -1, -1), _spread(boxes_xyxy, points))
    inside = (ltrb.amin(-1) > 0) & is_positive[:, None, None]  # (B, H, W)
    return PointTargets(inside.to(torch.int8), ltrb, centerness(ltrb) * inside)


def _spread(boxes_xyxy: Tensor, points: Tensor) -> Tensor:
    height, width, _ = points.shape
    return boxes_xyxy[:, None, None].expand(-1, height, width, -1)  # (B, H, W, 4)
