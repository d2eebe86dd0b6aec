import pytest
import torch

from lightning_trackers.methods.sintpp.occlusion import Action, cover, draw_boxes, move_boxes

LIMITS = {"step": 0.2, "min_side": 0.1, "max_side": 0.6}


def one(action, box, **limits):
    moved = move_boxes(torch.tensor([box]), torch.tensor([action]), **(LIMITS | limits))
    return moved[0].tolist()


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        # A box 0.4 wide and 0.2 high with its centre at (0.5, 0.5); a step is 0.2 of its sides.
        (Action.RIGHT, [0.38, 0.4, 0.78, 0.6]),
        (Action.LEFT, [0.22, 0.4, 0.62, 0.6]),
        (Action.DOWN, [0.3, 0.44, 0.7, 0.64]),
        (Action.UP, [0.3, 0.36, 0.7, 0.56]),
        (Action.LARGER, [0.26, 0.38, 0.74, 0.62]),  # 0.48 × 0.24
        (Action.SMALLER, [1 / 3, 5 / 12, 2 / 3, 7 / 12]),  # 1/3 × 1/6
        (Action.WIDER, [0.26, 5 / 12, 0.74, 7 / 12]),  # 0.48 × 1/6, the same area
        (Action.TALLER, [1 / 3, 0.38, 2 / 3, 0.62]),
        (Action.TERMINATE, [0.3, 0.4, 0.7, 0.6]),
    ],
)
def test_each_action_does_what_figure_4_shows(action, expected):
    assert one(action, [0.3, 0.4, 0.7, 0.6]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_actions_keep_every_box_inside_the_picture_and_its_sides_within_limits(seed):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor([[0.35, 0.35, 0.65, 0.65]]).repeat(64, 1)
    seen = boxes.clone()
    for _ in range(60):
        actions = torch.randint(8, (64,), generator=generator)
        actions[:8] = torch.arange(8)  # always the same move: into each wall
        boxes = move_boxes(boxes, actions, 0.2, 0.1, 0.6)
        sides = boxes[:, 2:] - boxes[:, :2]
        assert boxes.min() >= 0
        assert boxes.max() <= 1
        assert sides.min() > 0.1 - 1e-6
        assert sides.max() < 0.6 + 1e-6
        seen = torch.cat([seen, boxes])
    assert seen.min() < 1e-6
    assert seen.max() > 1 - 1e-6


def test_moves_do_not_change_what_they_are_given():
    boxes = torch.tensor([[0.3, 0.4, 0.7, 0.6]])
    move_boxes(boxes, torch.tensor([0]), **LIMITS)
    torch.testing.assert_close(boxes, torch.tensor([[0.3, 0.4, 0.7, 0.6]]))


def test_drawn_boxes_have_their_area_and_lie_anywhere_inside():
    areas = torch.linspace(0.04, 0.36, 500)
    boxes = draw_boxes(areas, torch.Generator().manual_seed(0), min_side=0.15, max_side=0.6)
    sides = boxes[:, 2:] - boxes[:, :2]
    torch.testing.assert_close(sides.prod(dim=1), areas, atol=1e-5, rtol=1e-4)
    assert sides.min() > 0.15 - 1e-5
    assert sides.max() < 0.6 + 1e-5
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert (centres.mean(dim=0) - 0.5).abs().max() < 0.03
    assert centres.min() < 0.2
    assert centres.max() > 0.8


@pytest.mark.parametrize("area", [0.01, 0.5])
def test_an_area_that_no_box_can_have_is_refused(area):
    with pytest.raises(ValueError, match=r"expected areas from 0\.0225 to 0\.3600"):
        draw_boxes(torch.tensor([area]), torch.Generator(), min_side=0.15, max_side=0.6)


def test_covering_copies_the_patch_pixel_by_pixel():
    generator = torch.Generator().manual_seed(0)
    target, background = torch.randint(0, 256, (2, 1, 3, 8, 8), generator=generator).byte()
    region = torch.tensor([[1, 2, 5, 6]]) / 8
    patch = torch.tensor([[3, 4, 7, 8]]) / 8
    covered = cover(target, region, background, patch)
    expected = target.clone()
    expected[0, :, 2:6, 1:5] = background[0, :, 4:8, 3:7]
    assert torch.equal(covered, expected)


def test_a_patch_is_stretched_over_its_region():
    background = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    background[..., 4:] = 200  # the right half
    target = torch.full((1, 3, 8, 8), 9, dtype=torch.uint8)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    half = torch.tensor([[0.0, 0.0, 1.0, 0.5]])
    covered = cover(target, half, background, whole)
    assert torch.equal(covered[:, :, :4], background[:, :, :4])
    assert torch.equal(covered[:, :, 4:], target[:, :, 4:])


def test_each_target_gets_its_own_patch():
    targets = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    backgrounds = torch.stack([torch.full((3, 4, 4), v, dtype=torch.uint8) for v in (10, 20)])
    regions = torch.tensor([[0.0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    covered = cover(targets, regions, backgrounds, regions)
    assert covered[0, 0].tolist() == [[10, 10, 0, 0], [10, 10, 0, 0], [0] * 4, [0] * 4]
    assert covered[1, 0].tolist() == [[0] * 4, [0] * 4, [0, 0, 20, 20], [0, 0, 20, 20]]
