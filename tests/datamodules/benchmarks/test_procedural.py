"""The procedural benchmark: subsets hold what they promise, and everything repeats."""

import numpy as np
import pytest

from datamodules.benchmarks.procedural import procedural_benchmark


def small(**options):
    return procedural_benchmark(**{"count": 3, "length": 40, "frame_wh": (160, 120), **options})


def test_the_benchmark_repeats_and_splits_differ():
    first, again, other = small(), small(), small(split="val", name="procedural_val")
    assert [s.name for s in first] == ["all_000", "all_001", "all_002"]
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
        np.testing.assert_array_equal(a.frames[7], b.frames[7])
        assert not np.array_equal(a.boxes_xyxy, c.boxes_xyxy)
        assert not np.array_equal(a.frames[0], c.frames[0])


def test_every_sequence_of_the_distractor_subset_has_look_alikes_near_the_target():
    for sequence in small(subset="distractor"):
        assert "LOOKALIKE" in sequence.attributes
        play = sequence.frames.sequence.scene.play
        now = play.instant(sequence.frames.sequence.first)
        doubles = range(1, 1 + play.lookalikes)
        families = {now.actors[i].sprite.family for i in doubles}
        assert families == {play.target.sprite.family}
        places = [now.figure(i).box_xyxy.reshape(2, 2).mean(axis=0) for i in (0, *doubles)]
        nearest = min(np.hypot(*(p - places[0])) for p in places[1:])
        assert nearest < 8 * play.size


def test_every_sequence_of_the_occlusion_subset_hides_most_of_the_target():
    for sequence in small(subset="occlusion"):
        assert "OCC" in sequence.attributes
        assert sequence.frames.sequence.visibility.min() < 0.5


def test_targets_are_seen_most_of_the_time():
    for sequence in small(count=5, subset="hard"):
        seen = sequence.frames.sequence.visibility
        assert seen[0] >= 0.8
        assert seen.mean() >= 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": "distractors"}, "subset: expected one of all, easy, hard, distractor"),
        ({"count": 0}, "count: expected a positive number, got 0"),
        ({"length": 0}, "length: expected a positive number, got 0"),
        ({"split": "dev"}, "split: expected one of train, val, test, got 'dev'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)
