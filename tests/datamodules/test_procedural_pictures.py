"""Textures, palettes, sprites and the bank: natural statistics, tight outlines, exact repetition."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from datamodules.procedural.backgrounds import PLATE_SIZE
from datamodules.procedural.bank import SPLITS, Bank
from datamodules.procedural.families import FAMILIES, draw_sprite
from datamodules.procedural.motion import Wander, fold, smooth_step
from datamodules.procedural.palettes import ColourMap, draw_palette, recolouring
from datamodules.procedural.sprites import Figure, Part, Pose, blend_
from datamodules.procedural.textures import Painter, power_noise


def spectral_slope(picture: np.ndarray) -> float:
    """Return a of power ~ 1/f^a between 1/64 and 1/5 cycles per px, by regression on rings."""
    size = picture.shape[0]
    window = np.hanning(size)
    power = np.abs(np.fft.fft2((picture - picture.mean()) * window * window[:, None])) ** 2
    f = np.fft.fftfreq(size)
    radius = np.hypot(f, f[:, None])
    edges = np.geomspace(1 / 64, 1 / 5, 9)
    rings = [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]
    middles = np.sqrt(edges[1:] * edges[:-1])
    return float(-np.polyfit(np.log(middles), np.log(rings), 1)[0])


@pytest.mark.parametrize("slope", [1.6, 2.0, 2.4])
def test_noise_has_the_power_law_asked_for_and_unit_deviation(slope):
    tile = power_noise(np.random.default_rng(0), slope)
    assert tile.mean() == pytest.approx(0, abs=1e-5)
    assert tile.std() == pytest.approx(1, abs=1e-5)
    # A window leaks a little power from low to high frequencies.
    assert spectral_slope(tile) == pytest.approx(slope, abs=0.2)


def test_noise_tiles_continue_without_a_seam():
    tile = power_noise(np.random.default_rng(1), 2.0)
    inner = np.abs(np.diff(tile, axis=0)).mean()
    seam = np.abs(tile[0] - tile[-1]).mean()
    assert seam < 1.5 * inner


def test_backgrounds_have_the_spectrum_of_natural_images():
    bank = Bank(0, plates=24)
    slopes = [spectral_slope(bank.plate(i)[0].mean(axis=2)) for i in range(24)]
    # Natural images: 1/f^2, single pictures 1.4 to 3.2; out-of-focus backgrounds are steeper.
    assert 1.8 < np.median(slopes) < 3.0


def test_palettes_are_mostly_greyish_and_vary_mostly_in_luminance():
    rng = np.random.default_rng(2)
    colours = np.concatenate([draw_palette(rng) for _ in range(200)])
    assert colours.min() >= 0
    assert colours.max() <= 255
    luminance = colours.mean(axis=1)
    chroma = np.linalg.norm(colours - luminance[:, None], axis=1)
    assert np.median(chroma) < 35
    assert luminance.std() > 1.5 * chroma.std()
    assert (chroma > 70).any()  # a few are vivid


def test_recolouring_moves_the_mean_and_scales_the_contrast():
    mean, new = np.float32([100, 80, 60]), np.float32([50, 120, 90])
    change = recolouring(mean, new, hue_deg=0, saturation=1, contrast=0.5)
    np.testing.assert_allclose(change(mean), new, atol=1e-3)
    # With neither turn nor change of saturation only the contrast acts: half of (10, -4, 6).
    offset = np.float32([10, -4, 6])
    np.testing.assert_allclose(change(mean + offset), new + offset / 2, atol=1e-3)


def test_recolouring_turns_red_to_green():
    black = np.zeros(3, np.float32)
    turned = recolouring(black, black, hue_deg=120, saturation=1, contrast=1)
    np.testing.assert_allclose(turned(np.float32([200, 0, 0])), [0, 200, 0], atol=1e-2)


def test_premultiplied_recolouring_equals_recolouring_before_blending():
    change = recolouring(np.float32([90, 90, 90]), np.float32([110, 100, 60]), 20, 0.8, 0.7)
    colour = np.float32([120, 100, 80])
    for alpha in (0.0, 0.5, 1.0):
        layer = np.zeros((1, 1, 4), np.uint8)
        layer[0, 0] = [*np.rint(colour * alpha), round(255 * alpha)]
        mapped = cv2.transform(layer, change.for_premultiplied())[0, 0]
        np.testing.assert_allclose(mapped[:3], change(colour) * alpha, atol=1.5)  # two roundings


def test_opaque_matrix_equals_the_map():
    change = ColourMap(np.float32([[1, 0, 0], [0, 0.5, 0], [0, 0, 2]]), np.float32([5, 6, -7]))
    out = cv2.transform(np.full((2, 2, 3), 50, np.uint8), change.for_opaque())
    np.testing.assert_array_equal(out[0, 0], [55, 31, 93])


def test_blending_by_hand():
    below = np.full((1, 1, 3), 200, np.uint8)
    above = np.array([[[40, 20, 0, 128]]], np.uint8)  # half covered
    blend_(below, above)
    # 200 * 127 / 255 = 99.6, plus the premultiplied colour.
    np.testing.assert_allclose(below[0, 0], [140, 120, 100], atol=1)


def test_painter_paints_later_shapes_over_earlier_ones():
    painter = Painter(np.random.default_rng(0), 20, 20, [np.zeros((256, 256))], np.zeros(3), 0)
    painter.box(0, 0, 10, 20, np.float32([10, 20, 30]), grain=0)
    painter.box(5, 0, 20, 20, np.float32([40, 50, 60]), grain=0)
    picture = painter.render()
    np.testing.assert_allclose(picture[3, 3], [10, 20, 30], atol=1e-4)
    np.testing.assert_allclose(picture[3, 7], [40, 50, 60], atol=1e-4)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_figure_box_is_the_box_of_the_drawn_mask(family):
    bank = Bank(3)
    for i in range(4):
        rng = np.random.default_rng([4, i])
        sprite = draw_sprite(rng, bank.noises, family)
        yaw = rng.uniform(-1, 1) * min(sprite.turns, np.pi)
        pose = Pose(yaw, rng.uniform(0, 6), 1.0, rng.uniform(-1, 1))
        scale = 100 / np.sqrt(np.prod(sprite.size_wh))
        turn = rng.uniform(-0.5, 0.5)
        c, s = scale * np.cos(turn), scale * np.sin(turn)
        figure = Figure(sprite, pose, np.array([[c, -s, 300], [s, c, 300], [0, 0, 1]]))
        alpha = figure.draw((600, 600), 1.0, 0, 0, counted=True)[..., 3]
        ys, xs = np.nonzero(alpha > 127)
        drawn = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        # The tip of a tapered limb is thinner than a px, so its last px stays under one half.
        np.testing.assert_allclose(figure.box_xyxy, drawn, atol=1.5)


def test_a_turn_shows_other_texture_and_a_narrower_box():
    sprite = draw_sprite(np.random.default_rng(5), Bank(0).noises, "vehicle")
    root = np.diag([60.0, 60.0, 1.0])
    side = Figure(sprite, Pose(yaw=0.0), root)
    front = Figure(sprite, Pose(yaw=np.pi / 2), root)
    long, short = sprite.parts[0].sides
    assert np.diff(side.box_xyxy[::2])[0] == pytest.approx(60 * long, rel=1e-6)
    assert np.diff(front.box_xyxy[::2])[0] == pytest.approx(60 * short, rel=1e-6)


def test_the_texture_of_a_round_part_goes_on_behind_its_seam():
    around = 153
    surface = np.full((2, around, 4), 255, np.uint8)
    surface[..., 0] = np.arange(around)
    mask = np.full((2, 20), 255, np.uint8)
    part = Part("round", (surface,), (mask,), (-1.0, -1.0, 1.0, 1.0), np.zeros((0, 2)))
    middle = np.arcsin(np.linspace(-1, 1, 21, dtype=np.float32)[:-1] + 1 / 20)[10]
    for yaw in np.float32(middle + np.pi) + np.linspace(-2e-6, 2e-6, 41, dtype=np.float32):
        # The seam is in the middle: the texture's last column meets its first one.
        red, green = part.patch(Pose(yaw=float(yaw)), 0)[0, 10, :2].astype(float)
        assert min(red / green * 255, around - red / green * 255) < 2


def test_uncounted_parts_are_drawn_but_not_boxed():
    sprite = draw_sprite(np.random.default_rng(6), Bank(0).noises, "face")
    figure = Figure(sprite, Pose(), np.diag([60.0, 60.0, 1.0]))
    assert figure.whole_xyxy[3] > figure.box_xyxy[3] + 30  # shoulders below the head


def test_no_pose_leaves_a_sprites_reach():
    bank = Bank(7)
    for i in range(24):
        sprite = bank.sprite(i)
        for phase in range(6):
            box = Figure(sprite, Pose(phase, phase, 1.15), np.eye(3)).whole_xyxy
            assert np.abs(box).max() <= sprite.reach + 1e-6


def test_bank_entries_repeat_exactly_and_splits_share_none():
    plates = {split: Bank(0, split).plate(5)[0] for split in SPLITS}
    np.testing.assert_array_equal(plates["train"], Bank(0, "train").plate(5)[0])
    assert plates["train"].shape == (PLATE_SIZE, PLATE_SIZE, 3)
    sprites = {split: Bank(0, split).sprite(5).parts[0].surface[0] for split in SPLITS}
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not np.array_equal(plates[a], plates[b])
        assert sprites[a].shape != sprites[b].shape or not np.array_equal(sprites[a], sprites[b])


def test_bank_keeps_within_its_memory_and_draws_dropped_entries_again():
    bank = Bank(0, memory_mb=4)  # three plates
    first = bank.plate(0)[0].copy()
    for i in range(1, 5):
        bank.plate(i)
    assert bank._bytes <= 4 * 2**20
    assert ("plate", 0, 0) not in bank._kept
    np.testing.assert_array_equal(bank.plate(0)[0], first)


def test_each_turn_replaces_one_entry_in_eight():
    versions = [{(i, (turn + i % 8) // 8) for i in range(64)} for turn in (0, 1, 8)]
    assert len(versions[0] - versions[1]) == 8
    assert len(versions[0] - versions[2]) == 64
    bank = Bank(0)
    assert not np.array_equal(bank.plate(7, turn=0)[0], bank.plate(7, turn=1)[0])
    np.testing.assert_array_equal(bank.plate(6, turn=0)[0], bank.plate(6, turn=1)[0])


def test_every_family_occurs_about_as_often_as_stated():
    bank = Bank(0)
    names = [bank.family(i) for i in range(bank.sprites)]
    for name, (_, share) in FAMILIES.items():
        assert names.count(name) / len(names) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, "split: expected one of train, val, test, got 'tset'"),
        ({"plates": 0}, "plates: expected a positive number, got 0"),
        ({"memory_mb": -1}, "memory_mb: expected a positive number"),
        ({"seed": -1}, "seed: expected a non-negative integer, got -1"),
    ],
)
def test_bank_refuses_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        Bank(**options)


def test_wander_has_the_deviation_asked_for():
    wander = Wander()
    channels = wander.add(np.random.default_rng(0), (3.0, 40.0), (0.5, 100.0))
    values = np.array([wander.at(t)[channels] for t in range(4000)])
    np.testing.assert_allclose(values.std(axis=0), [3.0, 0.5], rtol=0.05)


def test_fold_reflects_at_both_ends():
    assert [fold(v, 0, 10) for v in (3, 12, -4, 25)] == [3, 8, 4, 5]
    assert fold(99, 10, 4) == 7  # no room: the middle


def test_smooth_step_by_hand():
    # u = 1/2 gives 1/4 * (3 - 1) = 1/2; u = 1/4 gives 1/16 * 5/2.
    assert [smooth_step(t, 10, 4) for t in (9, 11, 12, 14)] == [0, 0.15625, 0.5, 1]
