import pytest
import torch
from torch import nn

from lightning_trackers.backbones import VGG16

# torchvision's vgg16().features, from its published file: index of every convolution and its channels.
CONVOLUTIONS = {
    0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256,
    17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512,
}  # fmt: skip


def test_names_and_shapes_are_torchvision_s():
    with torch.device("meta"):
        state = VGG16(fc6=True).state_dict()
    expected = {}
    inputs = 3
    for index, channels in CONVOLUTIONS.items():
        expected[f"features.{index}.weight"] = (channels, inputs, 3, 3)
        expected[f"features.{index}.bias"] = (channels,)
        inputs = channels
    expected["classifier.0.weight"], expected["classifier.0.bias"] = (4096, 25088), (4096,)
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


@pytest.mark.parametrize(("pools", "stride"), [(2, 4), (4, 16), (0, 1)])
def test_each_kept_pool_doubles_the_stride(pools, stride):
    with torch.device("meta"):
        net = VGG16(("conv1_2", "conv5_3"), pools)
        shallow, deep = net(torch.empty(1, 3, 32, 48))
    assert net.stride == stride
    assert net.out_channels == (64, 512)
    assert shallow.shape == (1, 64, 32, 48)
    assert deep.shape == (1, 512, 32 // stride, 48 // stride)


def test_outputs_are_those_layers_after_the_relu():
    torch.manual_seed(0)
    net = VGG16(("conv1_2", "conv2_1"))
    images = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        x = images
        for index in (0, 2):
            conv = net.features[index]
            x = nn.functional.conv2d(x, conv.weight, conv.bias, padding=1).relu()
        conv = net.features[5]
        deep = nn.functional.max_pool2d(x, 2)
        deep = nn.functional.conv2d(deep, conv.weight, conv.bias, padding=1).relu()
        shallow, found = net(images)
    torch.testing.assert_close(shallow, x)
    torch.testing.assert_close(found, deep)
    assert len(net.features) == 7  # nothing above conv2_1 is made


def test_fc6_is_the_first_fully_connected_layer():
    with torch.device("meta"):
        net = VGG16(fc6=True)
        assert net.fc6(torch.empty(3, 512, 7, 7)).shape == (3, 4096)
        with pytest.raises(ValueError, match="expected fc6=True"):
            VGG16().fc6(torch.empty(3, 512, 7, 7))


@pytest.mark.parametrize("outputs", [(), ("conv5_3", "conv4_3"), ("conv6_1",), ("fc6",)])
def test_unknown_outputs_are_refused(outputs):
    with torch.device("meta"), pytest.raises(ValueError, match="expected rising outputs"):
        VGG16(outputs)


def test_five_pools_are_refused():
    with pytest.raises(ValueError, match="0 to 4 pools, got 5"):
        VGG16(pools=5)
