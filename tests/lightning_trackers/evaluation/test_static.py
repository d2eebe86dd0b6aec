import numpy as np
import pytest

from lightning_trackers.evaluation.static import StaticTracker

FRAME = np.zeros((20, 30, 3), dtype=np.uint8)


def test_answers_each_target_with_its_own_first_box():
    tracker = StaticTracker()
    boxes = [np.array([1, 2, 11, 12]), np.array([5.5, 0, 9, 9])]
    states = [tracker.start(FRAME, box) for box in boxes]
    for _ in range(2):
        predictions = tracker.step(states, [FRAME, FRAME])
        assert [p.box_xyxy.tolist() for p in predictions] == [b.tolist() for b in boxes]
        assert [p.score for p in predictions] == [1.0, 1.0]
        predictions[0].box_xyxy[:] = 100  # whoever changes an answer does not move the target


def test_refuses_what_any_tracker_refuses():
    with pytest.raises(ValueError, match="positive width and height"):
        StaticTracker().start(FRAME, np.array([5, 5, 5, 9]))
    with pytest.raises(ValueError, match="uint8"):
        StaticTracker().start(FRAME.astype(float), np.array([1, 2, 11, 12]))
