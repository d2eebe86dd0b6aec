"""The weights that come with the package follow what was drawn here, not by the training's code."""

import cv2
import numpy as np
import pytest

from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.evaluation.tracker import LiveTracker
from lightning_trackers.methods.loading import SHIPPED, load_tracker


def video(count=25, growth=1.0, seed=0):
    """A patterned square that drifts over smooth coloured noise, and its boxes."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(60, 190, (30, 40, 3)).astype(np.uint8)
    background = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    pattern = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    frames, boxes = [], []
    for t in range(count):
        side = round(44 * growth**t)
        frame = background.copy()
        x, y = 70 + 3 * t, 60 + 2 * t
        tiles = cv2.resize(pattern, (side, side), interpolation=cv2.INTER_NEAREST)
        frame[y : y + side, x : x + side] = tiles
        frames.append(frame)
        boxes.append([x, y, x + side, y + side])
    return frames, np.array(boxes, dtype=np.float32)


@pytest.mark.parametrize("growth", [1.0, 1.015])
def test_follows_a_drawn_square(growth):
    frames, boxes = video(growth=growth)
    live = LiveTracker(load_tracker())
    live.init(frames[0], boxes[0])
    found = [live.update(frame) for frame in frames[1:]]
    overlaps = [iou_xyxy(p.box_xyxy, b) for p, b in zip(found, boxes[1:], strict=True)]
    assert np.mean(overlaps) > 0.7
    assert min(overlaps) > 0.5


def test_scores_fall_when_the_target_is_gone():
    frames, boxes = video()
    live = LiveTracker(load_tracker())
    live.init(frames[0], boxes[0])
    seen = [live.update(frame).score for frame in frames[1:10]]
    empty = np.full_like(frames[0], 120)
    assert live.update(empty).score < 0.5 * np.mean(seen)


def test_the_file_is_small_enough_to_ship():
    assert SHIPPED.stat().st_size < 5_000_000
