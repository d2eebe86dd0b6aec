import pytest
import torch

from lightning_trackers.methods.hnse.targets import (
    centerness,
    decode,
    encode,
    grid_points,
    map_origin,
    point_targets,
)

POINTS = grid_points(25, 8, 255)
BOXES = torch.tensor([[100.0, 90, 170, 160], [40, 60, 140, 100], [-20, 200, 40, 300]])


def test_points_of_a_map_over_the_whole_crop_are_equation_2():
    # X = floor(8 / 2) + 8 x
    points = grid_points(32, 8, 256)
    assert points[0, :3].tolist() == [[4, 4], [12, 4], [20, 4]]
    assert points[31, 5].tolist() == [4 + 8 * 5, 4 + 8 * 31]


def test_points_of_the_correlation_lie_around_the_middle_of_the_crop():
    assert map_origin(25, 8, 255) == 27.5
    assert POINTS[12, 12].tolist() == [127.5, 127.5]
    assert POINTS[0, 24].tolist() == [127.5 + 12 * 8, 127.5 - 12 * 8]


def test_distances_by_hand():
    ltrb = encode(torch.tensor([50.0, 60]), torch.tensor([30.0, 20, 90, 80]))
    assert ltrb.tolist() == [20, 40, 40, 20]


def test_distances_turn_back_into_the_box_from_every_place():
    ltrb = encode(POINTS, BOXES[:, None, None].expand(-1, 25, 25, -1)[0])
    boxes = decode(POINTS, ltrb)
    torch.testing.assert_close(boxes, BOXES[0].expand(25, 25, 4))


def test_centerness_by_hand():
    # sqrt(20 / 40 * 20 / 40) and sqrt(1 / 4 * 1)
    ltrb = torch.tensor([[20.0, 40, 40, 20], [10, 30, 40, 30]])
    torch.testing.assert_close(centerness(ltrb), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((60.0, 50.0), 1.0),  # centre
        ((30.0, 50.0), 0.0),  # on the left edge
        ((60.0, 80.0), 0.0),  # on the lower one
        ((90.0, 20.0), 0.0),  # on a corner
        ((95.0, 50.0), 0.0),  # beside the box
        ((95.0, 90.0), 0.0),  # outside on two sides: both ratios are negative, their product is not
    ],
)
def test_centerness_is_1_at_the_centre_and_0_from_the_edges_on(point, expected):
    ltrb = encode(torch.tensor(point), torch.tensor([30.0, 20, 90, 80]))
    assert centerness(ltrb).item() == expected


def test_centerness_falls_from_the_centre_outwards():
    points = torch.stack([torch.linspace(60, 89, 20), torch.full((20,), 50.0)], -1)
    values = centerness(encode(points, torch.tensor([30.0, 20, 90, 80]).expand(20, 4)))
    assert (values.diff() < 0).all()


def test_targets_equal_a_loop():
    targets = point_targets(POINTS, BOXES, torch.tensor([True, True, True]))
    for b, (x1, y1, x2, y2) in enumerate(BOXES.tolist()):
        for row in range(25):
            for column in range(25):
                x, y = 31.5 + 8 * column, 31.5 + 8 * row
                inside = x1 < x < x2 and y1 < y < y2
                assert targets.labels[b, row, column] == inside
                expected = 0.0
                if inside:
                    across = min(x - x1, x2 - x) / max(x - x1, x2 - x)
                    down = min(y - y1, y2 - y) / max(y - y1, y2 - y)
                    expected = (across * down) ** 0.5
                found = targets.centerness[b, row, column].item()
                assert found == pytest.approx(expected, abs=1e-6)
    # 31.5 + 8 k lies between the edges for 9 and 9, 12 and 5, 2 and 3 values of k.
    assert targets.labels.flatten(1).sum(1).tolist() == [81, 60, 6]


def test_nothing_is_positive_in_a_pair_of_two_targets():
    targets = point_targets(POINTS, BOXES[:1], torch.tensor([False]))
    assert targets.labels.sum() == 0
    assert targets.centerness.sum() == 0
