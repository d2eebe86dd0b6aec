"""Which cells of the response map lie on the target.

Source: Bertinetto et al., Fully-Convolutional Siamese Networks, ECCVW 2016, Eq. 4.
"""

import torch
from torch import Tensor

from lightning_trackers.boxes import xyxy_to_cxcywh


def response_labels(
    boxes_xyxy: Tensor,
    is_positive: Tensor,
    *,
    cells: int,
    stride: int,
    search_size: int,
    radius: float,
) -> Tensor:
    """Label the cells within ``radius`` of the target's centre 1 and the others 0.

    Args:
        boxes_xyxy: Target in each search crop, shape ``(B, 4)``, crop px.
        is_positive: Whether it is the exemplar's, shape ``(B,)``; otherwise all labels are 0.
        cells: Side of the response map.
        stride: Px per cell.
        search_size: Side of the search crop, px.
        radius: Euclidean distance from the centre, crop px.

    Returns:
        Labels, int8, shape ``(B, cells, cells)``.
    """
    index = torch.arange(cells, device=boxes_xyxy.device)
    position = (index - (cells - 1) / 2) * stride + search_size / 2  # (cells,)
    centre = xyxy_to_cxcywh(boxes_xyxy)[:, :2]  # (B, 2)
    dx = position[None, None, :] - centre[:, 0, None, None]  # (B, 1, cells)
    dy = position[None, :, None] - centre[:, 1, None, None]  # (B, cells, 1)
    near = dx.square() + dy.square() <= radius**2  # (B, cells, cells)
    return (near & is_positive[:, None, None]).to(torch.int8)
