"""Every test runs on numpy arrays and on tensors: the functions promise to treat both alike."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_trackers.boxes import (
    area_xyxy,
    clip_xyxy,
    cxcywh_to_xyxy,
    iou_xyxy,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)

VECTORS = Path(__file__).parents[2] / "../shared/spec/metric_vectors.json"

both_kinds = pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["numpy", "torch"])


def random_boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(-50, 200, (count, 2)), rng.uniform(1, 100, (count, 2))
    return np.concatenate([corner, corner + size], axis=1)


@both_kinds
def test_conversions_agree_with_hand_worked_boxes(kind):
    xywh = kind([[10.0, 20.0, 30.0, 40.0]])
    xyxy = kind([[10.0, 20.0, 40.0, 60.0]])
    cxcywh = kind([[25.0, 40.0, 30.0, 40.0]])
    np.testing.assert_array_equal(xywh_to_xyxy(xywh), xyxy)
    np.testing.assert_array_equal(xyxy_to_xywh(xyxy), xywh)
    np.testing.assert_array_equal(cxcywh_to_xyxy(cxcywh), xyxy)
    np.testing.assert_array_equal(xyxy_to_cxcywh(xyxy), cxcywh)


@both_kinds
@pytest.mark.parametrize(
    ("there", "back"), [(xyxy_to_xywh, xywh_to_xyxy), (xyxy_to_cxcywh, cxcywh_to_xyxy)]
)
def test_conversions_round_trip(kind, there, back):
    boxes = kind(random_boxes(100).reshape(4, 25, 4))
    # 1e-12: a few float64 roundings of numbers below 300.
    np.testing.assert_allclose(back(there(boxes)), boxes, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_keep_kind_and_precision_and_leave_their_input(dtype):
    boxes = random_boxes(5).astype(dtype)
    for function in (xywh_to_xyxy, xyxy_to_xywh, cxcywh_to_xyxy, xyxy_to_cxcywh, area_xyxy):
        for given in (boxes.copy(), torch.from_numpy(boxes.copy())):
            result = function(given)
            assert type(result) is type(given)
            assert result.dtype == given.dtype
            np.testing.assert_array_equal(given, boxes)


@both_kinds
def test_iou_agrees_with_hand_worked_overlaps(kind):
    a = kind([[0.0, 0.0, 10.0, 10.0]] * 7)
    b = kind(
        [
            [0.0, 0.0, 10.0, 10.0],  # the same: 1
            [5.0, 5.0, 15.0, 15.0],  # 25 / (100 + 100 - 25)
            [0.0, 0.0, 5.0, 10.0],  # contained half: 50 / 100
            [10.0, 0.0, 20.0, 10.0],  # touching: 0
            [30.0, 30.0, 40.0, 40.0],  # far: 0
            [5.0, 5.0, 5.0, 9.0],  # no width: 0
            [8.0, 8.0, 2.0, 2.0],  # inverted: no area, 0
        ]
    )
    expected = [1.0, 1 / 7, 0.5, 0.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(iou_xyxy(a, b), expected, rtol=0, atol=1e-7)


@both_kinds
def test_two_boxes_without_area_have_overlap_zero(kind):
    nothing = kind([5.0, 5.0, 5.0, 5.0])
    assert iou_xyxy(nothing, nothing) == 0


def test_iou_agrees_with_counting_pixels():
    # Boxes with whole-number edges cover whole pixels, so counting them is exact.
    rng = np.random.default_rng(1)
    for _ in range(50):
        masks, boxes = [], []
        for _ in range(2):
            (x1, x2), (y1, y2) = np.sort(rng.integers(0, 30, (2, 2)), axis=1)
            mask = np.zeros((30, 30), bool)
            mask[y1:y2, x1:x2] = True
            masks.append(mask)
            boxes.append(np.array([x1, y1, x2, y2], dtype=float))
        union = (masks[0] | masks[1]).sum()
        expected = (masks[0] & masks[1]).sum() / union if union else 0.0
        assert iou_xyxy(*boxes) == pytest.approx(expected, abs=1e-15)


@both_kinds
def test_iou_is_symmetric_and_ignores_a_common_shift(kind):
    a, b = kind(random_boxes(200, seed=2)), kind(random_boxes(200, seed=3))
    np.testing.assert_array_equal(iou_xyxy(a, b), iou_xyxy(b, a))
    np.testing.assert_allclose(iou_xyxy(a + 7.5, b + 7.5), iou_xyxy(a, b), rtol=0, atol=1e-12)


@both_kinds
def test_iou_broadcasts_to_all_pairs(kind):
    a, b = random_boxes(3, seed=4), random_boxes(5, seed=5)
    pairs = iou_xyxy(kind(a)[:, None], kind(b)[None])
    assert tuple(pairs.shape) == (3, 5)
    for i in range(3):
        for j in range(5):
            assert float(pairs[i, j]) == iou_xyxy(a[i], b[j])


@pytest.mark.skipif(not VECTORS.exists(), reason="../shared/spec is not there")
@pytest.mark.parametrize("case", ["random", "special"])
def test_iou_agrees_with_the_got10k_toolkit(case):
    cases = {c["id"]: c for c in json.loads(VECTORS.read_text())["cases"]}
    vector = cases[f"got10k-rect_iou-{case}-0"]
    a, b = (xywh_to_xyxy(np.array(vector["inputs"][f"rects{i}"])) for i in (1, 2))
    # 1e-9: the toolkit adds 2e-16 to the union.
    np.testing.assert_allclose(iou_xyxy(a, b), vector["outputs"], rtol=0, atol=1e-9)


@both_kinds
def test_clip_cuts_at_the_border(kind):
    boxes = kind([[-5.0, -5.0, 50.0, 40.0], [10.0, 10.0, 20.0, 20.0], [200.0, 0.0, 210.0, 5.0]])
    expected = [[0, 0, 50, 30], [10, 10, 20, 20], [100, 0, 100, 5]]
    clipped = clip_xyxy(boxes, (30, 100))  # height 30, width 100
    np.testing.assert_array_equal(clipped, expected)
    assert float(area_xyxy(clipped)[2]) == 0  # outside keeps no area


@both_kinds
def test_a_wrong_last_axis_is_refused(kind):
    with pytest.raises(ValueError, match=r"last axis of 4, got shape \(3, 5\)"):
        xywh_to_xyxy(kind(np.zeros((3, 5))))
