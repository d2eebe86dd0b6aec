import numpy as np
import pytest

from lightning_trackers.evaluation import LiveTracker, Prediction
from lightning_trackers.evaluation.tracker import checked_frame, checked_start_box

FRAME = np.zeros((40, 60, 3), np.uint8)


class Counter:
    """Predicts the first box, moved right by one px per frame."""

    def start(self, frame, box_xyxy):
        return {"box": checked_start_box(box_xyxy, checked_frame(frame).shape[:2]), "steps": 0}

    def step(self, states, frames):
        for state in states:
            state["steps"] += 1
        return [Prediction(s["box"] + np.float32([1, 0, 1, 0]) * s["steps"], 0.5) for s in states]


def test_live_tracker_keeps_the_state_between_updates():
    live = LiveTracker(Counter())
    live.init(FRAME, np.array([1.0, 2.0, 11.0, 12.0]))
    assert live.update(FRAME).box_xyxy.tolist() == [2, 2, 12, 12]
    assert live.update(FRAME).box_xyxy.tolist() == [3, 2, 13, 12]


def test_live_tracker_forgets_the_earlier_target_at_init():
    live = LiveTracker(Counter())
    live.init(FRAME, (1, 2, 11, 12))
    live.update(FRAME)
    live.init(FRAME, (5, 5, 9, 9))
    assert live.update(FRAME).box_xyxy.tolist() == [6, 5, 10, 9]


def test_live_tracker_asks_for_init_first():
    with pytest.raises(RuntimeError, match="call init"):
        LiveTracker(Counter()).update(FRAME)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.astype(np.float32), r"got float32 \(40, 60, 3\)"),
        (FRAME[..., 0], r"got uint8 \(40, 60\)"),
        (FRAME[..., :2], r"expected shape \(H, W, 3\), got \(40, 60, 2\)"),
        (FRAME[:0], r"got \(0, 60, 3\)"),
        (None, "NoneType"),
    ],
)
def test_what_is_not_a_frame_is_refused(frame, message):
    with pytest.raises(ValueError, match=message):
        checked_frame(frame)


def test_a_frame_passes_uncopied():
    assert checked_frame(FRAME) is FRAME


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([1, 2, 3], "four finite numbers"),
        ([1, 2, np.nan, 4], "four finite numbers"),
        ([1, 2, np.inf, 4], "four finite numbers"),
        ([10, 10, 10, 20], "positive width and height, got 0 × 10 px"),
        ([10, 10, 20, 5], "got 10 × -5 px"),
        ([60, 10, 70, 20], r"touches the frame of 60 × 40 px, got .*\[60.0, 10.0, 70.0, 20.0\]"),
        ([10, -20, 20, -1], "touches the frame"),
    ],
)
def test_a_box_that_nothing_can_start_from_is_refused(box, message):
    with pytest.raises(ValueError, match=message):
        checked_start_box(np.array(box, dtype=float), (40, 60))


def test_a_box_partly_outside_is_kept_as_it_is():
    box = checked_start_box(np.array([-5.0, -5.0, 10.0, 70.0]), (40, 60))
    assert box.dtype == np.float32
    assert box.tolist() == [-5, -5, 10, 70]
