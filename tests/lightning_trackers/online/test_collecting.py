import numpy as np
import pytest
import torch

from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.online import SampleMemory, SampleSettings
from lightning_trackers.online.collecting import whole_frame_boxes

BOX = np.array([100.0, 80.0, 140.0, 130.0])
WH = (320, 240)


def test_samples_overlap_the_target_as_the_options_say():
    rng, s = np.random.default_rng(0), SampleSettings()
    positives = s.positive_boxes(rng, BOX, 50, WH)
    first = s.initial_negative_boxes(rng, BOX, WH)
    later = s.negative_boxes(rng, BOX, WH)
    regression = s.regression_boxes(rng, BOX, WH)
    assert [len(x) for x in (positives, first, later, regression)] == [50, 5000, 200, 1000]
    assert (iou_xyxy(positives, BOX) >= 0.7).all()
    assert (iou_xyxy(first, BOX) <= 0.5).all()
    assert (iou_xyxy(later, BOX) <= 0.3).all()
    assert (iou_xyxy(regression, BOX) >= 0.6).all()


def test_half_of_the_first_negatives_come_from_the_whole_frame():
    boxes = SampleSettings().initial_negative_boxes(np.random.default_rng(0), BOX, WH)
    size, centre = BOX[2:] - BOX[:2], (BOX[2:] + BOX[:2]) / 2
    near, anywhere = np.split((boxes[:, 2:] + boxes[:, :2]) / 2, 2)
    assert (np.abs(near - centre) <= size.mean() + 1e-9).all()
    assert np.abs(anywhere - centre).max() > 3 * size.mean()
    np.testing.assert_allclose(boxes[2500:, 2:] - boxes[2500:, :2], np.tile(size, (2500, 1)))


def test_whole_frame_boxes_cover_the_frame_stay_in_it_and_never_repeat():
    boxes = whole_frame_boxes(np.random.default_rng(0), BOX, 400, frame_wh=WH)
    assert len(np.unique(boxes.round(6), axis=0)) == 400
    assert (boxes[:, :2] >= -1e-9).all()
    assert (boxes[:, 2:] <= np.array(WH) + 1e-9).all()
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    counts = np.histogram2d(*centres.T, bins=4, range=[[20, 300], [25, 215]])[0]
    assert (counts > 10).all()  # 25 expected in each cell


@pytest.mark.parametrize("box", [[5.0, 5, 8, 8], [0.0, 0, 320, 240]])
def test_targets_too_small_or_too_large_end_with_fewer_samples(box):
    rng, box = np.random.default_rng(0), np.array(box)
    found = SampleSettings().positive_boxes(rng, box, 50, WH)
    assert len(found) < 50 if box[2] < 10 else len(found) == 50


def test_memory_forgets_positives_after_long_and_negatives_after_short():
    memory = SampleMemory(long=4, short=2)
    for frame in range(6):
        memory.add(torch.full((2, 1), float(frame)), torch.full((3, 1), float(frame)))
    pool, recent = memory.pool(), memory.pool(recent=True)
    assert pool.positives.unique().tolist() == [2, 3, 4, 5]
    assert pool.negatives.unique().tolist() == [4, 5]
    assert recent.positives.unique().tolist() == [4, 5]
    assert len(memory) == 4 * 2 + 2 * 3


def test_memory_without_a_kind_has_no_pool():
    memory = SampleMemory()
    memory.add(torch.ones(2, 1), torch.ones(0, 1))
    assert memory.pool() is None
    with pytest.raises(ValueError, match="short <= long"):
        SampleMemory(long=2, short=3)
