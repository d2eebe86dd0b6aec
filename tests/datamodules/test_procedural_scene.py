"""Scenes: ground truth, windows, visibility."""

from dataclasses import replace

import numpy as np
import pytest

from datamodules.procedural import Bank, Scene, Style
from datamodules.procedural.elements import Slab
from datamodules.procedural.palettes import ColourMap
from lightning_trackers import crops
from lightning_trackers.crops import Window, search_window

NOTHING = Style(
    occluder=0,
    lookalikes=0,
    low_contrast=0,
    light_change=0,
    fast=0,
    leaves_view=0,
    camera=False,
    lens=False,
    light=False,
)


@pytest.fixture(scope="module")
def bank():
    return Bank(1, plates=8, sprites=48)


def alone(bank, seed, style=NOTHING):
    scene = Scene(bank, seed, style=style)
    scene.play.actors[1:] = []
    scene.play.slabs = []
    return scene


def contained(box_xyxy, frame_wh):
    return (box_xyxy[:2] >= 0).all() and (box_xyxy[2:] <= frame_wh).all()


def board(scene, t, box_xyxy):
    """Return a slab that covers a box of the frame at any time."""
    x1, y1, x2, y2 = box_xyxy
    return Slab(
        outlines=(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], float),),
        plate=scene.play.plate,
        colours=scene.play.plate_colours,
        texel=(1.0, 0.0, 0.0),
        anchor=(0.0, 0.0),
        front=True,
        softness=0.0,
        passing=(0.0, 0.0, t),
    )


@pytest.mark.parametrize("seed", range(10))
def test_box_is_the_box_of_the_drawn_target(bank, seed):
    style = replace(NOTHING, frame_wh=(480, 360), target_px=(40, 60), spin=0.5, turn=0.5)
    scene = alone(bank, seed, style)
    # Shoulders and hands belong to the picture, not to the target: here they count.
    sprite = scene.play.target.sprite
    sprite = replace(sprite, parts=tuple(replace(p, counted=True) for p in sprite.parts))
    scene.play.actors[0] = replace(scene.play.target, sprite=sprite)
    t = next(t for t in range(120) if contained(scene.box_xyxy(t), scene.frame_wh))
    pictures = []
    for level in (0, 255):  # the target all black, then all white: its mask is the difference
        flat = ColourMap(np.zeros((3, 3), np.float32), np.full(3, level, np.float32))
        scene.play.actors[0] = replace(scene.play.actors[0], colours=flat)
        pictures.append(scene.frame(t).astype(int).mean(axis=2))
    ys, xs = np.nonzero(pictures[1] - pictures[0] > 127)
    drawn = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    np.testing.assert_allclose(
        scene.box_xyxy(t), drawn, atol=1.5
    )  # thin tips, see the figure's test


@pytest.mark.parametrize("target_px", [(20, 30), (100, 200)])
def test_a_window_shows_what_a_crop_of_the_frame_shows(bank, target_px):
    style = replace(Style(), lens=False, target_px=target_px)
    for seed in range(6):
        scene = Scene(bank, seed, style=style)
        window = search_window(scene.box_xyxy(5), 255, 127).moved(3.3, -4.7, zoom=1.1)
        ours = scene.crop(5, window).astype(int)
        theirs = crops.crop(scene.frame(5), window).astype(int)
        # Enlarged windows differ only outside the frame, where the thumbnail's mean colour stands;
        # reduced ones are drawn from other mip levels.
        assert np.abs(ours - theirs).mean() < (2.0 if window.scale >= 1 else 7.0)


def test_an_enlarged_window_carries_the_frames_noise_and_compression(bank):
    # Without light: its field has 33 nodes across a window, so shadows' edges differ a little.
    style = replace(Style(), target_px=(24, 30), frame_wh=(320, 240), light=False)
    for seed in range(8):
        scene = Scene(bank, seed, style=style)
        scene.play.lens = replace(scene.play.lens, noise=6.0, quality=40, coarse=False)
        window = Window(160, 120, 70, 127)
        ours = scene.crop(3, window).astype(int)
        theirs = crops.crop(scene.frame(3), window).astype(int)
        assert np.abs(ours - theirs).mean() < 0.5  # other regions round smears differently
        scene.play.lens = replace(scene.play.lens, noise=0.0, quality=100)
        assert np.abs(scene.crop(3, window).astype(int) - theirs).mean() > 2.0


def test_a_window_outside_the_frame_is_plain(bank):
    scene = Scene(bank, 3)
    crop = scene.crop(0, Window(-500, -500, 100, 64))
    np.testing.assert_array_equal(crop, np.broadcast_to(np.rint(scene.fill(0)), (64, 64, 3)))


def test_the_fill_is_the_frames_mean_colour(bank):
    for seed in range(4):
        scene = Scene(bank, seed, style=replace(Style(), frame_wh=(320, 240), lens=False))
        np.testing.assert_allclose(scene.fill(9), crops.mean_colour(scene.frame(9)), atol=4)


def test_visibility_is_the_share_that_is_not_covered(bank):
    for seed in range(6):
        scene = alone(bank, seed)
        x1, y1, x2, y2 = scene.box_xyxy(10)
        assert scene.visibility(10) == pytest.approx(1, abs=0.01)
        scene.play.slabs = [board(scene, 10, (x1 - 3, y1 - 3, x2 + 3, y2 + 3))]
        assert scene.visibility(10) == pytest.approx(0, abs=0.01)
        middle = (y1 + y2) / 2
        halves = []
        for part in ((x1 - 3, y1 - 3, x2 + 3, middle), (x1 - 3, middle, x2 + 3, y2 + 3)):
            scene.play.slabs = [board(scene, 10, part)]
            halves.append(scene.visibility(10))
        assert sum(halves) == pytest.approx(1, abs=0.15)  # the edge's px, of some 40, count twice
        assert min(halves) > 0.02


def test_a_full_occluder_hides_every_px_of_the_target(bank):
    scene = alone(bank, 2)
    x1, y1, x2, y2 = scene.box_xyxy(10)
    scene.play.slabs = [board(scene, 10, (x1 - 60, y1 - 60, x2 + 60, y2 + 60))]
    hidden = scene.crop(10, search_window(scene.box_xyxy(10), 127, 127))
    scene.play.actors[0] = replace(
        scene.play.actors[0],
        colours=ColourMap(np.zeros((3, 3), np.float32), np.full(3, 255, np.float32)),
    )
    centre = slice(20, 107)  # shoulders reach out of the box, and here out of the board
    recoloured = scene.crop(10, search_window(scene.box_xyxy(10), 127, 127))
    np.testing.assert_array_equal(hidden[centre, centre], recoloured[centre, centre])


def test_contrast_reaches_from_camouflage_to_clear(bank):
    contrasts = np.array([Scene(bank, s).play.contrast for s in range(150)])
    assert 0.1 < (contrasts < 15).mean() < 0.45
    assert (contrasts > 60).mean() > 0.15


def test_target_sizes_spread_log_uniformly(bank):
    sizes = np.log([Scene(bank, s).play.size for s in range(150)])
    low, high = np.log(15), np.log(250)
    quartiles = np.percentile(sizes, [25, 50, 75])
    np.testing.assert_allclose(
        quartiles, low + (high - low) * np.array([0.25, 0.5, 0.75]), atol=0.3
    )


def test_strength_scales_zoom_and_exposure(bank):
    for seed in range(6):
        style = replace(NOTHING, light=True, zoom=1, turn=0, spin=0, frame_wh=(320, 240))
        full, weak = (Scene(bank, seed, style=replace(style, strength=s)).play for s in (1.0, 0.5))
        np.testing.assert_allclose(weak.light.exposure, np.multiply(full.light.exposure, 0.5))
        sizes = [
            np.ptp([np.log(_zoom(play, t)) for t in range(0, 240, 6)]) for play in (full, weak)
        ]
        assert 0.45 < sizes[1] / sizes[0] < 0.65  # a half, but the full one is cut at e^0.8


def _zoom(play, t):
    """Return the target's scale at a time, its camera unmoved."""
    return float(np.sqrt(abs(np.linalg.det(play.instant(t).roots[0][:2, :2])))) / play.target.scale


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"occluder": 1.2}, r"occluder: expected a probability in \[0, 1\], got 1.2"),
        ({"strength": 0}, r"strength: expected a share in \(0, 1\], got 0"),
        ({"target_px": (50, 20)}, "target_px: expected 4 <= low <= high"),
        ({"frame_wh": (20, 20)}, "frame_wh: expected at least twice the smallest target"),
    ],
)
def test_style_refuses_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        Style(**options)
