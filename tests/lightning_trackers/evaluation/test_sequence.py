from collections.abc import Sequence

import numpy as np
import pytest

from lightning_trackers.evaluation import Benchmark, TrackingSequence


class CountingFrames(Sequence):
    def __init__(self, count):
        self.count, self.read = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read.append(index)
        return np.full((4, 6, 3), index, np.uint8)


def sequence(name="a", count=3, **changes):
    parts = {
        "frames": CountingFrames(count),
        "boxes_xyxy": np.zeros((count, 4)),
        "valid": np.ones(count, bool),
    }
    return TrackingSequence(name, **{**parts, **changes})


def test_frames_are_read_only_when_asked_for():
    some = sequence()
    assert len(some) == 3
    assert some.frames.read == []
    assert [frame[0, 0, 0] for frame in some] == [0, 1, 2]
    assert some.frames.read == [0, 1, 2]
    assert some.attributes == frozenset()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": []}, "sequence a: expected at least one frame"),
        ({"boxes_xyxy": np.zeros((2, 4))}, r"shape \(3, 4\) for 3 frames, got \(2, 4\)"),
        ({"boxes_xyxy": np.zeros((3, 8))}, r"got \(3, 8\)"),
        ({"valid": np.ones(2, bool)}, r"expected 3 boolean valid flags, got bool of shape \(2,\)"),
        ({"valid": np.ones(3)}, "got float64"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        sequence(**changes)


def test_a_benchmark_lists_its_sequences():
    benchmark = Benchmark("tiny", [sequence("a"), sequence("b")])
    assert len(benchmark) == 2
    assert [s.name for s in benchmark] == ["a", "b"]


def test_an_empty_benchmark_and_repeated_names_are_refused():
    with pytest.raises(ValueError, match="benchmark tiny: expected at least one sequence"):
        Benchmark("tiny", [])
    with pytest.raises(ValueError, match=r"names occur twice: \['a'\]"):
        Benchmark("tiny", [sequence("a"), sequence("b"), sequence("a")])
