import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import nn

from lightning_trackers.backbones import VGGM
from lightning_trackers.backbones.vgg_m import NormalisedPool, read_matconvnet

SMALL = (4, 6, 8)


def reference(norm_size=2):
    """The same layers out of torch's own."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 7, 2), nn.ReLU(), nn.LocalResponseNorm(norm_size), nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 6, 5, 2), nn.ReLU(), nn.LocalResponseNorm(norm_size), nn.MaxPool2d(3, 2),
        nn.Conv2d(6, 8, 3), nn.ReLU(),
    )  # fmt: skip


@pytest.mark.parametrize("norm_size", [2, 5])
@pytest.mark.parametrize("learns", [True, False])
def test_it_is_torch_s_layers_in_py_mdnet_s_order(norm_size, learns):
    torch.manual_seed(0)
    network, other = VGGM(SMALL, norm_size), reference(norm_size)
    own = network.state_dict()
    other.load_state_dict(dict(zip(other.state_dict(), own.values(), strict=True)))
    images = 255 * torch.rand(2, 3, 107, 107) - 128
    with torch.set_grad_enabled(learns):
        found = network(images.contiguous(memory_format=torch.channels_last))
        assert found.shape == (2, 8, 3, 3)
        torch.testing.assert_close(found, other(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norm_and_pool_together_are_norm_and_pool_one_by_one(layout):
    # Large values, so that the norm matters: k + 1e-4 * mean square is far from k.
    features = 300 * torch.randn(3, 5, 11, 8, generator=torch.Generator().manual_seed(0))
    expected = nn.MaxPool2d(3, 2)(nn.LocalResponseNorm(2)(features.relu()))
    features = features.contiguous(memory_format=layout)
    before = features.clone()
    with torch.no_grad():
        torch.testing.assert_close(NormalisedPool(2)(features), expected)
    torch.testing.assert_close(NormalisedPool(2)(features.requires_grad_()), expected)
    assert torch.equal(features, before)


def test_features_begin_of_order_one_for_pixels():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 107, 107)).float() - 128
    assert 0.1 < float(VGGM(SMALL)(images).detach().std()) < 10


def test_py_mdnet_s_names_are_its_own_and_caffe_s_colours_are_turned_round():
    network = VGGM(SMALL)
    own = network.state_dict()
    assert network.from_imagenet(own | {"fc4.0.weight": torch.zeros(1)}).keys() == own.keys()
    caffe = {name.replace(".0.", "."): value for name, value in own.items()}
    found = network.from_imagenet(caffe)
    assert torch.equal(found["conv1.0.weight"], own["conv1.0.weight"].flip(1))
    assert torch.equal(found["conv2.0.weight"], own["conv2.0.weight"])


def test_matconvnet_s_file_is_read(tmp_path):
    own = VGGM(SMALL).state_dict()
    layers = []
    for i in (1, 2, 3):
        kernel = own[f"conv{i}.0.weight"].permute(2, 3, 1, 0).numpy()  # (H, W, I, O)
        bias = own[f"conv{i}.0.bias"].numpy()[:, None]
        weights = np.empty(2, dtype=object)
        weights[:] = [kernel, bias]
        layers += [{"type": "conv", "weights": weights}, {"type": "relu"}]
    savemat(tmp_path / "vgg-m.mat", {"layers": np.array(layers, dtype=object)})
    found = read_matconvnet(tmp_path / "vgg-m.mat")
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_matconvnet(tmp_path / "other.mat")
    savemat(tmp_path / "empty.mat", {"layers": np.array(layers[1:2], dtype=object)})
    with pytest.raises(ValueError, match="three convolutions"):
        read_matconvnet(tmp_path / "empty.mat")


def dense_reference():
    return nn.Sequential(
        nn.Conv2d(3, 4, 7, 2), nn.ReLU(), nn.LocalResponseNorm(2), nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 6, 5, 2), nn.ReLU(), nn.LocalResponseNorm(2),
        nn.Conv2d(6, 8, 3, dilation=3), nn.ReLU(),
    )  # fmt: skip


@pytest.mark.parametrize("learns", [True, False])
def test_dense_features_have_no_second_pool_and_a_dilated_third_convolution(learns):
    torch.manual_seed(0)
    network, other = VGGM(SMALL, dense=True), dense_reference()
    own = network.state_dict()
    other.load_state_dict(dict(zip(other.state_dict(), own.values(), strict=True)))
    images = 255 * torch.rand(1, 3, 131, 107) - 128
    with torch.set_grad_enabled(learns):
        found = network(images.contiguous(memory_format=torch.channels_last))
        assert found.shape == (1, 8, 8, 5)
        torch.testing.assert_close(found, other(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("dense", "stride"), [(False, 16), (True, 8)])
def test_cell_i_looks_at_75_px_from_stride_times_i_on(dense, stride):
    torch.manual_seed(0)
    network = VGGM(SMALL, dense=dense).double()
    assert network.stride == stride
    image = (100 * torch.rand(1, 3, 107, 171).double()).requires_grad_()
    features = network(image)
    assert network(image[..., :75, :75]).shape[2:] == (1, 1)
    reached = 0
    for i, j in ((0, 0), (1, 3)):
        (slope,) = torch.autograd.grad(features[0, :, i, j].sum(), image, retain_graph=True)
        rows, columns = slope.abs().sum((0, 1)).nonzero().T
        for low, seen in ((stride * i, rows), (stride * j, columns)):
            assert low <= seen.min()
            assert seen.max() < low + network.receptive_field
            reached = max(reached, int(seen.max() - seen.min()) + 1)
    assert reached > 60  # max pools and ReLUs let few paths through


def test_both_kinds_take_the_same_published_weights():
    weights = VGGM(SMALL).state_dict()
    VGGM(SMALL, dense=True).load_state_dict(weights)
