"""Pairs: the same from any process and in any order, and what negatives are."""

import pickle
import subprocess
import sys
import zlib

import numpy as np
import pytest

from datamodules.procedural import ProceduralSource
from datamodules.procedural import source as source_module
from lightning_trackers.crops import search_window

_SCRIPT = """
import sys, zlib
import numpy as np
from datamodules.procedural import ProceduralSource
from lightning_trackers.crops import search_window
source = ProceduralSource(3, plates=6, sprites=24)
z, x, name = source.draw(np.random.default_rng(11), max_gap=50, positive=True)
crop = x.crop(search_window(x.box_xyxy, 255, 127))
print(zlib.crc32(crop.tobytes()), name)
"""


@pytest.fixture(scope="module")
def source():
    return ProceduralSource(3, plates=6, sprites=24)


def look(pair):
    z, x, name = pair
    return (
        z.crop(search_window(z.box_xyxy, 127, 127)),
        x.crop(search_window(x.box_xyxy, 255, 127)),
        name,
    )


def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(a[:2], b[:2], strict=True)) and a[2] == b[2]


def draw(source, seed, positive=True, max_gap=50):
    return source.draw(np.random.default_rng(seed), max_gap=max_gap, positive=positive)


def test_a_pair_depends_on_seed_and_rng_alone(source):
    first = look(draw(source, 1))
    look(draw(source, 2))
    assert same(look(draw(source, 1)), first)
    # A bank that must drop entries all the time draws the same.
    assert same(look(draw(ProceduralSource(3, plates=6, sprites=24, memory_mb=3), 1)), first)
    assert same(look(draw(pickle.loads(pickle.dumps(source)), 1)), first)
    assert not same(look(draw(ProceduralSource(4, plates=6, sprites=24), 1)), first)


def test_another_process_draws_the_same_pixels(source):
    _, x, name = draw(source, 11)
    crop = x.crop(search_window(x.box_xyxy, 255, 127))
    found = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [str(zlib.crc32(crop.tobytes())), name]


def test_pickling_leaves_the_pictures_behind(source):
    look(draw(source, 1))
    assert len(pickle.dumps(source)) < 5000


def test_crops_have_the_views_shape_and_the_target_in_the_middle(source):
    z, x, _ = draw(source, 5)
    crop = x.crop(search_window(x.box_xyxy, 255, 127))
    assert crop.shape == (255, 255, 3)
    assert crop.dtype == np.uint8
    assert z.box_xyxy.shape == (4,)
    assert z.box_xyxy.dtype == np.float32


@pytest.mark.parametrize("max_gap", [0, 3, 60])
def test_frames_are_at_most_max_gap_apart(source, max_gap):
    for seed in range(20):
        z, x, _ = draw(source, seed, max_gap=max_gap)
        assert z.scene is x.scene
        assert abs(z.t - x.t) <= max_gap


def test_a_larger_gap_means_more_change(source):
    def change(max_gap):
        moved = []
        for seed in range(60):
            z, x, _ = draw(source, seed, max_gap=max_gap)
            size = np.sqrt(np.prod(z.box_xyxy[2:] - z.box_xyxy[:2]))
            moved.append(np.abs(z.box_xyxy - x.box_xyxy).mean() / size)
        return np.mean(moved)

    assert change(2) < 0.5 * change(60)


def test_targets_of_positive_pairs_are_visible(source):
    seen = []
    for seed in range(40):
        z, x, _ = draw(source, seed)
        seen.append((z.scene.visibility(z.t), x.scene.visibility(x.t)))
    exemplar, search = np.array(seen).T
    assert exemplar.min() > 0.5
    assert search.min() > 0.3


def test_negative_pairs_show_another_scene_and_another_target(source):
    hard = 0
    for seed in range(30):
        z, x, _ = draw(source, seed, positive=False)
        assert z.scene.seed != x.scene.seed
        assert z.scene.play.sprite_number != x.scene.play.sprite_number
        hard += z.scene.play.target.sprite.family == x.scene.play.target.sprite.family
    assert 8 < hard < 28


@pytest.mark.parametrize("positive", [True, False])
def test_an_id_redraws_its_pair(source, positive):
    for seed in range(4):
        pair = draw(source, seed, positive)
        assert same(look((*source.redraw(pair[2]), pair[2])), look(pair))


def test_a_strange_id_is_refused(source):
    with pytest.raises(ValueError, match="source id: expected procedural/train"):
        source.redraw("procedural/test/t0/1/f2-f3")


def test_the_turn_changes_the_pictures(source):
    later = ProceduralSource(3, plates=6, sprites=24, turn=8)
    assert not same(look(draw(source, 1)), look(draw(later, 1)))


def test_the_bank_turns_as_pairs_go_by(source):
    turning = ProceduralSource(3, plates=6, sprites=24, turn=1, pairs_per_turn=50)
    for number, turn in ((0, 1), (49, 1), (50, 2), (399, 8)):
        then = ProceduralSource(3, plates=6, sprites=24, turn=turn)
        assert same(look(draw(turning.at(number), 1)), look(draw(then, 1)))
    assert turning.turn == 1
    assert source.at(10**6) is source


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turn": -1}, "turn: expected a non-negative integer, got -1"),
        ({"pairs_per_turn": 0}, "pairs_per_turn: expected a positive integer or null, got 0"),
        ({"hard_negatives": 2}, r"hard_negatives: expected a share in \[0, 1\], got 2"),
        ({"split": "dev"}, "split: expected one of"),
    ],
)
def test_the_source_refuses_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        ProceduralSource(**options)


def test_a_negative_gap_is_refused(source):
    with pytest.raises(ValueError, match="max_gap: expected 0 or more frames, got -1"):
        draw(source, 0, max_gap=-1)


def test_a_pair_is_drawn_even_where_no_target_is_ever_in_clear_view(monkeypatch):
    monkeypatch.setattr(
        source_module, "_clear_time", lambda rng, scene, low, high, wanted: (low, False)
    )
    exemplar, search, name = ProceduralSource(seed=0).draw(
        np.random.default_rng(0), max_gap=10, positive=True
    )
    assert name.endswith("/f0-f0")
    np.testing.assert_array_equal(exemplar.box_xyxy, search.box_xyxy)
