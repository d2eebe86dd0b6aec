from math import log

import pytest
import torch

from lightning_trackers.losses import iou_loss


def test_by_hand():
    # Overlaps 1 / 7 and 1.
    boxes = torch.tensor([[0.0, 0, 2, 2], [4, 4, 8, 9]])
    targets = torch.tensor([[1.0, 1, 3, 3], [4, 4, 8, 9]])
    assert iou_loss(boxes[:1], targets[:1]).item() == pytest.approx(log(7))
    assert iou_loss(boxes, targets).item() == pytest.approx(log(7) / 2, abs=1e-6)


def test_boxes_that_do_not_touch_have_a_finite_loss():
    loss = iou_loss(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[5.0, 5, 6, 6]]))
    assert loss.item() == pytest.approx(log(1e6), rel=1e-3)


def test_no_boxes_cost_nothing_and_still_have_a_slope():
    boxes = torch.zeros(0, 4, requires_grad=True)
    loss = iou_loss(boxes, torch.zeros(0, 4))
    loss.backward()
    assert loss.item() == 0


def test_the_slope_moves_the_box_towards_its_target():
    box = torch.tensor([[0.0, 0, 10, 10]], requires_grad=True)
    iou_loss(box, torch.tensor([[2.0, 0, 12, 10]])).backward()
    assert box.grad[0, 2] < 0  # the right edge goes right
    assert box.grad[0, 0] < 0  # as does the left one, which costs area outside the target
