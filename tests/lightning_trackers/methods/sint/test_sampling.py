import numpy as np
import pytest
import torch

from lightning_trackers.box_sampling import radial_boxes
from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.methods.sint import BoxSampling

TARGETS = torch.tensor([[80.0, 70, 120, 130], [5, 5, 45, 25]])


def drawn(seed=0, **values):
    sampling = BoxSampling(**values)
    return sampling(TARGETS, 192, torch.Generator().manual_seed(seed))


def test_radial_boxes_by_hand():
    boxes = radial_boxes(np.array([8.0, 8, 12, 16]), 6.0, steps=2, angles=4, scales=(1.0, 0.5))
    # 2 scales of 1 + 2 * 4 boxes; the first circle has radius 3, its first box lies to the right.
    assert len(boxes) == 18
    np.testing.assert_allclose(boxes[0], [8, 8, 12, 16])
    np.testing.assert_allclose(boxes[1], [11, 8, 15, 16])
    np.testing.assert_allclose(boxes[2], [8, 11, 12, 19], atol=1e-12)
    np.testing.assert_allclose(boxes[7], [2, 8, 6, 16], atol=1e-12)  # radius 6, to the left
    np.testing.assert_allclose(boxes[9], [9, 10, 11, 14])  # half as large


def test_labels_are_what_the_overlaps_say():
    boxes, labels = drawn()
    assert boxes.shape == (2, 64, 4)
    overlap = iou_xyxy(boxes, TARGETS[:, None])
    assert (overlap[labels == 1] > 0.7).all()
    assert (overlap[labels == 0] < 0.5).all()
    assert int((labels[0] == 1).sum()) == 16  # the target's own box and 15 more
    assert int((labels[0] == 0).sum()) == 48
    assert torch.equal(boxes[:, 0], TARGETS)


def test_boxes_have_their_centre_in_the_image():
    boxes, labels = drawn()
    centres = ((boxes[..., :2] + boxes[..., 2:]) / 2)[labels >= 0]
    assert ((centres >= 0) & (centres <= 192)).all()


def test_missing_boxes_are_not_counted():
    _, labels = drawn(boxes=10, positives=8, positive_overlap=0.97, negative_overlap=0.5)
    # Of the grid only the box in the middle overlaps that much; it is drawn beside the target's own.
    assert (labels[:, :9] == 1).sum(1).tolist() == [2, 2]
    assert (labels[:, :9] == -1).sum(1).tolist() == [7, 7]


def test_the_seed_alone_decides():
    assert torch.equal(drawn(3)[0], drawn(3)[0])
    assert not torch.equal(drawn(3)[0], drawn(4)[0])


@pytest.mark.parametrize("values", [{"positives": 64}, {"negative_overlap": 0.8}, {"radius": 0.0}])
def test_bad_numbers_are_refused(values):
    with pytest.raises(ValueError, match="sampling: expected"):
        BoxSampling(**values)
