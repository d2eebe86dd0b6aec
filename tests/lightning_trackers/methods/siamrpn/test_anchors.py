import pytest
import torch

from lightning_trackers.methods.siamrpn.anchors import anchor_sides, decode, encode, grid_anchors


def test_sides_in_whole_cells_are_those_of_the_toolkit():
    # int(8 / sqrt(r)) and int(that * r), times 8: r = 1/3 -> 13, 4; 1/2 -> 11, 5; 2 -> 5, 10; 3 -> 4, 12.
    sides = anchor_sides([0.33, 0.5, 1, 2, 3], scale=8, stride=8)
    assert sides == [(104, 32), (88, 40), (64, 64), (40, 80), (32, 96)]


def test_exact_sides_have_one_area_and_the_ratio():
    for (width, height), ratio in zip(
        anchor_sides([0.33, 0.5, 1, 2, 3], 8, 8, whole_cells=False),
        [0.33, 0.5, 1, 2, 3],
        strict=True,
    ):
        assert width * height == pytest.approx(64**2)
        assert height / width == pytest.approx(ratio)


def test_grid_lies_around_the_centre_of_the_crop():
    anchors = grid_anchors([(10, 20)], cells=3, stride=8, search_size=255)
    assert anchors.shape == (1, 3, 3, 4)
    assert anchors[0, 1, 1].tolist() == [127.5, 127.5, 10, 20]
    assert anchors[0, 0, 2].tolist() == [135.5, 119.5, 10, 20]  # row 0 is above, column 2 right


def test_grid_equals_a_loop():
    sides = [(8.0, 4.0), (4.0, 8.0)]
    anchors = grid_anchors(sides, cells=4, stride=2, search_size=31)
    for a, (width, height) in enumerate(sides):
        for row in range(4):
            for column in range(4):
                expected = [15.5 + (column - 1.5) * 2, 15.5 + (row - 1.5) * 2, width, height]
                assert anchors[a, row, column].tolist() == expected


def test_decode_undoes_encode():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(5, 4, generator=generator, dtype=torch.float64) * 50 + 10
    anchors = torch.rand(5, 4, generator=generator, dtype=torch.float64) * 50 + 10
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes)


def test_decode_stays_finite_for_an_untrained_network():
    box = decode(torch.tensor([0.0, 0, 500, -500]), torch.tensor([10.0, 5, 12, 4]))
    assert box.tolist() == pytest.approx([10, 5, 64 * 12, 0])


def test_encode_by_hand():
    # Centre 6 px right of an anchor 12 wide: 0.5; twice as high: log 2.
    offsets = encode(torch.tensor([16.0, 5, 12, 8]), torch.tensor([10.0, 5, 12, 4]))
    torch.testing.assert_close(offsets, torch.tensor([0.5, 0, 0, 0.6931472]))
