import pickle

import albumentations as alb
import numpy as np
import pytest

from datamodules.augment import CropAugmentation, Photometric, colour_jitter, hue_turn


def crop():
    return np.random.default_rng(0).integers(0, 256, (31, 31, 3), dtype=np.uint8)


def varied(options, seed=0, image=None):
    return Photometric(options)(crop() if image is None else image, np.random.default_rng(seed))


def changed(image, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, order=(0, 1, 2, 3)):
    mean = image.mean(axis=(0, 1))
    matrix = colour_jitter(np.eye(3, 4), mean, brightness, contrast, saturation, hue, order)
    return image @ matrix[:, :3].T + matrix[:, 3]


def test_nothing_asked_for_changes_nothing():
    np.testing.assert_array_equal(varied(CropAugmentation()), crop())


def test_grey_crops_have_equal_channels():
    found = varied(CropAugmentation(grey=1.0))
    assert (found[..., 0] == found[..., 1]).all()
    assert (found[..., 1] == found[..., 2]).all()
    # 0.299 R + 0.587 G + 0.114 B, rounded
    expected = crop() @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(found[..., 0], expected, atol=0.6)  # OpenCV: fixed point


def test_blur_smooths():
    assert varied(CropAugmentation(blur=1.0)).std() < 0.7 * crop().std()


def test_colour_jitters_pixels_and_keeps_their_order():
    found = varied(CropAugmentation(colour=1.0))
    assert np.abs(found.astype(int) - crop()).mean() > 2
    before, after = crop().mean(axis=2).ravel(), found.mean(axis=2).ravel()
    assert np.corrcoef(before, after)[0, 1] > 0.9


def test_changes_come_as_often_as_asked():
    image = np.full((9, 9, 3), (200, 90, 40), np.uint8)
    photometric = Photometric(CropAugmentation(grey=0.3, colour=0.5))
    rng = np.random.default_rng(0)
    crops = [photometric(image, rng)[0, 0].astype(int) for _ in range(600)]
    grey = np.mean([np.ptp(c) < 2 for c in crops])
    same = np.mean([(c == image[0, 0]).all() for c in crops])
    assert grey == pytest.approx(0.3, abs=0.06)  # three standard deviations
    assert same == pytest.approx(0.7 * 0.5, abs=0.06)


@pytest.mark.parametrize(
    ("name", "factor"), [("brightness", 1.2), ("contrast", 0.7), ("saturation", 1.3)]
)
def test_one_change_of_colour_is_that_of_albumentations(name, factor):
    # Values far from 0 and 255, so that nothing is cut off.
    image = np.random.default_rng(0).integers(90, 160, (31, 31, 3), dtype=np.uint8)
    limits = dict.fromkeys(("brightness", "contrast", "saturation"), (1.0, 1.0))
    limits[name] = (factor, factor)
    expected = alb.ColorJitter(**limits, hue=(0, 0), p=1)(image=image)["image"]
    # They round or cut the grey, the mean and the result to whole numbers.
    assert np.abs(changed(image, **{name: factor}) - expected).max() < 1.5


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 1, 3, 0)])
def test_changes_of_colour_are_applied_in_their_order(order):
    image = np.random.default_rng(0).uniform(90, 160, (31, 31, 3))
    found = changed(image, 1.2, 0.7, 1.25, 0.02, order)
    luma = np.array([0.299, 0.587, 0.114])
    steps = [
        lambda x: 1.2 * x,
        lambda x: 0.7 * x + 0.3 * (x @ luma).mean(),
        lambda x: 1.25 * x - 0.25 * (x @ luma)[..., None],
        lambda x: x @ hue_turn(0.02).T,
    ]
    expected = image
    for step in order:
        expected = steps[step](expected)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_grey_comes_before_the_change_of_colour():
    before = np.array([[0.2, 0.5, 0.3, 7.0]] * 3)
    image = np.random.default_rng(0).uniform(90, 160, (31, 31, 3))
    grey = image @ before[:, :3].T + before[:, 3]
    change = (1.2, 0.7, 1.25, 0.02, (1, 0, 3, 2))
    matrix = colour_jitter(before, image.mean(axis=(0, 1)), *change)
    found = image @ matrix[:, :3].T + matrix[:, 3]
    np.testing.assert_allclose(found, changed(grey, *change), atol=1e-9)


def test_hue_turns_about_grey():
    np.testing.assert_allclose(hue_turn(1 / 3) @ [9, 5, 2], [2, 9, 5])  # red becomes green
    np.testing.assert_allclose(hue_turn(0.07) @ [40, 40, 40], [40, 40, 40])
    np.testing.assert_allclose(hue_turn(0.02) @ hue_turn(-0.02), np.eye(3), atol=1e-12)


def test_hue_turns_the_way_of_albumentations():
    rng = np.random.default_rng(0)
    image = (128 + rng.integers(-20, 21, (64, 64, 3))).astype(np.uint8)
    turn = 11 / 360  # 5.5 of OpenCV's half degrees; they cut it to 5
    expected = alb.ColorJitter((1, 1), (1, 1), (1, 1), hue=(turn, turn), p=1)(image=image)["image"]
    ours, theirs = image @ hue_turn(turn).T - image, expected.astype(float) - image
    assert np.abs(ours).mean() == pytest.approx(np.abs(theirs).mean(), rel=0.25)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.5


def test_colour_varies_as_far_as_stated():
    image = np.full((4, 4, 3), 100, np.uint8)  # flat and grey: only brightness shows
    photometric = Photometric(CropAugmentation(colour=1.0))
    rng = np.random.default_rng(0)
    values = [photometric(image, rng)[0, 0, 0] for _ in range(400)]
    assert 70 <= min(values) <= 71
    assert 129 <= max(values) <= 130


def test_own_transforms_of_albumentations_are_applied():
    options = CropAugmentation(transforms=[alb.InvertImg(p=0.5)])
    inverted = [np.array_equal(varied(options, seed), 255 - crop()) for seed in range(60)]
    kept = [np.array_equal(varied(options, seed), crop()) for seed in range(60)]
    assert np.logical_xor(inverted, kept).all()
    assert 15 < sum(inverted) < 45


@pytest.mark.parametrize(
    "options",
    [
        CropAugmentation(colour=1.0),
        CropAugmentation(blur=1.0),
        CropAugmentation(transforms=[alb.GaussNoise(p=1)]),
    ],
)
def test_seeded(options):
    again = pickle.loads(pickle.dumps(Photometric(options)))  # as a worker gets it
    again(crop(), np.random.default_rng(8))  # another draw before must not matter
    np.testing.assert_array_equal(varied(options, 3), again(crop(), np.random.default_rng(3)))
    assert (varied(options, 3) != varied(options, 4)).any()


@pytest.mark.parametrize("kind", ["grey", "colour", "blur"])
def test_the_crop_given_is_not_changed(kind):
    image = crop()
    varied(CropAugmentation(**{kind: 1.0}), image=image)
    np.testing.assert_array_equal(image, crop())
