import pytest
import torch

from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.methods.hnse import HardNegativeSelection
from lightning_trackers.methods.hnse.emphasis import shifted_boxes

TARGET = torch.tensor([[100.0, 100, 150, 140]])
# Box, score; overlaps with the target by hand.
CANDIDATES = [
    ([100.0, 100, 148, 140], 0.90),  # 0.96: a positive
    ([100.0, 100, 147, 140], 0.80),  # 0.94, but the first one removes it
    ([125.0, 100, 175, 140], 0.95),  # 1 / 3: neither
    ([10.0, 10, 40, 40], 0.70),  # hard negative
    ([11.0, 10, 41, 40], 0.65),  # 29 / 31 of the one before, which removes it
    ([140.0, 130, 190, 170], 0.60),  # 100 / 3900: hard negative
    ([10.0, 200, 60, 240], 0.50),  # the third hard negative
    ([200.0, 10, 240, 40], 0.01),  # the fourth
]
BOXES = torch.tensor([[box for box, _ in CANDIDATES]])
SCORES = torch.tensor([[score for _, score in CANDIDATES]])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def select(**options):
    return HardNegativeSelection(**options)(BOXES, SCORES, TARGET, generator())


def test_selection_by_hand():
    rois = select(k=2)
    assert rois.labels.tolist() == [[1, 1, 0, 0, 1]]
    chosen = rois.boxes_xyxy[0].tolist()
    assert chosen[0] == CANDIDATES[0][0]
    assert chosen[2:] == [CANDIDATES[3][0], CANDIDATES[5][0], TARGET[0].tolist()]
    # The second positive is a shifted ground truth: of its size, elsewhere, and still a positive.
    shifted = rois.boxes_xyxy[0, 1]
    assert (shifted[2:] - shifted[:2]).tolist() == pytest.approx([50, 40], abs=1e-4)
    assert not torch.equal(shifted, TARGET[0])
    assert iou_xyxy(shifted, TARGET[0]) > 0.8


@pytest.mark.parametrize(("k", "rois"), [(2, 5), (5, 11), (10, 21), (15, 31)])
def test_rois_are_k_and_k_and_1(k, rois):
    boxes = BOXES.repeat(1, 4, 1)
    found = HardNegativeSelection(k=k)(boxes, SCORES.repeat(1, 4), TARGET, generator())
    assert found.boxes_xyxy.shape == (1, rois, 4)
    assert (found.labels[0, :k] == 1).all()
    assert found.labels[0, -1] == 1


def test_missing_hard_negatives_are_not_counted():
    labels = select(k=5).labels[0]
    assert labels.tolist() == [1] * 5 + [0] * 4 + [-1] + [1]


def test_only_the_best_places_are_candidates():
    labels = select(k=5, candidates=6).labels[0]
    assert (labels == 0).sum() == 2


def test_thresholds_and_suppression_matter():
    assert (select(k=5, nms_iou=0.99).labels == 0).sum() == 5  # the near copy stays
    assert (select(k=5, negative_iou=0.01).labels == 0).sum() == 3  # without the one that touches
    assert select(k=1, positive_iou=0.97).boxes_xyxy[0, 0].tolist() != CANDIDATES[0][0]


def test_each_search_region_is_selected_alone():
    boxes = torch.cat([BOXES, BOXES.flip(1) + 3])
    scores = torch.cat([SCORES, SCORES.flip(1)])
    targets = torch.cat([TARGET, TARGET + 3])
    both = HardNegativeSelection(k=2)(boxes, scores, targets, generator())
    assert both.labels.tolist() == [[1, 1, 0, 0, 1]] * 2
    torch.testing.assert_close(both.boxes_xyxy[1, 2:], both.boxes_xyxy[0, 2:] + 3)


def test_selection_depends_on_the_generator_alone_and_learns_nothing():
    boxes = BOXES.clone().requires_grad_()
    first = HardNegativeSelection(k=2)(boxes, SCORES, TARGET, generator(1))
    again = HardNegativeSelection(k=2)(boxes, SCORES, TARGET, generator(1))
    other = HardNegativeSelection(k=2)(boxes, SCORES, TARGET, generator(2))
    assert torch.equal(first.boxes_xyxy, again.boxes_xyxy)
    assert not torch.equal(first.boxes_xyxy, other.boxes_xyxy)
    assert not first.boxes_xyxy.requires_grad


@pytest.mark.parametrize("least", [0.5, 0.8])
def test_shifted_boxes_fill_the_overlaps_from_the_least_to_1(least):
    boxes = torch.tensor([[10.0, 20, 110, 60], [-5, -5, 5, 30]])
    shifted = shifted_boxes(boxes, 4000, least, generator())
    overlaps = iou_xyxy(shifted, boxes[:, None])
    assert overlaps.min() > least - 1e-4
    assert overlaps.min() < least + 0.02
    assert overlaps.max() > 0.97
    size = boxes[:, None, 2:] - boxes[:, None, :2]
    torch.testing.assert_close(shifted[..., 2:] - shifted[..., :2], size.expand(2, 4000, 2))
    # Relative shifts: to both sides and alike along the two axes.
    shifts = (shifted[..., :2] - boxes[:, None, :2]) / size
    assert shifts.mean((0, 1)).abs().max() < 0.01
    spread = shifts.std((0, 1))
    assert spread[0] / spread[1] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "1 <= k <= candidates, got 0 and 100"),
        ({"k": 9, "candidates": 8}, "got 9 and 8"),
        ({"negative_iou": 0.9}, "got 0.9, 0.8 and 0.7"),
        ({"nms_iou": 0.0}, "got 0.3, 0.8 and 0.0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        HardNegativeSelection(**options)


def test_too_few_places_are_refused():
    with pytest.raises(ValueError, match="expected 9 places or more, got 8"):
        select(k=9)
