import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from lightning_trackers.evaluation import Prediction, TrackingSequence, TrackResult, track_one_pass
from lightning_trackers.evaluation.static import StaticTracker
from lightning_trackers.evaluation.tracker import checked_start_box


class Frames(Sequence):
    """Frames that carry their number and watch how they are read."""

    def __init__(self, count, colour=0, delay_s=0.0, broken=None):
        self.count, self.colour, self.delay_s, self.broken = count, colour, delay_s, broken
        self.read, self.readers = [], 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.readers += 1
        assert self.readers == 1, "two threads read frames of one sequence at once"
        self.read.append(index)
        time.sleep(self.delay_s)
        self.readers -= 1
        if index == self.broken:
            raise OSError("cut short")
        return np.full((50, 80, 3), (index, self.colour, 0), np.uint8)


class Follower:
    """Moves by what it sees and remembers, so a mixed-up frame or state changes its boxes."""

    def __init__(self):
        self.groups, self.ahead = [], []

    def start(self, frame, box_xyxy):
        assert frame[0, 0, 0] == 0
        return {"box": checked_start_box(box_xyxy, frame.shape[:2]), "sum": 0}

    def step(self, states, frames):
        self.groups.append(len(states))
        predictions = []
        for state, frame in zip(states, frames, strict=True):
            state["sum"] = (3 * state["sum"] + int(frame[0, 0, 0]) + int(frame[0, 0, 1])) % 97
            moved = state["box"] + np.float32(state["sum"] / 7)
            predictions.append(Prediction(moved, 1 / (1 + state["sum"])))
        return predictions


def sequence(name, count, **changes):
    frames = Frames(count, colour=sum(map(ord, name)) % 50, **changes)
    boxes = np.tile([10.123456789, 10.0, 30.0, 20.0], (count, 1))
    return TrackingSequence(name, frames, boxes, np.ones(count, bool))


LENGTHS = {"a": 9, "b": 3, "c": 1, "d": 14, "e": 6, "f": 2}


def run(lanes, lengths=LENGTHS):
    tracker, sequences = Follower(), [sequence(n, count) for n, count in lengths.items()]
    results = list(track_one_pass(tracker, sequences, lanes=lanes))
    return tracker, sequences, results


def test_results_do_not_depend_on_lanes():
    alone = {r.name: r for r in run(lanes=1)[2]}
    assert list(alone) == list(LENGTHS)  # one at a time: in order
    assert len({r.boxes_xyxy.tobytes() for r in alone.values()}) == len(LENGTHS)
    for lanes in (2, 3, 8):
        together = run(lanes)[2]
        assert sorted(r.name for r in together) == sorted(LENGTHS)
        for result in together:
            np.testing.assert_array_equal(result.boxes_xyxy, alone[result.name].boxes_xyxy)
            np.testing.assert_array_equal(result.scores, alone[result.name].scores)


def test_first_row_is_the_given_box_with_score_1():
    for result in run(lanes=3)[2]:
        assert result.boxes_xyxy.dtype == np.float64
        assert result.boxes_xyxy.shape == (LENGTHS[result.name], 4)
        assert result.boxes_xyxy[0].tolist() == [10.123456789, 10.0, 30.0, 20.0]  # not float32
        assert result.scores[0] == 1
        assert (result.times_s > 0).all()


def test_frames_are_not_read_for_a_tracker_that_does_not_look():
    sequences = [sequence(name, count) for name, count in LENGTHS.items()]
    results = list(track_one_pass(StaticTracker(), sequences, lanes=3))
    assert {r.name: len(r.boxes_xyxy) for r in results} == LENGTHS
    assert all(s.frames.read == [0] for s in sequences)


def test_lanes_are_refilled_and_results_arrive_as_sequences_end():
    tracker, _, results = run(lanes=2)
    # a (8 steps) with b (2), then c (no step), d (13), with e (5) and f (1) after a.
    assert [r.name for r in results] == ["b", "c", "a", "e", "f", "d"]
    assert tracker.groups == [2] * 14 + [1]


def test_every_frame_is_read_once_and_in_order():
    for some in run(lanes=3)[1]:
        assert some.frames.read == list(range(len(some)))


def test_sequences_are_taken_only_when_a_lane_is_free_and_one_frame_is_read_ahead():
    taken = []

    def offered():
        for name, count in (("a", 5), ("b", 20), ("c", 20), ("d", 20)):
            taken.append(sequence(name, count))
            yield taken[-1]

    results = track_one_pass(Follower(), offered(), lanes=2)
    assert taken == []
    assert next(results).name == "a"
    assert [s.name for s in taken] == ["a", "b"]
    assert len(taken[1].frames.read) <= 6  # five tracked, one ahead
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_on_frame_hears_of_every_frame():
    heard = []
    sequences = [sequence(n, count) for n, count in LENGTHS.items()]
    list(track_one_pass(Follower(), sequences, lanes=3, on_frame=heard.append))
    assert {name: heard.count(name) for name in LENGTHS} == LENGTHS


class Sleeper(Follower):
    def start(self, frame, box_xyxy):
        time.sleep(0.04)
        return super().start(frame, box_xyxy)

    def step(self, states, frames):
        time.sleep(0.02)
        return super().step(states, frames)


def test_times_share_a_step_among_its_lanes_and_leave_decoding_out():
    sequences = [sequence(n, 4, delay_s=0.2) for n in "ab"]
    for result in track_one_pass(Sleeper(), sequences, lanes=2):
        assert result.times_s[0] >= 0.04
        assert (result.times_s[1:] >= 0.01).all()  # 0.02 s for two
        # Decoding would add 0.09 s; the median, because a busy machine stretches single steps.
        assert np.median(result.times_s[1:]) < 0.05
        assert result.fps == pytest.approx(3 / result.times_s[1:].sum())


def test_frames_of_two_sequences_are_decoded_at_the_same_time():
    both = threading.Barrier(2, timeout=10)

    class Meeting(Frames):
        def __getitem__(self, index):
            if index > 0:  # first frames are read one after the other, as lanes are filled
                both.wait()
            return super().__getitem__(index)

    sequences = []
    for name in "ab":
        plain = sequence(name, 3)
        frames = Meeting(3, plain.frames.colour)
        sequences.append(TrackingSequence(name, frames, plain.boxes_xyxy, plain.valid))
    # With a single thread the barrier would break, and the frame could not be read.
    assert len(list(track_one_pass(Follower(), sequences, lanes=2))) == 2


def test_fps_of_one_frame_is_undefined():
    result = TrackResult("a", np.zeros((1, 4)), np.ones(1), np.ones(1))
    assert np.isnan(result.fps)


def test_a_result_of_unequal_parts_is_refused():
    with pytest.raises(ValueError, match="result of a: expected boxes"):
        TrackResult("a", np.zeros((3, 4)), np.ones(3), np.ones(2))


def test_an_unreadable_frame_is_named():
    sequences = [sequence("a", 5), sequence("b", 5, broken=3)]
    with pytest.raises(RuntimeError, match="sequence b, frame 4 of 5 could not be read: cut short"):
        list(track_one_pass(Follower(), sequences, lanes=2))


def test_an_unreadable_first_frame_is_named():
    with pytest.raises(RuntimeError, match="sequence b, frame 1 of 5 could not be read"):
        list(track_one_pass(Follower(), [sequence("b", 5, broken=0)]))


def test_a_refused_first_box_is_named():
    some = sequence("a", 3)
    some.boxes_xyxy[0] = [5, 5, 5, 9]
    with pytest.raises(ValueError, match="sequence a, frame 1 of 3: box: expected positive width"):
        list(track_one_pass(Follower(), [some]))


class Broken(Follower):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def step(self, states, frames):
        good = super().step(states, frames)
        return self.answer(good) if len(self.groups) == 3 else good


@pytest.mark.parametrize(
    "bad",
    [
        Prediction(np.array([1, 2, np.nan, 4], np.float32), 0.5),
        Prediction(np.array([1, 2, np.inf, 4], np.float32), 0.5),
        Prediction(np.array([1, 2, 3, 4], np.float32), float("nan")),
        Prediction(np.array([1, 2, 3], np.float32), 0.5),
    ],
)
def test_a_prediction_that_is_not_a_finite_box_names_sequence_and_frame(bad):
    tracker = Broken(lambda good: [good[0], bad])
    with pytest.raises(ValueError, match="sequence b, frame 4 of 9: expected a finite box"):
        list(track_one_pass(tracker, [sequence("a", 9), sequence("b", 9)]))


def test_a_missing_prediction_is_refused():
    tracker = Broken(lambda good: good[:1])
    with pytest.raises(ValueError, match="expected 2 predictions for 2 targets, got 1"):
        list(track_one_pass(tracker, [sequence("a", 9), sequence("b", 9)]))


def test_lanes_must_be_positive():
    with pytest.raises(ValueError, match="lanes: expected at least 1, got 0"):
        track_one_pass(Follower(), [], lanes=0)


def test_no_sequences_give_no_results():
    assert list(track_one_pass(Follower(), [])) == []
