import pytest
import torch
from torch import nn

from lightning_trackers.ops.winograd import WinogradConv2d, transforms


def draw(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def test_two_outputs_of_three_taps_by_hand():
    inputs, kernel, outputs = transforms(2, 3)
    # Points 0, 1, -1 and infinity: the kernel 1 + 2x + 3x^2 has the values 1, 6, 2 there and leads
    # with 3; Lagrange's denominators are (0-1)(0+1) = -1, (1-0)(1+1) = 2 and (-1-0)(-1-1) = 2.
    found = kernel @ torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert found.tolist() == [-1, 3, 1, 3]
    # Correlation of 1 2 3 with 4 5 6 7: 4 + 10 + 18 and 5 + 12 + 21.
    data = torch.tensor([4.0, 5.0, 6.0, 7.0], dtype=torch.float64)
    assert (outputs @ (found * (inputs @ data))).tolist() == [32, 38]


@pytest.mark.parametrize(
    ("tile", "kernel_size"), [(1, 2), (2, 3), (3, 3), (4, 3), (2, 5), (4, 5), (6, 3)]
)
def test_transforms_make_correlation_a_product(tile, kernel_size):
    inputs, kernel, outputs = transforms(tile, kernel_size)
    data, taps = draw(tile + kernel_size - 1), draw(kernel_size)
    expected = data.unfold(0, kernel_size, 1) @ taps
    torch.testing.assert_close(outputs @ ((kernel @ taps) * (inputs @ data)), expected)


# Outputs of one partial tile, whole tiles, and whole tiles beside partial ones.
@pytest.mark.parametrize("size_hw", [(6, 7), (10, 14), (17, 9)])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_convolution(size_hw, kernel_size, bias):
    conv = nn.Conv2d(3, 5, kernel_size, bias=bias).double()
    images = draw(2, 3, *size_hw)
    with torch.no_grad():
        torch.testing.assert_close(WinogradConv2d(conv)(images), conv(images))


# Tiles of many small images go through the products together; the last group is partial.
def test_many_small_images_equal_the_convolution():
    conv = nn.Conv2d(3, 5, 3).double()
    images = draw(130, 3, 5, 5)
    module = WinogradConv2d(conv)
    assert 1 < module._together(images) < 130
    assert module._together(draw(2, 3, 40, 40)) == 1
    with torch.no_grad():
        torch.testing.assert_close(module(images), conv(images))


# ResNet's: 31 cells, padding as wide as the dilation; and uneven sizes with other padding.
@pytest.mark.parametrize(
    ("dilation", "padding", "size_hw"),
    [(1, 1, (31, 31)), (2, 2, (31, 31)), (4, 4, (31, 31)), (2, 0, (9, 14)), (3, 1, (13, 8))],
)
def test_equals_the_padded_and_dilated_convolution(dilation, padding, size_hw):
    conv = nn.Conv2d(3, 5, 3, padding=padding, dilation=dilation).double()
    images = draw(2, 3, *size_hw)
    with torch.no_grad():
        torch.testing.assert_close(WinogradConv2d(conv)(images), conv(images))


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_float32_is_as_exact_as_the_convolution(kernel_size):
    conv = nn.Conv2d(64, 32, kernel_size).double()
    images = draw(1, 64, 20, 20)
    with torch.no_grad():
        exact = conv(images)
        found = WinogradConv2d(conv.float())(images.float())
        # The direct convolution is within 4e-7 of the largest value, this one within 3e-6.
        assert (found - exact).abs().max() < 1e-5 * exact.abs().max()


def test_memory_is_channels_last_and_weights_are_not_trainable():
    conv = nn.Conv2d(4, 4, 3)
    layer = WinogradConv2d(conv)
    assert layer(draw(1, 4, 9, 9, dtype=torch.float32)).is_contiguous(
        memory_format=torch.channels_last
    )
    assert not list(layer.parameters())
    assert conv.weight.requires_grad


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"padding": (0, 1)},
        {"dilation": (1, 2)},
        {"groups": 2},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "reflect"},
    ],
)
def test_other_convolutions_are_refused(options):
    with pytest.raises(ValueError, match="expected a square kernel"):
        WinogradConv2d(nn.Conv2d(4, 4, 3, **options))


def test_too_many_points_are_refused():
    with pytest.raises(ValueError, match=r"tile \+ kernel size in 3\.\.9, got 7 and 3"):
        transforms(7, 3)
