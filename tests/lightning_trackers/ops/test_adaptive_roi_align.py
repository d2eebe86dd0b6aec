from itertools import product
from math import floor

import pytest
import torch

from lightning_trackers.ops import adaptive_roi_align, roi_align

FEATURES = torch.randn(2, 3, 9, 12, generator=torch.Generator().manual_seed(0)).double()
BOXES = torch.tensor(
    [
        [[8.0, 16, 40, 60], [-30, -20, 20, 30], [3, 4, 5, 7], [0, 30, 96, 40]],
        [[0, 0, 96, 72], [50, 10, 53, 70], [90, 60, 140, 100], [10, 8, 80, 70]],
    ]
).double()  # inside, over the border, smaller than a cell, wide and low, all of it, high and narrow


def reference(features, boxes, size, scale):
    """Every value as a sum over all cells of a map that goes on beyond its border."""
    (b, c, height, width), n = features.shape, boxes.shape[1]
    out = torch.zeros(b, n, c, size, size, dtype=features.dtype)
    for i, j in product(range(b), range(n)):
        x1, y1, x2, y2 = (v * scale - 0.5 for v in boxes[i, j].tolist())
        bin_h, bin_w = (y2 - y1) / size, (x2 - x1) / size
        band_h, band_w = max(1, round(bin_h)), max(1, round(bin_w))
        for p, q in product(range(size), range(size)):
            y, x = y1 + (p + 0.5) * bin_h, x1 + (q + 0.5) * bin_w
            for row in range(floor(y) - band_h, floor(y) + band_h + 2):
                for column in range(floor(x) - band_w, floor(x) + band_w + 2):
                    tent_y = max(0.0, 1 - abs(y - row) / band_h) / band_h
                    tent_x = max(0.0, 1 - abs(x - column) / band_w) / band_w
                    r, k = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
                    out[i, j, :, p, q] += features[i, :, r, k] * (tent_y * tent_x)
    return out


def test_a_spike_by_hand():
    # A box of 4 cells in one bin has its value at 2.0, bandwidth 4. Cell 1 (centre 1.5) weighs
    # (1 - 0.5 / 4) / 4 = 0.21875 along an axis, where cells 0 to 3 alone do not make up 1.
    spike = torch.zeros(1, 1, 4, 4)
    spike[0, 0, 1, 1] = 1
    pooled = adaptive_roi_align(spike, torch.tensor([[[0.0, 0, 4, 4]]]), 1)
    assert pooled.item() == pytest.approx(0.21875**2)
    # Two bins of 2 cells, bandwidth 2: the first at 1.0 sees cell 1 with (1 - 0.5 / 2) / 2 = 0.375,
    # the second at 3.0 with (1 - 1.5 / 2) / 2 = 0.125.
    pooled = adaptive_roi_align(spike, torch.tensor([[[0.0, 0, 4, 4]]]), 2)[0, 0, 0]
    expected = torch.tensor([[0.375 * 0.375, 0.375 * 0.125], [0.375 * 0.125, 0.125 * 0.125]])
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_equals_a_loop_over_all_cells(size):
    pooled = adaptive_roi_align(FEATURES, BOXES, size, 1 / 8)
    assert pooled.shape == (2, 4, 3, size, size)
    torch.testing.assert_close(pooled, reference(FEATURES, BOXES, size, 1 / 8))


def test_of_small_boxes_it_is_roi_align_with_one_sample_a_bin():
    boxes = torch.tensor([[[10.0, 10, 40, 44], [30, 20, 60, 52]]] * 2).double()  # bins of 4 to 5 px
    found = adaptive_roi_align(FEATURES, boxes, 7, 1 / 8)
    torch.testing.assert_close(found, roi_align(FEATURES, boxes, 7, 1 / 8, sampling_ratio=1))


def test_of_a_large_box_every_cell_counts():
    # With bins of 4 cells RoIAlign's one sample a bin leaves half of the cells along an axis out.
    features = torch.zeros(1, 1, 28, 28, requires_grad=True)
    box = torch.tensor([[[0.0, 0, 28, 28]]])
    adaptive_roi_align(features, box, 7).sum().backward()
    assert (features.grad > 0).all()
    (plain,) = torch.autograd.grad(roi_align(features, box, 7, sampling_ratio=1).sum(), features)
    assert (plain == 0).float().mean() > 0.5


def test_flat_maps_stay_flat_and_ramps_give_the_bins_centres():
    ones = torch.full((2, 1, 9, 12), 3.0, dtype=torch.double)
    torch.testing.assert_close(
        adaptive_roi_align(ones, BOXES, 5, 1 / 8), torch.full((2, 4, 1, 5, 5), 3.0).double()
    )
    # Of a ramp, far enough from the border, whatever the bandwidth.
    ramp = torch.arange(60.0).expand(1, 1, 60, 60) + 0.5  # at its centre a cell has its place
    for side in (3.0, 10.0, 17.0, 28.0):
        low = 30 - side / 2
        pooled = adaptive_roi_align(ramp, torch.tensor([[[low, low, low + side, low + side]]]), 7)
        centres = low + (torch.arange(7) + 0.5) * side / 7
        torch.testing.assert_close(pooled[0, 0, 0], centres.expand(7, 7))


def test_moving_map_and_boxes_by_whole_cells_changes_nothing():
    # The middle of a larger map, boxes inside.
    wide = torch.randn(1, 2, 30, 30, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[[8.0, 9, 19, 20], [10, 10, 13, 24]]])
    moved = adaptive_roi_align(wide.roll((3, 2), (2, 3)), boxes + torch.tensor([2.0, 3, 2, 3]), 7)
    torch.testing.assert_close(moved, adaptive_roi_align(wide, boxes, 7))


def test_slopes_in_features_and_boxes_are_those_of_differences():
    features = FEATURES[:, :2, :5, :5].clone().requires_grad_()
    # No value lies on a cell's centre, where the kernel has a kink.
    boxes = torch.tensor([[[3.1, 7.3, 19.7, 30.9]], [[1.7, 2.9, 39.1, 36.1]]]).double()
    boxes.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f, b: adaptive_roi_align(f, b, 3, 1 / 8), (features, boxes)
    )


def test_no_boxes_and_inputs_unchanged():
    assert adaptive_roi_align(FEATURES, BOXES[:, :0], 7).shape == (2, 0, 3, 7, 7)
    features, boxes = FEATURES.clone(), BOXES.clone()
    adaptive_roi_align(features, boxes, 7, 1 / 8)
    assert torch.equal(features, FEATURES)
    assert torch.equal(boxes, BOXES)


def test_boxes_of_another_batch_are_refused():
    with pytest.raises(ValueError, match=r"expected boxes of shape \(2, N, 4\), got \(1, 4, 4\)"):
        adaptive_roi_align(FEATURES, BOXES[:1], 5)
