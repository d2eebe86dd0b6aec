import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_trackers.boxes import xywh_to_xyxy
from lightning_trackers.metrics.functional import (
    centre_errors,
    normalized_centre_errors,
    normalized_precision_curve,
    overlaps,
    precision_curve,
    success_curve,
)

VECTORS = Path(__file__).parents[4] / "../shared/spec/metric_vectors.json"
needs_vectors = pytest.mark.skipif(not VECTORS.exists(), reason="../shared/spec is not there")


def vector(name):
    """A case of the official toolkits' outputs; null is NaN there."""
    cases = {case["id"]: case for case in json.loads(VECTORS.read_text())["cases"]}
    case = cases[name]
    arrays = {
        key: torch.tensor(np.array(value, dtype=float))
        for part in ("inputs", "outputs")
        for key, value in case[part].items()
        if isinstance(value, list)
    }
    return arrays, case["outputs"]


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def all_valid(count):
    return torch.ones(count, dtype=torch.bool)


def test_overlaps_and_errors_agree_with_hand_worked_frames():
    target = boxes([0, 0, 10, 20], [0, 0, 10, 20], [0, 0, 10, 20])
    # Replaced by the target; shifted by (3, 4); far away.
    pred = boxes([90, 90, 99, 99], [3, 4, 13, 24], [100, 0, 110, 20])
    sequence = (pred, target, all_valid(3))
    # 7 * 16 = 112 of 200 + 200 - 112 = 288 square px
    torch.testing.assert_close(overlaps(*sequence), torch.tensor([1, 112 / 288, 0]).double())
    torch.testing.assert_close(centre_errors(*sequence), torch.tensor([0.0, 5, 100]).double())
    # (3 / 10, 4 / 20) has length sqrt(0.09 + 0.04)
    expected = torch.tensor([0, 0.13**0.5, 10]).double()
    torch.testing.assert_close(normalized_centre_errors(*sequence), expected)


def test_curves_agree_with_hand_worked_frames():
    # Strictly greater: 0.5 passes 0 to 0.45 (10 of 21 thresholds), 1 passes 20, 0 and -1 none.
    curve = success_curve(torch.tensor([0.5, 1.0, 0.0, -1.0], dtype=torch.float64))
    assert curve.tolist() == [0.5] * 10 + [0.25] * 10 + [0.0]
    # At most: 20 passes from 20 on, -1 always, 50.5 never.
    curve = precision_curve(torch.tensor([20.0, -1.0, 50.5, 0.0], dtype=torch.float64))
    assert curve.tolist() == [0.5] * 20 + [0.75] * 31
    curve = normalized_precision_curve(torch.tensor([0.2, 0.501], dtype=torch.float64))
    assert curve.tolist() == [0.0] * 20 + [0.5] * 31


def test_a_perfect_tracker_scores_20_of_21():
    target = boxes(*[[i, 2 * i, i + 17.3, 2 * i + 31.7] for i in range(30)])
    sequence = (target.clone(), target, all_valid(30))
    assert success_curve(overlaps(*sequence)).mean().item() == pytest.approx(20 / 21, abs=1e-15)
    assert precision_curve(centre_errors(*sequence)).tolist() == [1.0] * 51
    assert normalized_precision_curve(normalized_centre_errors(*sequence)).tolist() == [1.0] * 51


def test_bad_predictions_repeat_the_box_before_them():
    nan, inf = float("nan"), float("inf")
    target = boxes(*[[0, 0, 10, 10]] * 7)
    pred = boxes(
        [5, 5, 5, 5],  # replaced by the target
        [nan, nan, nan, nan],  # repeats the target
        [1, 0, 11, 10],
        [3, 3, 3, 9],  # no width: repeats [1, 0, 11, 10]
        [9, 3, 2, 9],  # negative width: repeats it as well
        [0, nan, 10, 10],  # a NaN in part is not repaired, and never precise
        [0, 0, inf, 10],
    )
    expected = torch.tensor([0.0, 0, 1, 1, 1, nan, inf]).double()
    got = centre_errors(pred, target, all_valid(7))
    torch.testing.assert_close(got, expected, equal_nan=True)
    assert precision_curve(got)[-1] == 5 / 7
    assert success_curve(overlaps(pred, target, all_valid(7)))[0] == 5 / 7


def test_frames_without_valid_ground_truth_fail_overlap_and_pass_precision():
    nan = float("nan")
    target = boxes([0, 0, 10, 10], [nan, nan, nan, nan], [0, 0, 0, 0], [0, 0, 10, 10])
    valid = torch.tensor([True, False, False, True])
    sequence = (target, target, valid)
    assert overlaps(*sequence).tolist() == [1, -1, -1, 1]
    assert centre_errors(*sequence).tolist() == [0, -1, -1, 0]
    assert normalized_centre_errors(*sequence).tolist() == [0, -1, -1, 0]
    assert success_curve(overlaps(*sequence))[0] == 0.5  # they stay in the denominator
    assert precision_curve(centre_errors(*sequence))[0] == 1.0


def test_a_common_shift_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 40, 2, generator=generator, dtype=torch.float64) * 50
    sizes = torch.rand(2, 40, 2, generator=generator, dtype=torch.float64) * 40 + 1
    pred, target = torch.cat([corners, corners + sizes], dim=2)
    for function in (overlaps, centre_errors, normalized_centre_errors):
        torch.testing.assert_close(
            function(pred + 31.5, target + 31.5, all_valid(40)),
            function(pred, target, all_valid(40)),
        )


def test_one_frame_is_a_sequence_and_inputs_stay():
    target, pred = boxes([0, 0, 10, 10]), boxes([3, 3, 4, 4])
    assert overlaps(pred, target, all_valid(1)).tolist() == [1.0]
    assert pred.tolist() == [[3, 3, 4, 4]]


@pytest.mark.parametrize("function", [overlaps, centre_errors, normalized_centre_errors])
def test_float32_boxes_are_scored_in_float64(function):
    target = boxes([0, 0, 10, 10], [0, 0, 3, 3]).float()
    pred = target + torch.tensor([0.1, 0.2, 0.3, 0.4])
    sequence = pred, target, all_valid(2)
    assert function(*sequence).dtype == torch.float64
    torch.testing.assert_close(function(*sequence), function(pred.double(), target, sequence[2]))


@pytest.mark.parametrize("function", [overlaps, centre_errors, normalized_centre_errors])
@pytest.mark.parametrize(
    ("pred", "target", "valid", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(4, 4), all_valid(4), r"shape of the .* \(4, 4\), got \(3,"),
        (torch.zeros(3, 5), torch.zeros(3, 5), all_valid(3), r"boxes: expected a last axis of 4"),
        (torch.zeros(0, 4), torch.zeros(0, 4), all_valid(0), r"T >= 1, got \(0, 4\)"),
        (torch.zeros(3, 4), torch.zeros(3, 4), all_valid(2), r"valid: expected 3 booleans"),
        (torch.zeros(3, 4), torch.zeros(3, 4), torch.ones(3), r"booleans, got torch.float32"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(function, pred, target, valid, message):
    with pytest.raises(ValueError, match=message):
        function(pred, target, valid)


@needs_vectors
@pytest.mark.parametrize("case", ["plain", "nonpositive-gt", "NaN"])
def test_curves_agree_with_the_otb_toolkit(case):
    arrays, scores = vector(f"otb-calcSeqErrRobust-{case}-0")
    annotation, results = arrays["rect_anno"], arrays["results"]
    valid = (annotation > 0).all(dim=1)
    sequence = (xywh_to_xyxy(results), xywh_to_xyxy(annotation), valid)
    frame_overlaps, frame_errors = overlaps(*sequence), centre_errors(*sequence)
    # A prediction that is NaN only in part is repaired here and not there (module docstring).
    partly = results.isnan().any(dim=1) & ~results.isnan().all(dim=1)
    assert partly.sum() == (1 if case == "NaN" else 0)
    expected_overlaps, expected_errors = arrays["errCoverage"], arrays["errCenter"]
    for got, expected in (
        (frame_overlaps, expected_overlaps),
        (frame_errors, expected_errors),
    ):
        torch.testing.assert_close(got[~partly], expected[~partly], rtol=0, atol=1e-9)
    if not partly.any():
        expected = arrays["success_curve"], arrays["precision_curve"]
        torch.testing.assert_close(success_curve(frame_overlaps), expected[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(precision_curve(frame_errors), expected[1], rtol=0, atol=1e-9)
        assert success_curve(frame_overlaps).mean().item() == pytest.approx(scores["success_score"])
        assert precision_curve(frame_errors)[20].item() == pytest.approx(scores["precision_score"])


@needs_vectors
def test_curves_agree_with_the_got10k_toolkit_where_all_frames_are_valid():
    arrays, _ = vector("got10k-OTB-curves-0")
    sequence = (xywh_to_xyxy(arrays["boxes"]), xywh_to_xyxy(arrays["anno"]))
    sequence = (*sequence, all_valid(len(sequence[0])))
    # 1e-9: that toolkit adds 2e-16 to the union.
    expected = {key: arrays[key] for key in arrays if key not in ("boxes", "anno")}
    got = {"ious": overlaps(*sequence), "center_errors": centre_errors(*sequence)}
    got["success_curve"] = success_curve(got["ious"])
    got["precision_curve"] = precision_curve(got["center_errors"])
    assert got.keys() == expected.keys()
    for key, values in got.items():
        torch.testing.assert_close(values, expected[key], rtol=0, atol=1e-9)


@needs_vectors
@pytest.mark.parametrize(
    ("case", "errors", "curve"),
    [
        ("pixel", centre_errors, precision_curve),
        ("norm", normalized_centre_errors, normalized_precision_curve),
    ],
)
def test_errors_agree_with_the_lasot_toolkit_in_visible_frames(case, errors, curve):
    # That toolkit drops absent frames first and still divides by all frames.
    arrays, scores = vector(f"lasot-{case}-0")
    visible = arrays["absent"] == 0
    annotation, results = arrays["rect_anno"][visible], arrays["results"][visible]
    valid = (annotation > 0).all(dim=1)
    sequence = (xywh_to_xyxy(results), xywh_to_xyxy(annotation), valid)
    got = {"errCoverage": overlaps(*sequence), "err_center": errors(*sequence)}
    for key, values in got.items():
        torch.testing.assert_close(values, arrays[key], rtol=0, atol=1e-9)
    share = visible.double().mean()
    assert share < 1
    expected = arrays["precision_curve"]
    torch.testing.assert_close(curve(got["err_center"]) * share, expected, rtol=0, atol=1e-9)
    score = success_curve(got["errCoverage"]).mean() * share
    assert score.item() == pytest.approx(scores["success_score"], abs=1e-9)
