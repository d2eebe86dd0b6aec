import pytest
import torch
from torch.nn import functional

from lightning_trackers.backbones import Tiny
from lightning_trackers.methods.dslt import DSLT, Maps, StridedResNet50, TinyLevels
from lightning_trackers.methods.dslt.network import aligned, correlate
from tests.lightning_trackers.methods.dslt.drawn import Patches, network


def random_maps(targets=2, samples=3, channels=6, cells=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = (targets, samples, channels, cells, cells + 2)
    return Maps(*(torch.randn(size, generator=generator) for _ in range(2)))


def random_weights(net, targets, kernel=(3, 5), seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn((targets, *value.shape), generator=generator)
        for name, value in net.initial_weights(kernel).items()
    }


@pytest.mark.parametrize("kernel", [(1, 1), (3, 5), (13, 3)])
def test_correlate_is_a_padded_convolution_of_each_target(kernel):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn((2, 3, 4, 9, 11), generator=generator)
    kernels = torch.randn((2, 4, *kernel), generator=generator)
    found = correlate(kernels, maps)
    padding = (kernel[0] // 2, kernel[1] // 2)
    for t in range(2):
        expected = functional.conv2d(maps[t], kernels[t, None], padding=padding)[:, 0]
        torch.testing.assert_close(found[t], expected, rtol=1e-4, atol=1e-4)


def test_the_response_peaks_where_a_shifted_target_is():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn((4, 5, 3), generator=generator)  # R, Kh, Kw
    maps = 0.1 * torch.randn((1, 1, 4, 15, 17), generator=generator)
    maps[0, 0, :, 3:8, 9:12] = target  # its middle in row 5, column 10
    response = correlate(target[None], maps)[0, 0]
    assert divmod(int(response.argmax()), 17) == (5, 10)


def test_response_adds_both_depths_by_hand():
    net = network(channels=1)
    weights = {
        "reduce_shallow": torch.tensor([[[2.0, 0, 0, 0, 0, 0]]]),
        "reduce_deep": torch.tensor([[[0, 3.0, 0, 0, 0, 0]]]),
        "regress_fused": torch.full((1, 1, 1, 1), 0.5),
        "regress_deep": torch.full((1, 1, 1, 1), 10.0),
    }
    maps = Maps(torch.ones(1, 1, 6, 2, 2), torch.ones(1, 1, 6, 2, 2))
    reduced = net.reduced(weights, maps)
    assert reduced.shallow.unique().tolist() == [5]  # 2 + 3: fused before the regression
    # 0.5 * (2 + 3) + 10 * 3
    assert net.responses(weights, reduced).unique().tolist() == [32.5]


@pytest.mark.parametrize(("features", "responses"), [(True, True), (False, True), (True, False)])
def test_connections_are_there_or_not(features, responses):
    net = network(connect_features=features, connect_responses=responses)
    maps = random_maps()
    weights = random_weights(net, 2)
    assert ("regress_deep" in weights) == responses
    other = Maps(maps.shallow, maps.deep + 1)
    fused, changed = (net.reduced(weights, m) for m in (maps, other))
    assert torch.equal(fused.shallow, changed.shallow) != features
    silent = weights | {"regress_fused": torch.zeros_like(weights["regress_fused"])}
    assert bool((net.responses(silent, fused) == 0).all()) != responses


def test_targets_and_samples_do_not_see_each_other():
    net = network()
    maps, weights = random_maps(), random_weights(net, 2)
    together = net.responses(weights, net.reduced(weights, maps))
    for t in range(2):
        for n in range(3):
            own = {name: value[t : t + 1] for name, value in weights.items()}
            one = Maps(*(m[t : t + 1, n : n + 1] for m in maps))
            alone = net.responses(own, net.reduced(own, one))[0, 0]
            torch.testing.assert_close(together[t, n], alone, rtol=1e-4, atol=1e-4)


def ramp(cells, first, step):
    """Return maps whose values are the x of each cell."""
    return (first + step * torch.arange(float(cells))).expand(1, 1, cells, cells)


@pytest.mark.parametrize(
    ("shallow", "deep", "upsampling"),
    [
        (ramp(9, 0, 8), ramp(5, 0, 16), 2),  # padded convolutions: first cells lie on each other
        (ramp(8, 4, 8), ramp(4, 8, 16), 2),  # pooling: a cell of 16 px over two of 8 px
        (ramp(9, 0, 8), ramp(5, 16, 8), 1),  # one stride, the deep map unpadded
    ],
)
def test_aligned_maps_agree_on_where_their_cells_are(shallow, deep, upsampling):
    found = aligned(Maps(shallow, deep), upsampling)
    assert found.shallow.shape == found.deep.shape
    inside = (..., slice(1, -1))  # interpolation repeats a pooled map's border
    assert torch.allclose(found.shallow[inside], found.deep[inside])


def test_a_new_target_begins_with_the_shared_reductions_and_no_response():
    net = network()
    weights = net.initial_weights((3, 5))
    assert {name: tuple(v.shape) for name, v in weights.items()} == {
        "reduce_shallow": (8, 6),
        "reduce_deep": (8, 6),
        "regress_fused": (8, 3, 5),
        "regress_deep": (8, 3, 5),
    }
    assert torch.equal(weights["reduce_deep"], net.reduce_deep.weight[:, :, 0, 0])
    weights["reduce_deep"] += 1
    assert not torch.equal(weights["reduce_deep"], net.reduce_deep.weight[:, :, 0, 0])
    assert not any(p.requires_grad for p in DSLT(Patches()).parameters())


def test_bad_networks_are_refused():
    with pytest.raises(ValueError, match="backbone of two maps, got out_channels=4 of Tiny"):
        DSLT(Tiny(2, 4))
    with pytest.raises(ValueError, match="no use without any connection"):
        DSLT(Patches(), connect_features=False, connect_responses=False)


def test_tiny_levels_are_tiny_s_features():
    torch.manual_seed(0)
    tiny, levels = Tiny(4, 6).eval(), TinyLevels(4, 6).eval()
    levels.load_state_dict(tiny.state_dict())
    images = torch.randn(1, 3, 263, 263)
    shallow, deep = levels(images)
    assert torch.equal(deep, tiny(images))
    assert (shallow.shape, deep.shape) == ((1, 12, 31, 31), (1, 6, 23, 23))
    assert levels.out_channels == (12, 6)


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return StridedResNet50().eval()


def test_the_resnet_has_torchvision_s_weights(resnet):
    shapes = {name: tuple(v.shape) for name, v in resnet.state_dict().items()}
    assert shapes["layer2.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert shapes["layer3.0.downsample.0.weight"] == (1024, 512, 1, 1)
    assert shapes["layer3.5.conv3.weight"] == (1024, 256, 1, 1)
    assert not any(name.startswith("layer4") for name in shapes)
    assert DSLT(resnet).upsampling == 2
    published = {n: v.clone() for n, v in resnet.state_dict().items()}
    published |= {"fc.weight": torch.zeros(1), "layer4.0.conv1.weight": torch.zeros(1)}
    assert resnet.from_imagenet(published).keys() == shapes.keys()


def test_the_resnet_s_maps_have_strides_8_and_16_and_one_middle(resnet):
    torch.manual_seed(0)
    images = torch.randn(1, 3, 129, 129)
    with torch.no_grad():
        shallow, deep = resnet(images)
        # 16 px to the right: two cells of 8 px, one of 16 px; far from the border.
        moved = resnet(images.roll(16, dims=3))
    assert (shallow.shape[1:], deep.shape[1:]) == ((512, 17, 17), (1024, 9, 9))
    near = moved[0][..., 8, 9] - shallow[..., 8, 7]
    assert near.abs().max() < 0.05 * shallow[..., 8, 7].abs().max()
    # What lies in the image's middle pixel reaches the middle cells more than their neighbours.
    images.requires_grad_()
    for found in resnet(images):
        middle = found[0, :, found.shape[2] // 2, found.shape[3] // 2].sum()
        seen = torch.autograd.grad(middle, images, retain_graph=True)[0].abs().sum(1)[0]
        places = torch.arange(129.0)
        assert float((seen.sum(0) * places).sum() / seen.sum()) == pytest.approx(64, abs=3)
        assert float((seen.sum(1) * places).sum() / seen.sum()) == pytest.approx(64, abs=3)
