import numpy as np
import pytest
import torch
from torch import nn

from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.evaluation.tracker import LiveTracker
from lightning_trackers.methods.siamfc import SiamFC, SiamFCSettings, SiamFCTracker
from lightning_trackers.siamese import for_inference


class Patches(nn.Module):
    """Features that are the image itself in cells of 8 px, so correlation is template matching."""

    stride = 8
    out_channels = 3

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(8 + 7, 8)  # 127 -> 15 cells, 255 -> 31
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, images):
        features = self.pool(images * self.one)
        # Unit length everywhere: the response is the cosine of the angle between patches.
        return nn.functional.normalize(features, dim=1)


def tracker(**settings):
    return SiamFCTracker(for_inference(SiamFC(Patches(), 1.0)), SiamFCSettings(**settings))


def video(count=12, size=40, growth=1.0, seed=0):
    """A square of coloured tiles that moves 4 px a frame over grey noise, and its boxes."""
    rng = np.random.default_rng(seed)
    tiles = np.kron(rng.integers(0, 256, (5, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    background = rng.integers(110, 140, (200, 260, 3)).astype(np.uint8)
    frames, boxes = [], []
    for t in range(count):
        side = round(size * growth**t)
        frame = background.copy()
        x, y = 60 + 4 * t, 70 + 2 * t
        index = np.arange(side) * 40 // side
        frame[y : y + side, x : x + side] = tiles[index][:, index]
        frames.append(frame)
        boxes.append([x, y, x + side, y + side])
    return frames, np.array(boxes, dtype=np.float32)


def follow(live, frames, box):
    live.init(frames[0], box)
    return [live.update(frame) for frame in frames[1:]]


def test_follows_a_drawn_square():
    frames, boxes = video()
    found = follow(LiveTracker(tracker()), frames, boxes[0])
    overlaps = [iou_xyxy(p.box_xyxy, b) for p, b in zip(found, boxes[1:], strict=True)]
    assert min(overlaps) > 0.7


def test_follows_the_growth_of_a_square():
    frames, boxes = video(growth=1.03)
    found = follow(LiveTracker(tracker()), frames, boxes[0])
    grown = found[-1].box_xyxy[2] - found[-1].box_xyxy[0]
    still = follow(LiveTracker(tracker()), video()[0], boxes[0])[-1].box_xyxy
    assert grown > 1.1 * (still[2] - still[0])


def test_one_scale_keeps_the_size():
    frames, boxes = video(growth=1.03)
    found = follow(LiveTracker(tracker(scales=1)), frames, boxes[0])
    sizes = [p.box_xyxy[2:] - p.box_xyxy[:2] for p in found]
    np.testing.assert_allclose(sizes, 40, rtol=1e-5)


def test_the_centre_of_the_response_means_no_motion():
    response = torch.zeros(1, 3, 17, 17)
    response[0, 1, 8, 8] = 5
    [scale], [(dx, dy)], [score] = tracker()._peaks(response)
    # 272 fine cells have no middle one: the peak lies half a fine cell (0.25 px) off.
    assert (scale, abs(dx), abs(dy)) == (1, 0.25, 0.25)
    assert score == pytest.approx(torch.sigmoid(torch.tensor(5.0)).item(), abs=1e-3)


def test_a_cell_to_the_right_is_eight_px():
    response = torch.zeros(1, 1, 17, 17)
    response[0, 0, 8, 10] = 5
    [(dx, dy)] = tracker(scales=1)._peaks(response).offsets
    assert dx == pytest.approx(16, abs=0.5)
    assert dy == pytest.approx(0, abs=0.5)


def test_a_changed_scale_must_win_by_its_penalty():
    response = torch.zeros(1, 3, 17, 17)
    response[0, 1, 8, 8] = 1.0
    response[0, 2, 8, 8] = 1.02  # times 0.9745 it is below 1
    assert tracker()._peaks(response).scale_index == 1
    response[0, 2, 8, 8] = 1.04
    assert tracker()._peaks(response).scale_index == 2


def test_grouping_does_not_change_results():
    videos = [video(seed=s) for s in range(3)]
    shared = tracker()
    alone = [follow(LiveTracker(shared), frames, boxes[0]) for frames, boxes in videos]
    states = [shared.start(frames[0], boxes[0]) for frames, boxes in videos]
    for t in range(1, 12):
        together = shared.step(states, [frames[t] for frames, _ in videos])
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[t - 1].box_xyxy, other.box_xyxy, atol=1e-5)


def test_a_new_target_forgets_the_old_one():
    frames, boxes = video()
    live = LiveTracker(tracker())
    first = follow(live, frames, boxes[0])
    follow(live, frames[::-1], boxes[-1])
    again = follow(live, frames, boxes[0])
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.box_xyxy, other.box_xyxy)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="odd number of scales"):
        SiamFCSettings(scales=2)
    with pytest.raises(ValueError, match="search_size > exemplar_size"):
        SiamFCSettings(search_size=100)
    with pytest.raises(ValueError, match="window_influence"):
        SiamFCSettings(window_influence=2)
