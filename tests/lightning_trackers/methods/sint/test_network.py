import pytest
import torch

from lightning_trackers.backbones import VGG16, TinyVGG
from lightning_trackers.methods.sint import SINTNetwork
from lightning_trackers.ops import roi_pool
from lightning_trackers.siamese import normalise


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SINTNetwork(TinyVGG(4, pool=3, hidden=10), pool=3).eval()


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, 64, 80), generator=generator, dtype=torch.uint8)


BOXES = torch.tensor([[[8.0, 8, 40, 40], [20, 10, 60, 50]], [[0, 0, 80, 64], [30, 30, 44, 50]]])


def unit(x):
    return x / x.norm()


def test_three_parts_of_unit_length_and_unit_length_again(network, images):
    vectors = network.embed(images, BOXES)
    assert vectors.shape == (2, 2, 16 * 9 + 16 * 9 + 10)
    levels = network.backbone(normalise(images))
    for b in range(2):
        for n in range(2):
            one = BOXES[b : b + 1, n : n + 1]
            pooled = [roi_pool(x[b : b + 1], one, 3, 1 / 4)[0, 0] for x in levels]
            parts = [unit(x.flatten()) for x in pooled]
            parts.append(unit(network.backbone.fc6(pooled[1][None])[0]))
            # Three unit vectors together have the length of the root of 3.
            torch.testing.assert_close(vectors[b, n], torch.cat(parts) / 3**0.5)


def test_cosines_are_in_0_to_1(network, images):
    vectors = network.embed(images, BOXES).flatten(0, 1)
    cosines = vectors @ vectors.T
    torch.testing.assert_close(cosines.diagonal(), torch.ones(4))
    assert (cosines >= 0).all()
    assert cosines[0, 1] < 0.999


def test_bytes_and_normalised_floats_are_the_same_image(network, images):
    vectors = network.embed(images, BOXES)
    torch.testing.assert_close(vectors, network.embed(normalise(images), BOXES))


def test_first_level_is_handed_out_as_it_is(network, images):
    levels = network.levels(images)
    found = network.regions(levels, BOXES).first_level
    torch.testing.assert_close(found, roi_pool(levels[0], BOXES, 3, 1 / 4).flatten(2))


def test_vgg16_gives_vectors_of_54272_values(monkeypatch):
    with torch.device("meta"):
        network = SINTNetwork(VGG16(fc6=True))
    length = sum(c * network.pool**2 for c in network.backbone.out_channels)
    assert length + network.backbone.classifier[0].out_features == 54272
    assert network.backbone.classifier[0].in_features == 512 * network.pool**2
    assert network.stride == 4
