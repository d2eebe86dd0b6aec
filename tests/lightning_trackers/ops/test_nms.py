import pytest
import torch

from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.ops import nms


def greedy(boxes, scores, threshold):
    """The definition, one box after another."""
    stays = [False] * len(boxes)
    left = sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i))
    while left:
        best, *left = left
        stays[best] = True
        left = [i for i in left if iou_xyxy(boxes[best], boxes[i]) <= threshold]
    return torch.tensor(stays)


def crowd(sets, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(sets, count, 2, generator=generator) * 12
    size = 12 + torch.rand(sets, count, 2, generator=generator) * 10
    return torch.cat([corner, corner + size], -1), torch.rand(sets, count, generator=generator)


def test_by_hand():
    # The second overlaps the first by 8 / 12, the third the second by as much and the first by 6 / 14.
    boxes = torch.tensor([[0.0, 0, 10, 1], [2, 0, 12, 1], [4, 0, 14, 1]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [True, False, True]
    assert nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.5).tolist() == [False, True, False]
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.7).tolist() == [True, True, True]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_a_batch_equals_the_greedy_loop_over_each_set(threshold):
    boxes, scores = crowd(3, 40)
    stays = nms(boxes, scores, threshold)
    expected = torch.stack([greedy(b, s, threshold) for b, s in zip(boxes, scores, strict=True)])
    assert torch.equal(stays, expected)
    assert 1 < stays[0].sum() < 40


def test_a_long_chain_is_settled():
    # Each box removes only its successor, so every answer depends on the one before it.
    start = torch.arange(40.0) * 2
    boxes = torch.stack([start, torch.zeros(40), start + 5, torch.ones(40)], -1)
    stays = nms(boxes, torch.arange(40.0).flip(0), 0.4)  # neighbours overlap by 3 / 7
    assert stays.tolist() == [True, False] * 20


def test_an_overlap_at_the_threshold_stays():
    boxes = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1]])
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.5).all()


def test_of_equal_scores_the_earlier_stays():
    boxes = torch.tensor([[0.0, 0, 2, 1], [0, 0, 2, 1]])
    assert nms(boxes, torch.tensor([0.5, 0.5]), 0.5).tolist() == [True, False]


def test_no_box():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).shape == (0,)


def test_torchvision_agrees():
    ops = pytest.importorskip("torchvision.ops", reason="torchvision is not installed")
    boxes, scores = crowd(1, 100, seed=1)
    kept = ops.nms(boxes[0], scores[0], 0.5)
    assert nms(boxes[0], scores[0], 0.5).nonzero().flatten().tolist() == sorted(kept.tolist())
