from itertools import product
from math import ceil, floor

import pytest
import torch

from lightning_trackers.ops import roi_pool

FEATURES = torch.randn(2, 3, 9, 12, generator=torch.Generator().manual_seed(0)).double()
BOXES = torch.tensor(
    [
        [[8.0, 16, 40, 60], [-30, -20, 20, 30], [3, 4, 5, 7], [70, 50, 140, 100]],
        [[0, 0, 96, 72], [50, 10, 53, 70], [200, 200, 240, 230], [13.9, 4.1, 90.2, 61.7]],
    ]
).double()  # inside, over each border, smaller than a cell, outside, at fractions of cells


def reference(features, boxes, size, scale):
    """Caffe's ROIPooling layer, bin by bin and cell by cell."""
    (b, c, height, width), n = features.shape, boxes.shape[1]
    out = torch.zeros(b, n, c, size, size, dtype=features.dtype)
    for i, j in product(range(b), range(n)):
        x1, y1, x2, y2 = boxes[i, j].tolist()
        left, top = floor(x1 * scale + 0.5), floor(y1 * scale + 0.5)
        right, bottom = floor((x2 - 1) * scale + 0.5), floor((y2 - 1) * scale + 0.5)
        bin_w, bin_h = max(right - left + 1, 1) / size, max(bottom - top + 1, 1) / size
        for p, q in product(range(size), range(size)):
            ys = range(max(0, top + floor(p * bin_h)), min(height, top + ceil((p + 1) * bin_h)))
            xs = range(max(0, left + floor(q * bin_w)), min(width, left + ceil((q + 1) * bin_w)))
            cells = [features[i, :, y, x] for y, x in product(ys, xs)]
            if cells:
                out[i, j, :, p, q] = torch.stack(cells).amax(0)
    return out


@pytest.mark.parametrize("size", [1, 2, 4, 7])
@pytest.mark.parametrize("scale", [1 / 8, 1 / 4, 1.0])
def test_equals_a_loop_over_bins_and_cells(size, scale):
    expected = reference(FEATURES, BOXES, size, scale)
    torch.testing.assert_close(roi_pool(FEATURES, BOXES, size, scale), expected)
    # With a slope to follow, the same values come another way.
    pooled = roi_pool(FEATURES.clone().requires_grad_(), BOXES, size, scale)
    torch.testing.assert_close(pooled.detach(), expected)


def test_a_box_by_hand():
    # Cells 0 to 4 of a row, px 4 a cell: px 4 to 16 are the cells 1, 2, 3 (its last pixel is 15, and
    # 15 / 4 rounds to 4). The four cells 1 to 4 make two bins.
    row = torch.tensor([5.0, 1, 3, 2, 4]).view(1, 1, 1, 5)
    pooled = roi_pool(row, torch.tensor([[[4.0, 0, 16, 1]]]), 2, spatial_scale=1 / 4)
    assert pooled[0, 0, 0, 0].tolist() == [3.0, 4.0]


def test_slope_goes_to_the_largest_cell_of_each_bin():
    features = torch.tensor([[0.0, 7, 1, 2], [3, 4, 9, 5]]).view(1, 1, 2, 4).requires_grad_()
    # Two bins of two columns; the rows share both bins' rows: bin rows are cells 0 and 1.
    roi_pool(features, torch.tensor([[[0.0, 0, 4, 2]]]), 2).sum().backward()
    assert features.grad.view(2, 4).tolist() == [[0, 1, 0, 1], [0, 1, 1, 0]]


def test_gradient_is_right_by_differences():
    features = FEATURES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda f: roi_pool(f, BOXES, 3, 1 / 8), (features,))


def test_no_boxes_give_no_regions():
    assert roi_pool(FEATURES, BOXES[:, :0], 3).shape == (2, 0, 3, 3, 3)


def test_boxes_of_another_batch_are_refused():
    with pytest.raises(ValueError, match=r"expected boxes of shape \(2, N, 4\), got \(1, 4, 4\)"):
        roi_pool(FEATURES, BOXES[:1], 3)
