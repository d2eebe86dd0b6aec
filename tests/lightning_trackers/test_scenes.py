import numpy as np
import pytest

from lightning_trackers.scenes import Scene, padded, scene_around, scene_of

FILL = np.full(3, 128.0)


def test_the_target_becomes_a_square_of_the_wanted_size():
    box = np.array([100.0, 50, 140, 60])  # 40 × 10
    scene = scene_of(np.array([80.0, 40, 180, 70]), np.array([40.0, 10]), 107, 75)
    x1, y1, x2, y2 = scene.to_scene(box)
    assert (x2 - x1, y2 - y1) == pytest.approx((107, 107))
    assert (x1, y1) == pytest.approx((20 * 107 / 40, 10 * 107 / 10))
    assert scene.size_wh == (268, 321)  # 100 * 2.675 = 267.5, 30 * 10.7 = 321


def test_what_is_shown_lies_where_to_scene_says():
    frame = np.zeros((80, 120, 3), dtype=np.uint8)
    frame[30:40, 60:80] = 255
    scene = scene_of(np.array([50.0, 25, 100, 60]), np.array([20.0, 10]), 60, 75)
    picture = scene.shown(frame, FILL)
    assert picture.shape == (scene.size_wh[1], scene.size_wh[0], 3)
    x1, y1, x2, y2 = scene.to_scene(np.array([60.0, 30, 80, 40]))
    bright = picture[..., 0] > 127
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    assert (columns[0], columns[-1] + 1) == pytest.approx((x1, x2), abs=1)
    assert (rows[0], rows[-1] + 1) == pytest.approx((y1, y2), abs=1)


def test_outside_the_frame_is_filled():
    frame = np.zeros((40, 40, 3), dtype=np.uint8)
    picture = scene_of(np.array([-20.0, 0, 40, 40]), np.array([20.0, 20]), 40, 1).shown(frame, FILL)
    assert (picture[:, :38] == 128).all()
    assert (picture[2:-2, 42:-2] == 0).all()


def test_the_surroundings_hold_the_boxes_whose_centres_are_within_reach():
    box, wh = np.array([200.0, 100, 240, 120]), np.array([40.0, 20])
    scene = scene_around(box, wh, (640, 360), 2.0, 1.2, 107, 75)
    far, margin = 2.0 * 30, 0.9 * wh  # mean of the sides 30 px; 1.5 * 1.2 / 2 = 0.9
    np.testing.assert_allclose(scene.corner, [220 - far - margin[0], 110 - far - margin[1]])
    step = wh / 107
    np.testing.assert_allclose(scene.steps, step)
    assert scene.size_wh == tuple(np.ceil(2 * (far + margin) / step).astype(int))


def test_they_end_where_boxes_do_and_are_never_empty():
    wh = np.array([40.0, 40])
    scene = scene_around(np.array([-10.0, 150, 30, 190]), wh, (200, 180), 10.0, 1.2, 107, 75)
    np.testing.assert_allclose(scene.corner, [-36, -36])
    far_end = scene.corner + np.array(scene.size_wh) * scene.steps
    np.testing.assert_allclose(far_end, [236, 216], atol=40 / 107)
    # The frame has become smaller, and the target's last place lies outside of it.
    scene = scene_around(np.array([500.0, 500, 540, 540]), wh, (200, 180), 1.0, 1.2, 107, 75)
    assert min(scene.size_wh) >= 75
    assert (scene.corner < [200, 180]).all()


def test_a_scene_is_never_smaller_than_the_network_needs():
    assert scene_of(np.array([0.0, 0, 1, 1]), np.array([10.0, 10]), 107, 75).size_wh == (75, 75)


def test_padding_keeps_the_centre():
    np.testing.assert_allclose(padded(np.array([[10.0, 20, 30, 60]]), 1.5), [[5, 10, 35, 70]])


def test_boxes_keep_their_overlap():
    scene = Scene(np.array([3.0, 5.0]), np.array([0.5, 2.0]), (10, 10))
    boxes = scene.to_scene(np.array([[3.0, 5, 4, 9], [3.5, 5, 4, 7]]))
    np.testing.assert_allclose(boxes, [[0, 0, 2, 2], [1, 0, 2, 1]])
