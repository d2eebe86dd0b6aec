"""Anchors on the response map, and the maps between box and offsets.

Source: Li et al., High Performance Visual Tracking with Siamese Region Proposal Network, CVPR 2018,
Section 3.2 and 3.3 (Eq. 5, 11, 12).
"""

from collections.abc import Sequence
from math import log, sqrt

import torch
from torch import Tensor


def anchor_sides(
    ratios: Sequence[float], scale: float, stride: int, whole_cells: bool = True
) -> list[tuple[float, float]]:
    """Return width and height of one anchor per ratio (height / width), px.

    Args:
        ratios: Height over width.
        scale: Side of the square anchor in strides.
        stride: Px per cell.
        whole_cells: Cut the unscaled sides to whole px, as the toolkit does from which the published
            weights come; otherwise all anchors have the area ``(scale * stride) ** 2``.
    """
    sides = []
    for ratio in ratios:
        width = stride / sqrt(ratio)
        if whole_cells:
            width = int(width)
            height: float = int(width * ratio)
        else:
            height = width * ratio
        sides.append((width * scale, height * scale))
    return sides


def grid_anchors(
    sides: Sequence[tuple[float, float]], cells: int, stride: int, search_size: int
) -> Tensor:
    """Return all anchors of a response map in search-crop px.

    The map's middle cell lies on the crop's centre and neighbours are ``stride`` px apart.

    Returns:
        ``anchors_cxcywh``, float32, shape ``(A, cells, cells, 4)``; the last two of the first three
        axes are row and column.
    """
    offsets = (torch.arange(cells) - (cells - 1) / 2) * stride + search_size / 2  # (cells,)
    anchors = torch.empty(len(sides), cells, cells, 4)
    anchors[..., 0] = offsets
    anchors[..., 1] = offsets[:, None]
    anchors[..., 2:] = torch.tensor(sides, dtype=torch.float32)[:, None, None]
    return anchors


def encode(boxes_cxcywh: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """Return the offsets that turn anchors into boxes, broadcast shape ``(..., 4)``."""
    centre = (boxes_cxcywh[..., :2] - anchors_cxcywh[..., :2]) / anchors_cxcywh[..., 2:]
    size = torch.log(boxes_cxcywh[..., 2:] / anchors_cxcywh[..., 2:])
    return torch.cat([centre, size], dim=-1)


def decode(box_deltas: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """Return the boxes that offsets make of anchors, ``boxes_cxcywh``, shape ``(..., 4)``.

    A side is at most 64 times the anchor's, so that the exponential of an untrained network's answer
    stays finite.
    """
    centre = box_deltas[..., :2] * anchors_cxcywh[..., 2:] + anchors_cxcywh[..., :2]
    size = torch.exp(box_deltas[..., 2:].clamp(max=log(64))) * anchors_cxcywh[..., 2:]
    return torch.cat([centre, size], dim=-1)
