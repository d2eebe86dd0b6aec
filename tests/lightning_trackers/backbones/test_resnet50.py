import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, max_pool2d

from lightning_trackers.backbones import DilatedResNet, ResNet50, TinyResNet

# The toolkit's table, written out: stride, padding and dilation of the 3 x 3 convolution of the first
# and of the other bottlenecks of each layer; the shortcut's kernel.
TABLE = {
    "layer1": ((1, 1, 1), (1, 1, 1), 1),
    "layer2": ((2, 0, 1), (1, 1, 1), 3),
    "layer3": ((1, 1, 1), (1, 2, 2), 3),
    "layer4": ((1, 2, 2), (1, 4, 4), 3),
}


def reference(images, state, blocks):
    """The network from weights and table alone."""

    def conv_norm(x, conv, norm, *geometry):
        x = conv2d(x, state[f"{conv}.weight"], None, *geometry)
        statistics = (state[f"{norm}.running_mean"], state[f"{norm}.running_var"])
        return batch_norm(x, *statistics, state[f"{norm}.weight"], state[f"{norm}.bias"])

    x = max_pool2d(conv_norm(images, "conv1", "bn1", 2, 0).relu(), 3, 2, 1)
    found = []
    for (layer, (first, other, kernel)), count in zip(TABLE.items(), blocks, strict=True):
        for b in range(count):
            name, geometry = f"{layer}.{b}", first if b == 0 else other
            y = conv_norm(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = conv_norm(y, f"{name}.conv2", f"{name}.bn2", *geometry).relu()
            y = conv_norm(y, f"{name}.conv3", f"{name}.bn3")
            if b == 0:
                shortcut = f"{name}.downsample"
                assert state[f"{shortcut}.0.weight"].shape[-2:] == (kernel, kernel)
                geometry = first if kernel == 3 else (1, 0, 1)
                x = conv_norm(x, f"{shortcut}.0", f"{shortcut}.1", *geometry)
            x = (x + y).relu()
        found.append(x)
    return found[1:]


def untrained(blocks=(2, 2, 2, 2), width=2):
    torch.manual_seed(0)
    net = DilatedResNet(blocks, width)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # not the identity
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return net.eval()


def test_equals_the_table():
    net = untrained()
    images = torch.randn(2, 3, 127, 127)
    with torch.no_grad():
        expected = reference(images, net.state_dict(), (2, 2, 2, 2))
        for ours, theirs in zip(net(images), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_resnet50_is_the_table_with_its_blocks_and_channels():
    with torch.device("meta"):  # shapes alone
        net = ResNet50()
        assert [f.shape[1] for f in net(torch.empty(1, 3, 127, 127))] == [512, 1024, 2048]
    assert net.out_channels == (512, 1024, 2048)
    assert [len(net.get_submodule(layer)) for layer in TABLE] == [3, 4, 6, 3]
    for layer, (first, other, kernel) in TABLE.items():
        for b, block in enumerate(net.get_submodule(layer)):
            conv = block.conv2
            geometry = (conv.stride[0], conv.padding[0], conv.dilation[0])
            assert geometry == (first if b == 0 else other)
        assert net.get_submodule(layer)[0].downsample[0].kernel_size == (kernel, kernel)
    # He et al. count 25,557,032 with the classifier's 2,049,000; the 3 x 3 shortcuts of layers 2 to 4
    # have 8 more taps of 256 * 512, 512 * 1024 and 1024 * 2048.
    taps = 8 * (256 * 512 + 512 * 1024 + 1024 * 2048)
    assert sum(p.numel() for p in net.parameters()) == 25_557_032 - 2_049_000 + taps


@pytest.mark.parametrize(("size", "cells"), [(127, 15), (191, 23), (255, 31), (287, 35)])
def test_all_three_outputs_have_stride_8(size, cells):
    features = TinyResNet(2).eval()(torch.zeros(1, 3, size, size))
    assert [f.shape[-2:] for f in features] == [(cells, cells)] * 3
    assert TinyResNet.stride == 8


def test_features_move_by_one_cell_per_stride_away_from_the_padded_border():
    net = untrained((1, 1, 1, 1))
    images = torch.randn(1, 3, 263, 263)
    with torch.no_grad():
        features = net(images[..., :-8, :-8])
        moved = net(images[..., 8:, 8:])
    for one, other in zip(moved, features, strict=True):
        torch.testing.assert_close(one[..., 10:20, 10:20], other[..., 11:21, 11:21])


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("size", [127, 191])
def test_cells_lie_evenly_around_the_middle_pixel(size, axis):
    net = untrained().double()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):  # kernels that are their own mirror image
            module.weight.data += module.weight.data.flip(axis)
    images = torch.randn(1, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        for mirrored, features in zip(net(images.flip(axis)), net(images), strict=True):
            torch.testing.assert_close(mirrored, features.flip(axis))


def test_layers_above_the_last_output_are_not_made():
    net = DilatedResNet((1, 1, 1, 1), 2, outputs=(2, 3))
    assert not hasattr(net, "layer4")
    assert net.out_channels == (16, 32)
    assert len(net(torch.zeros(1, 3, 127, 127))) == 2


@pytest.mark.parametrize("outputs", [(), (3, 2), (1, 2), (2, 2), (5,)])
def test_outputs_that_are_no_layers_are_refused(outputs):
    with pytest.raises(ValueError, match="expected rising outputs out of 2, 3, 4"):
        DilatedResNet((1, 1, 1, 1), 2, outputs)


def test_four_counts_of_blocks_are_needed():
    with pytest.raises(ValueError, match="four positive counts"):
        DilatedResNet((1, 1, 1), 2)
