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
        now = play.instant(0)
        doubles = range(1, 1 + play.lookalikes)
        families = {now.actors[i].sprite.family for i in doubles}
        assert families == {play.target.sprite.family}
        near = 0
        for t in range(len(sequence)):
            now = play.instant(sequence.frames.sequence.first + t)
            target = now.roots[0][:2, 2]
            for i in doubles:
                x, y = now.roots[i][:2, 2]
                if (
                    0 < x < 160
                    and 0 < y < 120
                    and np.hypot(x - target[0], y - target[1]) < 5 * play.size
                ):
                    near += 1
                    break
        assert near >= 0.1 * len(sequence)  # a fifth by every fourth frame


def test_every_sequence_of_the_occlusion_subset_hides_most_of_the_target():
    for sequence in small(subset="occlusion"):
        assert "OCC" in sequence.attributes
        assert sequence.frames.sequence.visibility.min() < 0.5


@pytest.mark.parametrize(("subset", "least"), [("easy", 26), ("hard", 10)])
def test_targets_differ_from_what_is_behind_them(subset, least):
    for sequence in small(count=5, subset=subset):
        assert sequence.frames.sequence.scene.play.contrast >= least


def test_easy_sequences_change_less_than_hard_ones():
    easy, hard = (
        [s.frames.sequence.scene.play for s in small(count=5, subset=subset)]
        for subset in ("easy", "hard")
    )
    assert max(play.style.strength for play in easy) < min(play.style.strength for play in hard)


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
