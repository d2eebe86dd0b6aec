import numpy as np
import pytest

from lightning_trackers.box_sampling import boxes_by_overlap, gaussian_boxes, uniform_boxes

BOX = np.array([100.0, 50, 140, 110])  # 40 × 60 around (120, 80): the mean side is 50
COUNT = 20_000


def parts(boxes):
    wh = boxes[:, 2:] - boxes[:, :2]
    return (boxes[:, :2] + boxes[:, 2:]) / 2 - (120, 80), wh / (40, 60)


def test_gaussian_boxes_have_the_paper_s_spread():
    boxes = gaussian_boxes(np.random.default_rng(0), BOX, COUNT, translation=0.6, scale=1.05)
    offset, size = parts(boxes)
    # MDNet: standard deviation 0.3 of the mean side, here 15 px, and 0.5 in the power of 1.05. Cut
    # off at two deviations, which leaves 0.959 of a deviation (numerical integral of the
    # clipped normal distribution).
    np.testing.assert_allclose(offset.std(axis=0), 15 * 0.959, rtol=0.02)
    np.testing.assert_allclose(np.log(size).std(axis=0) / np.log(1.05), 0.5 * 0.959, rtol=0.02)
    np.testing.assert_allclose(offset.mean(axis=0), 0, atol=0.5)
    assert np.abs(offset).max() == pytest.approx(30)  # 0.6 of the mean side: the limit is reached
    assert size.max() == pytest.approx(1.05)
    np.testing.assert_allclose(size[:, 0], size[:, 1])  # no change of shape
    assert abs(np.corrcoef(offset.T)[0, 1]) < 0.03


def test_uniform_boxes_fill_their_range_evenly():
    boxes = uniform_boxes(np.random.default_rng(0), BOX, COUNT, translation=2, scale=1.6)
    offset, size = parts(boxes)
    for values in (offset[:, 0] / 100, offset[:, 1] / 100, np.log(size[:, 0]) / np.log(1.6)):
        share, _ = np.histogram(values, bins=8, range=(-1, 1))
        np.testing.assert_allclose(share / COUNT, 1 / 8, atol=0.01)  # four standard deviations


@pytest.mark.parametrize("draw", [gaussian_boxes, uniform_boxes])
def test_aspect_changes_the_shape_and_not_the_area(draw):
    boxes = draw(np.random.default_rng(0), BOX, 500, translation=0, scale=1, aspect=1.2)
    _, size = parts(boxes)
    np.testing.assert_allclose(size.prod(axis=1), 1)
    assert size[:, 0].max() == pytest.approx(1.2, abs=0.01)
    assert size[:, 0].min() == pytest.approx(1 / 1.2, abs=0.01)


@pytest.mark.parametrize("draw", [gaussian_boxes, uniform_boxes])
def test_limits_of_the_frame_hold(draw):
    box = np.array([1.0, 2, 9, 150])
    boxes = draw(np.random.default_rng(0), box, 500, translation=2, scale=3, frame_wh=(200, 160))
    wh, centre = boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2
    assert np.isfinite(boxes).all()
    assert (wh > 10 - 1e-9).all()
    assert (wh < [190 + 1e-9, 150 + 1e-9]).all()
    assert ((centre >= 0) & (centre <= [200, 160])).all()


def test_the_same_generator_gives_the_same_boxes():
    draws = [
        gaussian_boxes(np.random.default_rng(s), BOX, 5, translation=1, scale=2) for s in (3, 3, 4)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def slow_overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize(("low", "high"), [(0.7, 1.0), (0.0, 0.5), (0.3, 0.6)])
def test_boxes_by_overlap_are_those_that_a_loop_chooses(low, high):
    def draw_from(rng):
        return lambda count: uniform_boxes(rng, BOX, count, translation=0.5, scale=1.3)

    found = boxes_by_overlap(draw_from(np.random.default_rng(0)), BOX, 60, low, high)
    draw, expected = draw_from(np.random.default_rng(0)), []
    while len(expected) < 60:
        expected += [box for box in draw(120) if low <= slow_overlap(box, BOX) <= high]
    np.testing.assert_array_equal(found, expected[:60])


def test_what_cannot_be_found_is_not_returned():
    same = lambda count: np.tile(BOX, (count, 1))  # noqa: E731
    assert boxes_by_overlap(same, BOX, 5, high=0.5).shape == (0, 4)
    assert boxes_by_overlap(same, BOX, 5, low=0.7).shape == (5, 4)
