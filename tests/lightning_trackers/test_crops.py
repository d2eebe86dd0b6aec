from math import sqrt

import numpy as np
import pytest
import torch

from lightning_trackers.crops import (
    Stretch,
    Window,
    crop,
    exemplar_side,
    exemplar_window,
    mean_colour,
    search_window,
)

FILL = np.array([10.0, 200.0, 90.0])


def smooth_frame(height=90, width=120, seed=0):
    """A frame without sharp edges: interpolation with 1/32 px weights stays within two levels."""
    rng = np.random.default_rng(seed)
    phase, pace = rng.uniform(0, 6, (3, 1, 1)), rng.uniform(0.03, 0.08, (3, 1, 1))
    y, x = np.mgrid[:height, :width]
    waves = 128 + 60 * np.sin(pace * x + phase) + 60 * np.cos(pace * y - phase)
    return np.rint(np.moveaxis(waves, 0, 2)).astype(np.uint8)


def slow_crop(frame, window, fill):
    """Bilinear sampling written as loops; a pixel outside the frame has the colour ``fill``."""
    height, width = frame.shape[:2]

    def pixel(row, column):
        inside = 0 <= row < height and 0 <= column < width
        return frame[row, column].astype(float) if inside else fill

    out = np.zeros((window.size, window.size, 3))
    for v in range(window.size):
        for u in range(window.size):
            # The middle of crop pixel (u, v), in frame coordinates; pixel i is centred at i + 0.5.
            x = window.cx + ((u + 0.5) / window.size - 0.5) * window.side - 0.5
            y = window.cy + ((v + 0.5) / window.size - 0.5) * window.side - 0.5
            i, j = int(np.floor(y)), int(np.floor(x))
            a, b = y - i, x - j
            out[v, u] = (1 - a) * ((1 - b) * pixel(i, j) + b * pixel(i, j + 1)) + a * (
                (1 - b) * pixel(i + 1, j) + b * pixel(i + 1, j + 1)
            )
    return out


@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_maps_agree_with_a_hand_worked_window(kind):
    # 100 px around (60, 50), shown as 50 px: the origin is (10, 0), the scale 1/2.
    window = Window(60.0, 50.0, 100.0, 50)
    box = kind([[30.0, 40.0, 50.0, 80.0]])
    np.testing.assert_array_equal(window.to_crop(box), [[10, 20, 20, 40]])
    np.testing.assert_array_equal(window.to_frame(window.to_crop(box)), box)
    assert window.scale == 0.5


@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_frame_to_crop_to_frame_is_the_identity(kind):
    rng = np.random.default_rng(0)
    for _ in range(20):
        window = Window(*rng.uniform(-100, 500, 2), rng.uniform(5, 800), int(rng.integers(16, 300)))
        boxes = kind(rng.uniform(-300, 900, (6, 4)))
        back = window.to_frame(window.to_crop(boxes))
        np.testing.assert_allclose(back, boxes, rtol=0, atol=1e-9)  # float64 rounding


def test_numpy_and_torch_map_alike_and_keep_their_precision():
    window = Window(33.3, 44.4, 77.7, 127)
    boxes = np.random.default_rng(1).uniform(0, 100, (5, 4)).astype(np.float32)
    as_tensor = window.to_crop(torch.from_numpy(boxes))
    assert as_tensor.dtype == torch.float32
    assert window.to_crop(boxes).dtype == np.float32
    np.testing.assert_allclose(window.to_crop(boxes), as_tensor, rtol=1e-6)


def test_moved_shifts_in_frame_px_and_zooms_the_side():
    assert Window(10.0, 20.0, 50.0, 127).moved(dx=3, dy=-4, zoom=1.5) == Window(
        13.0, 16.0, 75.0, 127
    )


@pytest.mark.parametrize(
    "numbers", [(1, 1, 0, 8), (1, 1, -3, 8), (1, 1, 5, 0), (np.nan, 1, 5, 8), (1, 1, np.inf, 8)]
)
def test_a_window_that_shows_nothing_is_refused(numbers):
    with pytest.raises(ValueError, match="expected finite numbers and positive sizes"):
        Window(*numbers)


def test_exemplar_side_agrees_with_hand_worked_numbers():
    assert exemplar_side((100.0, 100.0)) == 200.0  # margin (100 + 100) / 2 on both axes
    # margin 50: sqrt((40 + 50) * (60 + 50)) = sqrt(9900)
    assert exemplar_side((40.0, 60.0)) == pytest.approx(sqrt(9900))
    assert exemplar_side((40.0, 90.0), context_amount=0.0) == 60.0  # sqrt(40 * 90)


def test_search_window_shows_the_target_at_the_exemplars_scale():
    box = np.array([10.0, 20.0, 50.0, 80.0])
    exemplar, search = exemplar_window(box, 127), search_window(box, 255, 127)
    assert (exemplar.cx, exemplar.cy) == (search.cx, search.cy) == (30.0, 50.0)
    assert exemplar.side == pytest.approx(sqrt(9900))
    assert search.side == pytest.approx(sqrt(9900) * 255 / 127)
    assert search.scale == pytest.approx(exemplar.scale)


def test_an_aligned_window_at_scale_one_copies_pixels():
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop(frame, Window(30, 25, 20, 20)), frame[15:35, 20:40])


@pytest.mark.parametrize(
    "window",
    [
        Window(60.0, 45.0, 40.0, 64),  # enlarged
        Window(60.3, 44.8, 37.7, 32),  # fractional, slightly reduced
        Window(41.25, 50.6, 60.0, 31),  # reduced by nearly two, odd size
        Window(3.0, 5.0, 40.0, 64),  # over the top left corner
        Window(118.0, 88.5, 30.0, 48),  # over the bottom right corner
        Window(60.0, 45.0, 150.0, 101),  # larger than the frame
    ],
)
def test_crop_agrees_with_a_slow_bilinear_reference(window):
    frame = smooth_frame()
    expected = slow_crop(frame, window, FILL)
    got = crop(frame, window, FILL).astype(float)
    difference = np.abs(got - expected)
    # OpenCV rounds positions to 1/32 px and values to integers. Where the frame ends the colour
    # jumps by up to 200 levels within one pixel, so there the same rounding weighs more.
    assert np.median(difference) <= 0.5
    assert difference.max() <= 0.5 + 200 / 32


@pytest.mark.parametrize("step", [0.37, 1.0, 1.7, 2.0, 2.9, 3.5, 5.2, 8.0])
@pytest.mark.parametrize("centre", [(60.0, 45.0), (57.7, 46.2)])
def test_no_scale_shifts_the_picture(step, centre):
    # Red counts columns, green rows, two levels a px: what a crop pixel shows says where it looked.
    y, x = np.mgrid[:90, :120]
    frame = np.stack([2 * x, 2 * y, 0 * x], axis=2).astype(np.uint8)
    size = 8
    shown = crop(frame, Window(*centre, step * size, size)).astype(float)
    looked_at = (np.arange(size) + 0.5 - size / 2) * step - 0.5  # pixel i is centred at i + 0.5
    off_x = shown[..., 0] - 2 * (centre[0] + looked_at)
    off_y = shown[..., 1] - 2 * (centre[1] + looked_at[:, None])
    for off in (off_x, off_y):
        assert np.abs(off).max() <= 1.1  # average and crop round by half a level each
        # At whole steps all crop pixels round alike, so the mean may be off by half a level too.
        # Mixing up pixel centres and corners would be at least 0.63 (at step 0.37).
        assert abs(off.mean()) < 0.55


@pytest.mark.parametrize("centre", [100.0, 100.5])
@pytest.mark.parametrize("side", [80.0, 160.0, 163.3])
def test_shrinking_averages_instead_of_skipping_pixels(centre, side):
    # Black and white columns in turn. Where crop pixels lie on the middle of frame pixels (half a
    # pixel off centre), skipping would show one of the two colours, or moiré.
    frame = np.zeros((200, 200, 3), np.uint8)
    frame[:, ::2] = 255
    shown = crop(frame, Window(centre, 100, side, 40))
    assert np.abs(shown.astype(float) - 127.5).max() <= 1


def test_shrunk_crop_ends_where_the_frame_ends():
    # The frame is white and 100 px wide; the window shows x from 60 to 140 at 4 px per crop px.
    frame = np.full((100, 100, 3), 255, np.uint8)
    shown = crop(frame, Window(100, 50, 80, 20), fill=np.zeros(3))
    assert (shown[:, :9] == 255).all()
    assert (shown[:, 11:] == 0).all()


def test_outside_the_frame_shows_the_mean_colour():
    frame = smooth_frame()
    mean = frame.reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(mean_colour(frame), mean)
    shown = crop(frame, Window(0, 45, 40, 40))  # the left half lies outside
    assert np.abs(shown[:, :19].astype(float) - mean).max() <= 1
    np.testing.assert_array_equal(shown[:, 20:], frame[25:65, :20])


@pytest.mark.parametrize("centre", [(-500, 45), (60, 900), (-500, -500), (700, 400)])
def test_a_window_wholly_outside_shows_only_the_fill(centre):
    shown = crop(smooth_frame(), Window(*centre, 50, 16), FILL)
    assert shown.shape == (16, 16, 3)
    assert (shown == FILL.astype(np.uint8)).all()


def test_a_window_far_below_a_pixel_shows_one_colour():
    frame = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    shown = crop(frame, Window(10.5, 7.5, 1e-3, 8))
    assert np.abs(shown.astype(int) - frame[7, 10].astype(int)).max() <= 1


def test_crop_leaves_the_frame_and_returns_uint8():
    frame = smooth_frame()
    before = frame.copy()
    shown = crop(frame, Window(50, 40, 200, 32))
    assert shown.dtype == np.uint8
    assert shown.shape == (32, 32, 3)
    np.testing.assert_array_equal(frame, before)


def test_a_target_is_where_the_map_says():
    # A bright square in the frame, found again in the crop by its map, at several scales.
    frame = np.zeros((240, 320, 3), np.uint8)
    box = np.array([120.0, 90.0, 180.0, 150.0])
    frame[90:150, 120:180] = 255
    for window in (
        Window(150, 120, 120, 127),
        Window(140, 130, 300, 101),
        Window(160, 110, 90, 255),
    ):
        bright = crop(frame, window)[..., 0] > 127
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        # 1: an edge falls inside a pixel, which is either counted or not.
        np.testing.assert_allclose(found, window.to_crop(box), atol=1.0)


def test_a_stretched_frame_maps_there_and_back():
    stretch = Stretch((40, 20), 80)
    box = np.array([10.0, 5, 30, 15])
    np.testing.assert_allclose(stretch.to_crop(box), [20, 20, 60, 60])
    np.testing.assert_allclose(stretch.to_frame(stretch.to_crop(box)), box)
    frame = np.zeros((20, 40, 3), np.uint8)
    frame[5:15, 10:30] = 255
    shown = stretch.shown(frame)
    assert shown.shape == (80, 80, 3)
    assert (shown[24:56, 24:56] == 255).all()
    assert (shown[:16] == 0).all()
