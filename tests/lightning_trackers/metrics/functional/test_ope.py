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
from lightning_trackers.metrics.functional.ope import (
    _thresholds_below,
    frame_errors,
    one_pass_curves,
    to_file_xywh,
)
from lightning_trackers.metrics.functional.ope_rules import RULES
from lightning_trackers.metrics.functional.speed import mean_rate_fps

_FAR = torch.tensor(1e9, dtype=torch.float64)
PYSOT_CURVES = ("success_overlap", "success_error", "norm_precision")
VECTORS = Path(__file__).parents[4] / "../shared/spec/metric_vectors.json"
needs_vectors = pytest.mark.skipif(not VECTORS.exists(), reason="../shared/spec is not there")


def raw_case(name):
    """A case of the official toolkits' outputs; null is NaN there."""
    return next(c for c in json.loads(VECTORS.read_text())["cases"] if c["id"] == name)


def vector(name):
    """The inputs of a case as tensors, and its outputs."""
    case = raw_case(name)
    inputs = case["inputs"]
    if "same_as" in inputs:
        inputs = raw_case(inputs["same_as"])["inputs"]
    lists = {key: value for key, value in inputs.items() if isinstance(value, list)}
    return {k: torch.tensor(np.array(v, dtype=float)) for k, v in lists.items()}, case["outputs"]


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


def counted(prefix, rule, names, *, target, pred, absent=None, hidden=0.0, atol=1e-9):
    """Score a case under a rule and compare everything that ``names`` maps to its outputs."""
    arrays, outputs = vector(prefix)
    boxes = arrays[target], arrays[pred]
    valid = (boxes[0] > 0).all(dim=1)
    gone = torch.zeros_like(valid) if absent is None else arrays[absent] == hidden
    options = {"absent": gone, "rule": rule}
    errors = frame_errors(boxes[1], boxes[0], valid, **options)
    curves = one_pass_curves(boxes[1], boxes[0], valid, **options)
    got = {f: getattr(curves, f)[0] for f in ("success", "precision", "normalized_precision")}
    got |= {f"{key} score": value[0] for key, value in curves.scores().items()}
    got |= {key: getattr(errors, key) for key in ("overlaps", "centre_errors")}
    got["normalized_centre_errors"] = errors.normalized_centre_errors
    for ours, theirs in names.items():
        expected = torch.tensor(np.array(outputs[theirs], dtype=float))
        values = got[ours]
        if values.shape != expected.shape:  # toolkits that drop frames report the others
            kept = errors.counted & ~gone if absent is not None else errors.counted
            values = values[kept]
        torch.testing.assert_close(values, expected, rtol=0, atol=atol, equal_nan=True)


@needs_vectors
@pytest.mark.parametrize("case", ["plain", "nonpositive-gt", "NaN"])
def test_the_otb_rule_agrees_with_the_matlab_toolkit(case):
    counted(
        f"otb-calcSeqErrRobust-{case}-0",
        "otb",
        {
            "overlaps": "errCoverage",
            "centre_errors": "errCenter",
            "success": "success_curve",
            "precision": "precision_curve",
            "success_auc score": "success_score",
            "precision_20px score": "precision_score",
        },
        target="rect_anno",
        pred="results",
    )


@needs_vectors
@pytest.mark.parametrize(
    ("case", "errors", "curve", "score"),
    [
        ("pixel", "centre_errors", "precision", "precision_20px"),
        ("norm", "normalized_centre_errors", "normalized_precision", "normalized_precision"),
    ],
)
def test_the_lasot_rule_agrees_with_the_matlab_toolkit(case, errors, curve, score):
    counted(
        f"lasot-{case}-0",
        "lasot",
        {
            "overlaps": "errCoverage",
            errors: "err_center",
            "success": "success_curve",
            curve: "precision_curve",
            "success_auc score": "success_score",
            f"{score} score": "precision_score",
        },
        target="rect_anno",
        pred="results",
        absent="absent",
        hidden=1,
    )


@needs_vectors
@pytest.mark.parametrize("case", ["0", "1"])
def test_the_trackingnet_rule_agrees_with_the_devkit(case):
    videos = list(raw_case(f"trackingnet-metrics-{case}-0")["inputs"].values())
    expected = raw_case(f"trackingnet-metrics-{case}-0")["outputs"]
    target, pred = (
        torch.tensor(np.concatenate([np.array(video[key], dtype=float) for video in videos]))
        for key in ("anno", "submission")
    )
    lengths = [len(video["anno"]) for video in videos]
    # As the project holds boxes: nothing is lost on the way to the file's xywh, ties included.
    target, pred = (to_file_xywh(xywh_to_xyxy(b), "trackingnet") for b in (target, pred))
    scores = one_pass_curves(
        pred, target, all_valid(len(target)), lengths=lengths, rule="trackingnet"
    ).scores()
    for ours, theirs in (
        ("success", "success"),
        ("precision", "precision"),
        ("normalized_precision", "normalized_precision"),
    ):
        assert 100 * scores[ours].mean().item() == pytest.approx(expected[theirs], abs=1e-9)


def test_trackingnet_rounds_half_to_even_and_passes_at_the_threshold():
    # The second pair rounds to 10 x 20 and 10 x 10 px: overlap 0.5, which passes 0 to 0.5. The area
    # under its curve is 10 trapezoids of height 1 and one of 0.5, of 20.
    target = boxes([10.5, 0, 10, 10], [0.3, 0, 10, 20.5])
    pred = boxes([10.5, 0, 10, 10], [0.3, 0, 10, 10.4])
    curves = one_pass_curves(pred, target, all_valid(2), rule="trackingnet")
    assert curves.success[0].tolist() == [1.0] * 11 + [0.5] * 10
    expected = 0.5 * (1 + 0.525)
    assert curves.scores()["success"].item() == pytest.approx(expected, abs=1e-12)


def test_a_width_comes_back_from_two_corners_to_the_last_digit():
    in_project = xywh_to_xyxy(boxes([30.6, 0, 33.5, 7]))
    assert in_project[0, 2] - in_project[0, 0] < 33.5  # and would round to 33, not to 34
    assert to_file_xywh(in_project, "trackingnet").round().tolist() == [[31, 0, 34, 7]]
    assert to_file_xywh(in_project, "otb").tolist() == [[31.6, 1, 33.5, 7]]


def test_a_bad_prediction_beside_unknown_ground_truth_is_kept_and_copied():
    # OTB's toolkit repairs only where the ground truth is known: frame 1 keeps its empty box, which
    # frame 2 then repeats, though the box of frame 0 would be right.
    nan = float("nan")
    target = boxes([5, 5, 10, 10], [nan, nan, nan, nan], [5, 5, 10, 10])
    pred = boxes([0, 0, 1, 1], [90, 5, 0, 10], [5, 5, 0, 0])
    errors = frame_errors(pred, target, torch.tensor([True, False, True]))
    assert errors.overlaps.tolist() == [1, -1, 0]
    assert errors.centre_errors[2] == 80.0


def test_no_box_is_carried_from_one_run_to_the_next():
    # The second run begins with an empty box (its ground truth), which its second frame repeats.
    target = boxes([5, 5, 10, 10], [70, 5, 0, 10], [50, 5, 20, 10])
    pred = boxes([5, 5, 10, 10], [70, 5, 9, 9], [0, 0, 0, 0])
    valid = torch.tensor([True, False, True])
    errors = frame_errors(pred, target, valid, lengths=[1, 2])
    assert errors.centre_errors.tolist() == [0, -1, 10]  # 70 beside 50 + 20 / 2


@needs_vectors
@pytest.mark.parametrize(
    ("case", "names"),
    [
        (
            "got10k-OTB-curves-0",
            {
                "overlaps": "ious",
                "centre_errors": "center_errors",
                "success_auc score": "success_score",
                "precision_20px score": "precision_score",
            },
        ),
        ("got10k-UAV123-NaN-0", {"overlaps": "ious", "success_auc score": "success_score"}),
        (
            "got10kgit-LaSOT-curves-0",
            {
                "normalized_precision": "norm_precision_curve",
                "normalized_precision score": "norm_precision_score",
                "success_auc score": "success_score",
            },
        ),
    ],
)
def test_the_got10k_rule_agrees_with_that_toolkit(case, names):
    names = {**names, "success": "success_curve", "precision": "precision_curve"}
    counted(case, "got10k", names, target="anno", pred="boxes")


@needs_vectors
def test_the_got10k_rule_agrees_with_a_whole_report():
    case = raw_case("got10k-OTB-report-0")
    columns = {
        key: [np.array(sequence[key], dtype=float) for sequence in case["inputs"].values()]
        for key in ("anno", "boxes", "times")
    }
    target, pred = (torch.tensor(np.concatenate(columns[key])) for key in ("anno", "boxes"))
    lengths = [len(b) for b in columns["boxes"]]
    curves = one_pass_curves(pred, target, all_valid(len(pred)), lengths=lengths, rule="got10k")
    scores = curves.scores()
    speeds = [mean_rate_fps(times) for times in columns["times"]]
    expected = case["outputs"]
    for row, sequence in enumerate(expected["seq_wise"].values()):
        assert curves.success[row].tolist() == pytest.approx(sequence["success_curve"], abs=1e-9)
        assert curves.precision[row].tolist() == pytest.approx(
            sequence["precision_curve"], abs=1e-9
        )
        assert scores["success_auc"][row].item() == pytest.approx(
            sequence["success_score"], abs=1e-9
        )
        assert curves.success[row, 10].item() == pytest.approx(sequence["success_rate"], abs=1e-9)
        assert speeds[row] == pytest.approx(sequence["speed_fps"], abs=1e-9)
    overall = expected["overall"]
    assert curves.success.mean(dim=0).tolist() == pytest.approx(overall["success_curve"], abs=1e-9)
    assert scores["precision_20px"].mean().item() == pytest.approx(
        overall["precision_score"], abs=1e-9
    )
    assert np.mean(speeds) == pytest.approx(overall["speed_fps"], abs=1e-9)


@needs_vectors
@pytest.mark.parametrize("case", ["success_overlap", "success_error", "norm_precision"])
def test_the_pysot_rule_agrees_with_its_curves(case):
    inputs = raw_case(f"pysot-{case}-0")
    expected = torch.tensor(inputs["outputs"], dtype=torch.float64)
    inputs = inputs["inputs"]
    inputs = raw_case(inputs["same_as"])["inputs"] if "same_as" in inputs else inputs
    target, pred = (
        torch.tensor(np.array(inputs[key], dtype=float)) for key in ("gt_bb", "result_bb")
    )
    curves = one_pass_curves(pred, target, all_valid(len(pred)), rule="pysot")
    every = (curves.success, curves.precision, curves.normalized_precision)
    curve = dict(zip(PYSOT_CURVES, every, strict=True))
    torch.testing.assert_close(curve[case][0], expected, rtol=0, atol=1e-9)


@needs_vectors
def test_the_pysot_rule_fails_absent_frames_and_passes_unknown_ones():
    nan_case = {"success": "success", "precision": "precision"}
    counted("pysot-success-NaN-0", "pysot", nan_case, target="gt_bb", pred="result_bb")
    case = raw_case("pysot-OPE-absent-0")
    columns = {
        key: [np.array(sequence[key], dtype=float) for sequence in case["inputs"].values()]
        for key in ("gt", "pred", "absent")
    }
    target, pred, visible = (torch.tensor(np.concatenate(c)) for c in columns.values())
    curves = one_pass_curves(
        pred,
        target,
        all_valid(len(pred)),
        absent=visible == 0,
        lengths=[len(b) for b in columns["gt"]],
        rule="pysot",
    )
    for ours, theirs in (
        (curves.success, "success"),
        (curves.precision, "precision"),
        (curves.normalized_precision, "norm_precision"),
    ):
        expected = torch.tensor(list(case["outputs"][theirs].values()), dtype=torch.float64)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


@needs_vectors
@pytest.mark.parametrize(
    ("case", "rule", "options"),
    [
        ("otb", "pytracking", {}),
        ("uav-NaN", "pytracking_uav", {}),
        ("lasot", "pytracking", {"absent": "target_visible"}),
    ],
)
def test_the_pytracking_rules_agree_with_its_analysis(case, rule, options):
    names = {
        "overlaps": "err_overlap",
        "centre_errors": "err_center",
        "normalized_centre_errors": "err_center_normalized",
        "success": "success_curve",
        "precision": "precision_curve",
        "normalized_precision": "norm_precision_curve",
    }
    # 2e-6: its curves are float32.
    counted(f"pytracking-{case}-0", rule, names, target="anno", pred="pred", atol=2e-6, **options)


def drawn(count, seed, bad=0.1):
    """Boxes with every kind of bad frame, ``xywh``."""
    rng = np.random.default_rng(seed)
    target = np.hstack([rng.uniform(5, 90, (count, 2)), rng.uniform(10, 60, (count, 2))])
    pred = target + rng.normal(0, 8, (count, 4))
    pred[rng.random(count) < bad] = [3, 3, 0, 9]
    pred[rng.random(count) < bad / 2] = np.nan
    target[rng.random(count) < bad] *= [-1, 1, 1, 1]
    absent = rng.random(count) < bad
    absent[0] = seed % 2  # LaSOT's rule starts at the first frame that shows the target
    target, pred = torch.from_numpy(target), torch.from_numpy(pred)
    return pred, target, (target > 0).all(dim=1), torch.from_numpy(absent)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_many_sequences_and_trackers_at_once_score_as_each_alone(rule):
    sequences = [drawn(count, seed) for seed, count in enumerate([40, 1, 17, 80])]
    pred, target, valid, absent = (torch.cat(column) for column in zip(*sequences, strict=True))
    other = torch.roll(pred, 1, dims=-2).nan_to_num(nan=4.0)
    together = one_pass_curves(
        torch.stack([pred, other]),
        target,
        valid,
        lengths=[40, 1, 17, 80],
        absent=absent,
        rule=rule,
    )
    assert together.success.shape[:2] == (2, 4)
    ends = np.cumsum([40, 1, 17, 80])
    for tracker, boxes_xywh in enumerate([pred, other]):
        for row, end in enumerate(ends):
            part = slice(end - [40, 1, 17, 80][row], end)
            alone = one_pass_curves(
                boxes_xywh[part], target[part], valid[part], absent=absent[part], rule=rule
            )
            for key, value in alone.scores().items():
                torch.testing.assert_close(together.scores()[key][tracker, row], value[0])
            torch.testing.assert_close(together.precision[tracker, row], alone.precision[0])


@pytest.mark.parametrize("or_at", [False, True])
@pytest.mark.parametrize("curve", ["success", "precision", "normalized_precision"])
@pytest.mark.parametrize("rule", ["otb", "trackingnet", "got10k", "pysot"])
def test_values_beside_a_threshold_fall_on_its_right_side(rule, curve, or_at):
    thresholds = torch.from_numpy(getattr(RULES[rule], curve).thresholds)
    beside = [thresholds, thresholds.nextafter(-_FAR), thresholds.nextafter(_FAR)]
    others = boxes(-1.0, -1e-300, 7.7, 1.7e308, -1.7e308)
    values = torch.cat([*beside, others, torch.linspace(0, 60, 997).double()])
    got = _thresholds_below(values, thresholds, or_at=or_at)
    assert torch.equal(got, torch.bucketize(values, thresholds, right=or_at))


def test_a_group_counts_the_frames_of_its_runs_alike():
    sequences = [drawn(count, 2 * seed) for seed, count in enumerate([30, 50, 20])]
    pred, target, valid, _ = (torch.cat(column) for column in zip(*sequences, strict=True))
    lengths = [30, 50, 20]
    apart = one_pass_curves(pred, target, valid, lengths=lengths).success
    pooled = one_pass_curves(pred, target, valid, lengths=lengths, groups=[0, 1, 0]).success
    torch.testing.assert_close(pooled[0], (30 * apart[0] + 20 * apart[2]) / 50)
    torch.testing.assert_close(pooled[1], apart[1])


def test_a_sequence_that_is_absent_throughout_scores_zero_under_the_lasot_rule():
    pred, target, valid, _ = drawn(8, 0)
    curves = one_pass_curves(pred, target, valid, absent=all_valid(8), rule="lasot")
    assert curves.success.sum() == curves.precision.sum() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "votb"}, r"rule: expected one of \['got10k'.*got 'votb'"),
        ({"lengths": [3, 4]}, r"lengths: expected .* 6 frames, got \[3, 4\] of sum 7"),
        ({"lengths": [6, 0]}, r"lengths: expected positive"),
        ({"lengths": [3, 3], "groups": [0]}, r"groups: expected one number per run, 2"),
        ({"absent": torch.zeros(6)}, r"absent: expected 6 booleans, got torch.float32"),
    ],
)
def test_what_does_not_belong_together_is_refused(options, message):
    pred, target, valid, _ = drawn(6, 0)
    with pytest.raises(ValueError, match=message):
        one_pass_curves(pred, target, valid, **options)
