import copy

import numpy as np
import torch
from torch import nn

from lightning_trackers.ops.winograd import WinogradConv2d
from lightning_trackers.siamese import cosine_window, for_inference, normalise, to_images


def test_normalise_by_hand():
    images = torch.zeros(1, 3, 1, 1, dtype=torch.uint8) + 123
    expected = [(123 - 123.675) / 58.395, (123 - 116.28) / 57.12, (123 - 103.53) / 57.375]
    torch.testing.assert_close(normalise(images).flatten(), torch.tensor(expected))


def test_to_images_stacks_crops_in_order():
    crops = [np.full((5, 5, 3), value, dtype=np.uint8) for value in (10, 200)]
    images = to_images(crops, torch.zeros(1))
    assert images.shape == (2, 3, 5, 5)
    torch.testing.assert_close(images[1], normalise(torch.full((1, 3, 5, 5), 200))[0])


def test_cosine_window_is_numpy_s_outer_product():
    hann = np.hanning(17)
    np.testing.assert_allclose(cosine_window(17), np.outer(hann, hann), atol=1e-6)


def test_inference_copy_computes_the_same_and_leaves_the_original_alone():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net(images * 3 + 1)  # moves the running statistics away from their start
    before = copy.deepcopy(net.state_dict())
    prepared = for_inference(net)
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in prepared.modules())
    with torch.no_grad():
        torch.testing.assert_close(prepared(images), net.eval()(images), atol=1e-5, rtol=1e-5)


class Named(nn.Module):
    """A convolution and a norm named after each other, as in residual networks."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 2, 1)
        self.bn1 = nn.BatchNorm2d(4)

    def forward(self, images):
        return self.conv2(self.bn1(self.conv1(images)).relu())


def test_norms_named_after_convolutions_are_folded():
    net = Named()
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net(images * 3 + 1)
        prepared = for_inference(net)
        assert isinstance(prepared.bn1, nn.Identity)
        torch.testing.assert_close(prepared(images), net.eval()(images), atol=1e-5, rtol=1e-5)


def test_wide_convolutions_are_computed_with_fewer_multiplications():
    net = nn.Sequential(nn.Conv2d(3, 256, 3), nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, 8, 3))
    images = torch.randn(2, 3, 15, 12, generator=torch.Generator().manual_seed(0))
    prepared = for_inference(net)
    assert isinstance(prepared[0], WinogradConv2d)
    assert isinstance(prepared[3], nn.Conv2d)
    with torch.no_grad():
        torch.testing.assert_close(prepared(images), net.eval()(images), atol=1e-5, rtol=1e-5)


def test_convolutions_of_another_kind_stay():
    net = nn.Sequential(nn.Conv2d(3, 256, 3, stride=2), nn.Conv2d(256, 256, 1)).half()
    assert all(isinstance(layer, nn.Conv2d) for layer in for_inference(net))
    assert isinstance(for_inference(nn.Sequential(nn.Conv2d(3, 256, 3).half()))[0], nn.Conv2d)
