"""Boxes that an agent moves, and the pasting of a background patch over a part of a target.

A box here is a share of a square picture: edges in [0, 1] from its left and upper border.

Source: Wang et al., SINT++, CVPR 2018, Section 4.2.1 and Figure 4; Caicedo and Lazebnik, Active Object
Localization with Deep Reinforcement Learning, ICCV 2015, Section 3.1 (moves relative to the box).
"""

from enum import IntEnum

import torch
from torch import Tensor

from lightning_trackers.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh


class Action(IntEnum):
    """Eight moves and the end of a search, in the order of the Q-network's outputs."""

    RIGHT = 0
    LEFT = 1
    DOWN = 2
    UP = 3
    LARGER = 4
    SMALLER = 5
    WIDER = 6
    TALLER = 7
    TERMINATE = 8


# What a move adds to the centre, in steps of the box's own sides (x, y), and the powers of
# ``1 + step`` that multiply its width and height.
_EFFECTS = {
    Action.RIGHT: (1, 0, 0, 0),
    Action.LEFT: (-1, 0, 0, 0),
    Action.DOWN: (0, 1, 0, 0),
    Action.UP: (0, -1, 0, 0),
    Action.LARGER: (0, 0, 1, 1),
    Action.SMALLER: (0, 0, -1, -1),
    Action.WIDER: (0, 0, 1, -1),
    Action.TALLER: (0, 0, -1, 1),
    Action.TERMINATE: (0, 0, 0, 0),
}


def move_boxes(
    boxes_xyxy: Tensor, actions: Tensor, step: float, min_side: float, max_side: float
) -> Tensor:
    """Return boxes after an action each; every box lies inside the picture.

    A translation moves a box by ``step`` of its own width or height. A change of scale multiplies
    both sides by ``1 + step`` or divides them; a change of aspect multiplies one side and divides the
    other, so that the area stays. Sides are then limited, and a box that sticks out is pushed back.

    Args:
        boxes_xyxy: Boxes, shape ``(N, 4)``, shares of the picture.
        actions: One :class:`Action` each, int64, shape ``(N,)``.
        step: Size of a move, share of the box.
        min_side: Smallest side, share of the picture.
        max_side: Largest side, share of the picture.

    Returns:
        Boxes, shape ``(N, 4)``.
    """
    table = boxes_xyxy.new_tensor([_EFFECTS[action] for action in Action])
    effect = table[actions]  # (N, 4)
    boxes = xyxy_to_cxcywh(boxes_xyxy)
    centre = boxes[:, :2] + step * effect[:, :2] * boxes[:, 2:]
    sides = (boxes[:, 2:] * (1 + step) ** effect[:, 2:]).clamp(min_side, max_side)
    centre = centre.clamp(sides / 2, 1 - sides / 2)
    # Rounding may leave an edge at -1e-9 or 1 + 1e-8.
    return cxcywh_to_xyxy(torch.cat([centre, sides], dim=1)).clamp(0, 1)


def draw_boxes(
    areas: Tensor, generator: torch.Generator, min_side: float, max_side: float
) -> Tensor:
    """Draw boxes of given areas anywhere in the picture.

    The logarithm of the aspect ratio is uniform between what the limits of the sides allow.

    Args:
        areas: Shares of the picture's area, shape ``(N,)``.
        generator: Source of chance, on the CPU.
        min_side: Smallest side, share of the picture.
        max_side: Largest side, share of the picture.

    Returns:
        Boxes, shape ``(N, 4)``, shares of the picture.

    Raises:
        ValueError: If a box of such an area cannot have such sides.
    """
    slack = 1 + 1e-4  # areas of boxes at the limits, rounded
    if not bool(((areas * slack >= min_side**2) & (areas <= max_side**2 * slack)).all()):
        raise ValueError(
            f"occlusion: expected areas from {min_side**2:.4f} to {max_side**2:.4f} of the picture, "
            f"got {areas.min():.4f} to {areas.max():.4f}"
        )
    chance = torch.rand(len(areas), 3, generator=generator).to(areas)
    narrowest = (areas / max_side).clamp(min=min_side)
    widest = (areas / min_side).clamp(max=max_side)
    width = narrowest * (widest / narrowest) ** chance[:, 0]
    sides = torch.stack([width, areas / width], dim=1)  # (N, 2)
    corner = chance[:, 1:] * (1 - sides)
    return torch.cat([corner, corner + sides], dim=1).clamp(0, 1)


def cover(targets: Tensor, boxes_xyxy: Tensor, backgrounds: Tensor, patches_xyxy: Tensor) -> Tensor:
    """Paste a patch of each background over a region of each target.

    A pixel belongs to the region if its centre does.

    Args:
        targets: Pictures of targets, uint8, shape ``(N, 3, S, S)``.
        boxes_xyxy: What to cover, shape ``(N, 4)``, shares of the target's picture.
        backgrounds: Where patches come from, uint8, shape ``(N, 3, S', S')``.
        patches_xyxy: The patches, shape ``(N, 4)``, shares of the background's picture.

    Returns:
        Occluded targets, uint8, shape ``(N, 3, S, S)``; the inputs stay as they are.
    """
    size = targets.shape[-1]
    centres = (torch.arange(size, device=targets.device) + 0.5) / size  # (S,)
    low, high = boxes_xyxy[:, :2, None], boxes_xyxy[:, 2:, None]  # (N, 2, 1)
    inside = (centres >= low) & (centres < high)  # (N, 2, S), along x and along y
    share = (centres - low) / (high - low)
    source = (
        patches_xyxy[:, :2, None] + share * (patches_xyxy[:, 2:] - patches_xyxy[:, :2])[..., None]
    )
    place = source * 2 - 1  # (N, 2, S), grid_sample's axes run from -1 to 1
    shape = (len(targets), size, size)
    grid = torch.stack(
        [place[:, 0, None, :].expand(shape), place[:, 1, :, None].expand(shape)], dim=-1
    )  # (N, S, S, 2)
    patch = torch.nn.functional.grid_sample(
        backgrounds.float(), grid, padding_mode="border", align_corners=False
    )
    covered = inside[:, 0, None, :] & inside[:, 1, :, None]  # (N, S, S)
    return torch.where(covered[:, None], patch.round().to(torch.uint8), targets)
