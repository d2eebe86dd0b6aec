from itertools import product
from math import ceil, floor

import pytest
import torch

from lightning_trackers.ops import roi_align

FEATURES = torch.randn(2, 3, 9, 12, generator=torch.Generator().manual_seed(0)).double()
BOXES = torch.tensor(
    [
        [[8.0, 16, 40, 60], [-30, -20, 20, 30], [3, 4, 5, 7], [70, 50, 140, 100]],
        [[0, 0, 96, 72], [50, 10, 53, 70], [200, 200, 240, 230], [-9, -9, -3, -3]],
    ]
).double()  # inside, over each border, smaller than a cell, outside


def bilinear(image, y, x):
    """Value of ``image (H, W)`` at a place, by its four neighbours."""
    height, width = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = min(floor(y), height - 2), min(floor(x), width - 2)
    dy, dx = y - y0, x - x0
    upper = image[y0, x0] * (1 - dx) + image[y0, x0 + 1] * dx
    lower = image[y0 + 1, x0] * (1 - dx) + image[y0 + 1, x0 + 1] * dx
    return (upper * (1 - dy) + lower * dy).item()


def reference(features, boxes, size, scale, ratio):
    """Mask R-CNN's RoIAlign, sample by sample."""
    (b, c), n = features.shape[:2], boxes.shape[1]
    out = torch.zeros(b, n, c, size, size, dtype=features.dtype)
    for i, j in product(range(b), range(n)):
        x1, y1, x2, y2 = (v * scale - 0.5 for v in boxes[i, j].tolist())
        bin_h, bin_w = (y2 - y1) / size, (x2 - x1) / size
        count_y = ratio or ceil(bin_h)
        count_x = ratio or ceil(bin_w)
        for k, p, q in product(range(c), range(size), range(size)):
            total = 0.0
            for sy, sx in product(range(count_y), range(count_x)):
                y = y1 + (p + (sy + 0.5) / count_y) * bin_h
                x = x1 + (q + (sx + 0.5) / count_x) * bin_w
                total += bilinear(features[i, k], y, x)
            out[i, j, k, p, q] = total / (count_y * count_x)
    return out


def test_a_ramp_by_hand():
    # Cell i has its centre at i + 0.5: the box from 1 to 3 has bins around the cells 1 and 2.
    ramp = torch.arange(5.0).expand(1, 1, 5, 5)
    pooled = roi_align(ramp, torch.tensor([[[1.0, 1, 3, 3]]]), 2)
    torch.testing.assert_close(pooled[0, 0, 0], torch.tensor([[1.0, 2], [1, 2]]))
    # The same box at 8 px a cell.
    pooled = roi_align(ramp, torch.tensor([[[8.0, 8, 24, 24]]]), 2, spatial_scale=1 / 8)
    torch.testing.assert_close(pooled[0, 0, 0], torch.tensor([[1.0, 2], [1, 2]]))


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [1, 5])
def test_equals_a_loop_over_samples(size, ratio):
    pooled = roi_align(FEATURES, BOXES, size, 1 / 8, ratio)
    assert pooled.shape == (2, 4, 3, size, size)
    torch.testing.assert_close(pooled, reference(FEATURES, BOXES, size, 1 / 8, ratio))


def test_outside_is_0_and_the_border_is_continued_by_one_cell():
    ones = torch.ones(1, 1, 4, 4)
    boxes = torch.tensor([[[-9.0, 0, -5, 4], [-0.5, 0, 0, 4]]])
    pooled = roi_align(ones, boxes, 1)
    assert pooled.flatten().tolist() == [0, 1]


def test_slopes_in_features_and_boxes_are_those_of_differences():
    features = FEATURES[:, :2, :5, :5].clone().requires_grad_()
    boxes = (BOXES[:, :2] / 2 + 0.37).requires_grad_()
    assert torch.autograd.gradcheck(lambda f, b: roi_align(f, b, 3, 1 / 8, 2), (features, boxes))


def test_half_precision_keeps_its_type():
    pooled = roi_align(FEATURES.bfloat16(), BOXES.float(), 5, 1 / 8)
    assert pooled.dtype == torch.bfloat16
    expected = roi_align(FEATURES, BOXES, 5, 1 / 8)
    torch.testing.assert_close(pooled.double(), expected, atol=0.05, rtol=0.02)  # 8 bits


def test_boxes_of_another_batch_are_refused():
    with pytest.raises(ValueError, match=r"expected boxes of shape \(2, N, 4\), got \(1, 4, 4\)"):
        roi_align(FEATURES, BOXES[:1], 5)
    with pytest.raises(ValueError, match=r"got \(2, 4\)"):
        roi_align(FEATURES, BOXES[:, 0], 5)


def test_no_boxes():
    assert roi_align(FEATURES, BOXES[:, :0], 5, sampling_ratio=0).shape == (2, 0, 3, 5, 5)


@pytest.mark.parametrize("ratio", [0, 2])
def test_torchvision_agrees(ratio):
    ops = pytest.importorskip("torchvision.ops", reason="torchvision is not installed")
    expected = ops.roi_align(FEATURES, list(BOXES), 5, 1 / 8, ratio or -1, aligned=True)
    pooled = roi_align(FEATURES, BOXES, 5, 1 / 8, ratio)
    torch.testing.assert_close(pooled.flatten(0, 1), expected)
