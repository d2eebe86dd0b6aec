"""Parts of a frame that are looked at once for many boxes in them.

A scene is stretched so that the target is a square of a network's usual size in it, whatever its shape
in the frame. Both sides use continuous edges (see ``boxes.py``).

Source: Jung et al., Real-Time MDNet, ECCV 2018, Section 3.1.
"""

from dataclasses import dataclass

import numpy as np

from lightning_trackers.boxes import xyxy_to_cxcywh
from lightning_trackers.crops import shown

# A box of up to 1.5 times the target's size lies in a scene where its centre may.
_LARGEST = 1.5


@dataclass(frozen=True)
class Scene:
    """Which part of a frame is shown, and how.

    Args:
        corner: Left and upper edge, frame px, shape ``(2,)``.
        steps: Frame px per scene px, shape ``(2,)``.
        size_wh: Width and height, scene px.
    """

    corner: np.ndarray
    steps: np.ndarray
    size_wh: tuple[int, int]

    def to_scene(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Map boxes from frame to scene pixels, shape ``(..., 4)``."""
        boxes: np.ndarray = (boxes_xyxy - np.tile(self.corner, 2)) / np.tile(self.steps, 2)
        return boxes

    def shown(self, frame: np.ndarray, fill: np.ndarray) -> np.ndarray:
        """Return the part of a frame, uint8 RGB; ``fill`` is the colour outside of it."""
        left, top = (float(v) for v in self.corner)
        step_x, step_y = (float(v) for v in self.steps)
        return shown(frame, (left, top), (step_x, step_y), self.size_wh, fill)


def scene_of(region_xyxy: np.ndarray, target_wh: np.ndarray, size: float, least: int) -> Scene:
    """Return the scene of a region.

    Args:
        region_xyxy: What it has to show, shape ``(4,)``, frame px.
        target_wh: Width and height of the target, frame px, shape ``(2,)``.
        size: Both of them in the scene, scene px.
        least: Smallest side of the scene, scene px.
    """
    steps = np.asarray(target_wh, dtype=np.float64) / size
    corner, end = np.asarray(region_xyxy, dtype=np.float64).reshape(2, 2)
    width, height = np.maximum(least, np.ceil((end - corner) / steps)).astype(int)
    return Scene(corner, steps, (int(width), int(height)))


def scene_around(
    box_xyxy: np.ndarray,
    target_wh: np.ndarray,
    frame_wh: tuple[int, int],
    reach: float,
    padding: float,
    size: float,
    least: int,
) -> Scene:
    """Return the scene that holds the boxes which an online tracker looks at around a target.

    It ends where the boxes do whose centres lie in the frame.

    Args:
        box_xyxy: Where the target was last seen, shape ``(4,)``, frame px.
        target_wh: Its size, frame px, shape ``(2,)``.
        frame_wh: Width and height of the frame, px.
        reach: How far centres of boxes lie from the target's, relative to the mean of its width and
            height.
        padding: Size of what is looked at for a box, relative to the box.
        size: Width and height of the target in the scene, scene px.
        least: Smallest side of the scene, scene px.
    """
    limit = np.array(frame_wh, dtype=np.float64)
    target_wh = np.asarray(target_wh, dtype=np.float64)
    centre = np.clip(xyxy_to_cxcywh(np.asarray(box_xyxy, dtype=np.float64))[:2], 0, limit)
    far, margin = reach * target_wh.mean(), _LARGEST * padding * target_wh / 2
    region = np.concatenate(
        [np.maximum(centre - far, 0) - margin, np.minimum(centre + far, limit) + margin]
    )
    return scene_of(region, target_wh, size, least)


def padded(boxes_xyxy: np.ndarray, padding: float) -> np.ndarray:
    """Return boxes with both sides multiplied by ``padding``, shape ``(..., 4)``."""
    centre = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
    half = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]) * (padding / 2)
    return np.concatenate([centre - half, centre + half], axis=-1)
