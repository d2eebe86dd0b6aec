import pytest
import torch

from lightning_trackers.backbones import VGGM
from lightning_trackers.methods.rtmdnet import RTMDNet
from lightning_trackers.ops import adaptive_roi_align
from lightning_trackers.siamese import for_inference


def test_a_box_of_the_target_s_size_has_3_by_3_cells_of_features(network):
    # 107 px with a margin, 128.4 px, hold 7.7 cells of 75 px; 7 bins, and a pool makes them 3.
    scene = torch.zeros(1, 3, 300, 260, dtype=torch.uint8)
    maps = network.maps(scene)
    assert maps.shape == (1, 12, (300 - 75) // 8 + 1, (260 - 75) // 8 + 1)
    boxes = torch.tensor([[[50.0, 50, 157, 157], [10, 10, 60, 90]]])
    assert network.features(maps, boxes).shape == (1, 2, 12 * 9)
    assert network.head.inputs == 12 * 9
    assert RTMDNet(VGGM(dense=True)).head.inputs == 4608  # as fc4 of MDNet


def test_bins_lie_over_the_cells_that_look_into_the_padded_box(network):
    # A box of 100 px at (40, 60), padded (30, 50) to (150, 170). Cell i looks at [8 i, 8 i + 75): the
    # cells 30 / 8 = 3.75 to (150 - 75) / 8 = 9.375 along x, 6.25 to 11.875 along y. As edges of
    # cells, half a cell further on both sides, with cell i at i + 0.5: 3.75 to 10.375 and 6.25 to 12.875.
    maps = torch.randn(1, 12, 22, 18, generator=torch.Generator().manual_seed(0))
    cells = torch.tensor([[[3.75, 6.25, 10.375, 12.875]]])
    pooled = torch.nn.functional.max_pool2d(adaptive_roi_align(maps, cells, 7)[0], 3, 2)
    found = network.features(maps, torch.tensor([[[40.0, 60, 140, 160]]]))
    torch.testing.assert_close(found[0], pooled.flatten(1), atol=1e-5, rtol=1e-5)


def test_features_see_the_padded_box_and_nothing_else(network):
    network = network.double()
    scene = (255 * torch.rand(1, 3, 260, 260, generator=torch.Generator().manual_seed(0))).double()
    scene.requires_grad_()
    box = torch.tensor([[[80.0, 90, 187, 197]]]).double()
    network.features(network.backbone(scene - 128), box).sum().backward()
    rows, columns = scene.grad.abs().sum((0, 1)).nonzero().T
    # 10.7 px of margin, and what the interpolation at both ends reaches: less than a cell of 8 px.
    assert columns.min() > 80 - 10.7 - 8
    assert columns.max() < 187 + 10.7 + 8
    assert rows.min() > 90 - 10.7 - 8
    assert rows.max() < 197 + 10.7 + 8
    assert columns.max() - columns.min() > 107


def test_a_box_smaller_than_a_receptive_field_takes_the_cell_in_its_middle(network):
    maps = torch.arange(20.0).expand(1, 12, 20, 20).contiguous()
    # Its middle at 8 * 10 + 37.5 is cell 10's; bins of 1/7 cell around it differ by less than half.
    found = network.features(maps, torch.tensor([[[112.5, 112.5, 122.5, 122.5]]]))
    assert (found - 10).abs().max() <= 0.5


def test_moving_scene_and_box_by_a_stride_changes_nothing(network):
    scene = torch.randint(0, 256, (1, 3, 280, 280), generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[[70.0, 60, 180, 170]]])
    with torch.no_grad():
        found = network.features(network.maps(scene), box)
        moved = network.features(
            network.maps(scene[..., 16:, 8:]), box - torch.tensor([8.0, 16, 8, 16])
        )
    torch.testing.assert_close(found, moved, atol=1e-4, rtol=1e-3)


def test_the_copy_for_tracking_gives_the_same_features():
    torch.manual_seed(0)
    network = RTMDNet(VGGM((8, 16, 256), dense=True), hidden=8)  # wide enough for fewer products
    scene = torch.randint(0, 256, (1, 3, 180, 180), dtype=torch.uint8)
    box = torch.tensor([[[30.0, 30, 137, 137]]])
    with torch.no_grad():
        expected = network.features(network.maps(scene), box)
        fast = for_inference(network)
        torch.testing.assert_close(
            fast.features(fast.maps(scene), box), expected, atol=1e-4, rtol=1e-3
        )


@pytest.mark.parametrize("wrong", [{"pooled": 2}, {"padding": 0.9}])
def test_bad_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="pooled >= 3 and padding >= 1"):
        RTMDNet(VGGM((4, 4, 4), dense=True), **wrong)
