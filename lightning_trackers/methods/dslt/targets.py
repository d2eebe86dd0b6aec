"""What a target's size fixes: the kernel of its regression and its soft label.

Source: Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Sections 3.1 and 5.1.
"""

import numpy as np
import torch
from torch import Tensor


def kernel_size(target_wh: tuple[float, float], stride: int, ratio: float = 1.0) -> tuple[int, int]:
    """Return the height and width of the regression's convolution, cells, odd.

    Odd, so that the response at a cell is that of a target whose centre lies there.

    Source: Section 3.1: the size "is either fixed or proportional"; released code: the target's size
        in cells.

    Args:
        target_wh: Size of the target in the crop, px.
        stride: Px of the crop per cell.
        ratio: Size of the kernel relative to the target.
    """
    width, height = (max(1, 2 * round((ratio * side / stride - 1) / 2) + 1) for side in target_wh)
    return height, width


def gaussian_label(
    cells_hw: tuple[int, int],
    centre_xy: tuple[float, float],
    target_wh: tuple[float, float],
    width: float = 0.1,
) -> Tensor:
    """Return the soft label Y: 1 at the target's centre, Gaussian with distance.

    Source: Section 5.1, "a kernel width proportional to (0.1) the target size".

    Args:
        cells_hw: Height and width of the response map, cells.
        centre_xy: The target's centre against the middle of the map, cells.
        target_wh: Its size, cells.
        width: Standard deviation relative to the target's size.

    Returns:
        Labels in [0, 1], float32 ``(H, W)``.
    """
    columns, rows = (
        np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2 - c) / max(width * side, 1e-6)) ** 2)
        for n, c, side in zip(cells_hw[::-1], centre_xy, target_wh, strict=True)
    )
    return torch.from_numpy(np.outer(rows, columns).astype(np.float32))
