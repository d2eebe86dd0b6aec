import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_trackers.boxes import xywh_to_xyxy
from lightning_trackers.metrics import AverageOverlap
from lightning_trackers.metrics.functional.average_overlap import bounded_overlaps, overlap_counts

VECTORS = Path(__file__).parents[3] / "../shared/spec/metric_vectors.json"
needs_vectors = pytest.mark.skipif(not VECTORS.exists(), reason="../shared/spec is not there")
ONE_BASED = np.array([1.0, 1, 0, 0])


def case_of(name):
    return next(c for c in json.loads(VECTORS.read_text())["cases"] if c["id"] == name)


def xywh(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def project_boxes(rows):
    """Boxes of a file as the project holds them."""
    return torch.from_numpy(xywh_to_xyxy(np.array(rows, dtype=float) - ONE_BASED))


def test_boxes_are_moved_inside_at_the_left_and_cut_at_the_right():
    image_wh = torch.tensor([100, 50])
    # -10 moves to 0 and keeps its 40 px: 40 x 20 of the 40 x 20 at 0. At the right 90 + 40 is cut
    # to 10 px: 200 of 800 square px.
    pred = xywh([-10, 0, 40, 20], [90, 0, 40, 20])
    target = xywh([0, 0, 40, 20], [60, 0, 40, 20])
    assert bounded_overlaps(pred, target, image_wh).tolist() == pytest.approx([1, 200 / 800])
    # Outside altogether: no area, and no division by zero.
    outside = xywh([120, 10, 5, 5])
    assert bounded_overlaps(outside, outside, image_wh).tolist() == [0.0]
    assert pred.tolist() == [[-10, 0, 40, 20], [90, 0, 40, 20]]


def test_counts_are_strict():
    counts = overlap_counts(torch.tensor([0.5, 0.75, 0.0, 1.0], dtype=torch.float64))
    assert counts[[0, 49, 50, 74, 75, 99, 100]].tolist() == [3, 3, 2, 2, 1, 1, 0]


@needs_vectors
@pytest.mark.parametrize("case", ["random", "special", "bound"])
def test_overlaps_agree_with_the_toolkit(case):
    found = case_of(f"got10k-rect_iou-{case}-0")
    pred, target = (xywh(*found["inputs"][key]) for key in ("rects1", "rects2"))
    if case == "bound":
        got = bounded_overlaps(pred, target, torch.tensor(found["inputs"]["bound"]))
        expected = found["outputs"]["iou"]
    else:  # far away from every border, so nothing is clipped
        inside = (pred[:, 2:] >= 0).all(dim=1) & (target[:, 2:] >= 0).all(dim=1)
        inside &= (pred[:, :2] >= 0).all(dim=1) & (target[:, :2] >= 0).all(dim=1)
        assert inside.sum() > 9
        got = bounded_overlaps(pred, target, torch.tensor([10_000, 10_000]))[inside]
        expected = np.array(found["outputs"])[inside]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


@needs_vectors
def test_a_report_agrees_with_the_toolkit():
    case = case_of("got10k-GOT10k-report-0")
    overall = AverageOverlap()
    for name, sequence in case["inputs"].items():
        width, height = sequence["resolution"]
        target = project_boxes(sequence["anno"])
        valid = torch.tensor(sequence["cover"]) > 0
        alone = AverageOverlap()
        for boxes in sequence["boxes"]:  # repetitions
            alone.update(project_boxes(boxes), target, valid, (height, width))
            overall.update(project_boxes(boxes), target, valid, (height, width))
        expected = case["outputs"]["seq_wise"][name]
        assert alone.compute()["average_overlap"].item() == pytest.approx(expected["ao"], abs=1e-9)
        assert alone.compute()["success_rate_50"].item() == pytest.approx(expected["sr"], abs=1e-9)
    expected, got = case["outputs"]["overall"], overall.compute()
    assert got["average_overlap"].item() == pytest.approx(expected["ao"], abs=1e-9)
    assert got["success_rate_50"].item() == pytest.approx(expected["sr"], abs=1e-9)
    np.testing.assert_allclose(got["success_curve"], expected["succ_curve"], rtol=0, atol=1e-9)


@needs_vectors
def test_scores_of_given_overlaps_agree_with_the_toolkit():
    case = case_of("got10k-GOT10k-evaluate-0")
    overlaps = torch.tensor(case["inputs"]["ious"], dtype=torch.float64)
    curve = overlap_counts(overlaps).double() / len(overlaps)
    np.testing.assert_allclose(curve, case["outputs"]["succ_curve"], rtol=0, atol=1e-9)
    assert curve[50].item() == case["outputs"]["sr"]
    assert curve[75].item() == case["outputs"]["sr075"]


def test_the_first_frame_and_hidden_targets_do_not_count():
    target = project_boxes([[10, 10, 20, 20]] * 4)
    pred = target.clone()
    pred[0] += 500
    pred[1] += 500
    pred[3, 2] -= 10  # half of the target
    metric = AverageOverlap()
    metric.update(pred, target, torch.tensor([True, False, True, True]), (100, 100))
    scores = metric.compute()
    assert scores["average_overlap"].item() == pytest.approx((1 + 0.5) / 2)
    assert scores["success_rate_50"] == scores["success_rate_75"] == 0.5


def test_long_sequences_weigh_more_and_ranks_add_up():
    target = project_boxes([[10, 10, 20, 20]] * 31)
    perfect, valid = target.clone(), torch.ones(31, dtype=torch.bool)
    whole, ranks = AverageOverlap(), [AverageOverlap(), AverageOverlap()]
    for metric in (whole, ranks[0]):
        metric.update(perfect, target, valid, (100, 100))  # 30 frames that count
    for metric in (whole, ranks[1]):
        metric.update(target[:11] + 50, target[:11], valid[:11], (100, 100))  # 10 frames
    merged = AverageOverlap()
    merged.update(perfect, target, valid, (100, 100))  # only to count as updated
    for state, reduction in merged._reductions.items():
        setattr(merged, state, reduction(torch.stack([getattr(r, state) for r in ranks])))
    assert whole.compute()["average_overlap"].item() == pytest.approx(0.75)
    torch.testing.assert_close(merged.compute(), whole.compute())


@pytest.mark.parametrize(
    ("pred", "valid", "message"),
    [
        (torch.zeros(2, 4), torch.ones(3, dtype=torch.bool), r"got \(2, 4\) and \(3, 4\)"),
        (torch.zeros(3, 4), torch.ones(3), r"valid: expected 3 booleans, got torch.float32"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(pred, valid, message):
    with pytest.raises(ValueError, match=message):
        AverageOverlap().update(pred, torch.zeros(3, 4), valid, (10, 10))
