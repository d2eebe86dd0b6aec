import pytest
import torch

from lightning_trackers.backbones import AlexNet, Tiny

BACKBONES = [AlexNet(widths=(8, 8, 8, 8, 8)), AlexNet(2, (8, 8, 8, 8, 8)), Tiny(4, 8)]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("size", "cells"), [(127, 6), (255, 22), (287, 26)])
def test_cells_of_the_published_sizes(backbone, size, cells):
    features = backbone.eval()(torch.zeros(1, 3, size, size))
    assert features.shape == (1, backbone.out_channels, cells, cells)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_features_move_by_one_cell_per_stride(backbone):
    images = torch.randn(1, 3, 151, 151, generator=torch.Generator().manual_seed(0))
    stride = backbone.stride
    with torch.no_grad():
        features = backbone.eval()(images[..., : -2 * stride, : -2 * stride])
        moved = backbone(images[..., stride:-stride, stride:-stride])
    torch.testing.assert_close(moved[..., :-1, :-1], features[..., 1:, 1:])


def test_alexnet_has_the_size_of_siamfc_s_table():
    # conv1 11*11*3*96, conv2 5*5*48*256, conv3 3*3*256*384, conv4 3*3*192*384, conv5 3*3*192*256,
    # biases 96+256+384+384+256, batch norms twice that.
    convolutions = 34_848 + 307_200 + 884_736 + 663_552 + 442_368 + 1_376
    assert sum(p.numel() for p in AlexNet(groups=2).parameters()) == convolutions + 2 * 1_376
