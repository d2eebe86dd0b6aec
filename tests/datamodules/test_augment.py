import numpy as np
import pytest

from datamodules.augment import CropAugmentation, Photometric


def crop():
    return np.random.default_rng(0).integers(0, 256, (31, 31, 3), dtype=np.uint8)


def varied(options, seed=0):
    return Photometric(options, options)(crop(), "search", np.random.default_rng(seed))


def test_nothing_asked_for_changes_nothing():
    np.testing.assert_array_equal(varied(CropAugmentation()), crop())


def test_grey_crops_have_equal_channels():
    found = varied(CropAugmentation(grey=1.0))
    assert (found[..., 0] == found[..., 1]).all()
    assert (found[..., 1] == found[..., 2]).all()
    assert found.std() > 10


def test_blur_smooths():
    assert varied(CropAugmentation(blur=1.0)).std() < 0.7 * crop().std()


def test_colour_changes_pixels_and_keeps_their_order():
    found = varied(CropAugmentation(colour=1.0))
    assert np.abs(found.astype(int) - crop()).mean() > 2
    before, after = crop().mean(axis=2).ravel(), found.mean(axis=2).ravel()
    assert np.corrcoef(before, after)[0, 1] > 0.9


@pytest.mark.parametrize("options", [CropAugmentation(colour=1.0), CropAugmentation(blur=1.0)])
def test_seeded(options):
    np.testing.assert_array_equal(varied(options, 3), varied(options, 3))
    assert (varied(options, 3) != varied(options, 4)).any()


def test_the_crop_given_is_not_changed():
    image = crop()
    Photometric(CropAugmentation(), CropAugmentation(grey=1.0))(
        image, "search", np.random.default_rng(0)
    )
    np.testing.assert_array_equal(image, crop())
