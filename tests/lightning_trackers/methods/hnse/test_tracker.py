from functools import partial
from math import exp, sqrt

import numpy as np
import pytest
import torch
from torch import nn

from lightning_trackers.backbones import TinyResNet
from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.heads import FCOSHead, Kernels, PointMaps
from lightning_trackers.methods import load_tracker
from lightning_trackers.methods.hnse import HNSE, HNSESettings, HNSETracker
from lightning_trackers.methods.hnse.targets import centerness, encode, grid_points
from lightning_trackers.methods.loading import build
from lightning_trackers.proposal_tracker import size_change
from lightning_trackers.siamese import for_inference


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks gain nothing from threads, which wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Oracle(nn.Module):
    """Stands in for the network: knows that the target is what is bright in the search image."""

    stride = 8
    boxes_xyxy = HNSE.boxes_xyxy

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def exemplar(self, images):
        return Kernels(torch.zeros(1, 1), torch.zeros(1, 1))

    def track(self, images, kernels):
        size = images.shape[-1]
        points = grid_points(25, 8, size)
        maps = []
        for image in images:
            rows, columns = (image.mean(0) > 1.5).nonzero().unbind(1)
            box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            ltrb = encode(points, box.float().expand(25, 25, 4))
            inside = ltrb.amin(-1) > 0
            maps.append(
                (
                    torch.where(inside, 9.0, -9.0),
                    torch.logit(centerness(ltrb), eps=1e-4),
                    (ltrb.clamp(min=1) / 8).log(),
                )
            )
        return PointMaps(*(torch.stack(m) for m in zip(*maps, strict=True)))


def square_video(count=25, step=(4.0, 2.0), growth=1.02):
    """A bright rectangle on grey that moves and grows; frames and boxes."""
    centre, half = np.array([80.0, 90.0]), np.array([22.0, 16.0])
    frames, boxes = [], []
    for t in range(count):
        frame = np.full((240, 320, 3), 90, np.uint8)
        middle, reach = centre + t * np.array(step), half * growth**t
        x1, y1 = np.rint(middle - reach).astype(int)
        x2, y2 = np.rint(middle + reach).astype(int)
        frame[y1:y2, x1:x2] = 255
        frames.append(frame)
        boxes.append([x1, y1, x2, y2])
    return frames, np.array(boxes, dtype=float)


def test_a_drawn_square_is_followed_in_place_and_size():
    frames, boxes = square_video()
    tracker = HNSETracker(Oracle(), HNSESettings(size_lr=1.0, window_influence=0.3))
    state = tracker.start(frames[0], boxes[0])
    found = [tracker.step([state], [frame])[0] for frame in frames[1:]]
    overlaps = iou_xyxy(np.array([p.box_xyxy for p in found], float), boxes[1:])
    assert overlaps.min() > 0.8
    assert min(p.score for p in found) > 0.5


class Scripted(nn.Module):
    """Answers what the test writes, at 8 px a cell."""

    stride = 8
    boxes_xyxy = HNSE.boxes_xyxy

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.maps = PointMaps(
            torch.full((1, 25, 25), -20.0), torch.zeros(1, 25, 25), torch.zeros(1, 25, 25, 4)
        )

    def exemplar(self, images):
        return Kernels(torch.zeros(1, 1), torch.zeros(1, 1))

    def track(self, images, kernels):
        return self.maps

    def answer(self, row, column, logit, centerness_logit, ltrb):
        self.maps.cls_logits[0, row, column] = logit
        self.maps.centerness_logits[0, row, column] = centerness_logit
        self.maps.log_ltrb[0, row, column] = (torch.tensor(ltrb) / 8).log()


def scripted(**settings):
    """A tracker at the centre (160, 120) of a frame, with 1 crop px per frame px.

    The target of 63.5 × 63.5 px has an exemplar window of 127 px, so the crop's scale is 1.
    """
    tracker = HNSETracker(Scripted(), HNSESettings(**settings))
    frame = np.zeros((240, 320, 3), np.uint8)
    box = np.array([160, 120, 160, 120]) + np.array([-1, -1, 1, 1]) * 31.75
    return tracker, tracker.start(frame, box), frame


def test_place_size_and_score_by_hand():
    tracker, state, frame = scripted(window_influence=0, scale_penalty=0.16, size_lr=0.5)
    # Two columns right of the middle, at (176, 120). Score 1/2, centre-ness 3/4.
    tracker.network.answer(12, 14, 0.0, float(np.log(3)), [63.5, 31.75, 63.5, 31.75])
    prediction = tracker.step([state], [frame])[0]
    # 127 × 63.5 beside 63.5 × 63.5: p = 95.25 and 63.5, padded sides sqrt(222.25 * 158.75) and 127.
    change = 2 * sqrt(222.25 * 158.75) / 127
    rate = exp(-0.16 * change) * 0.5 * 0.75 * 0.5
    width = 63.5 * (1 - rate) + 127 * rate
    assert prediction.score == pytest.approx(0.375)
    expected = [176 - width / 2, 120 - 31.75, 176 + width / 2, 120 + 31.75]
    np.testing.assert_allclose(prediction.box_xyxy, expected, rtol=1e-5)


def test_the_centerness_chooses_between_equal_scores():
    tracker, state, frame = scripted(window_influence=0)
    box = [31.75, 31.75, 31.75, 31.75]
    tracker.network.answer(12, 6, 3.0, 0.0, box)
    tracker.network.answer(12, 18, 3.0, 1.0, box)
    assert tracker.step([state], [frame])[0].box_xyxy[[0, 2]].mean() == pytest.approx(160 + 48)


def test_equation_10_and_11_by_hand():
    tracker, _, _ = scripted()
    last = torch.tensor([40.0, 20.0])  # p = 30, s' = sqrt(70 * 50)
    sizes = torch.tensor([[40.0, 20], [80, 40], [20, 10], [20, 40], [60, 20]])
    # The same; doubled and halved: s changes by 2; turned: r by 4; widened: r by 1.5, and p = 40,
    # s = sqrt(100 * 60).
    changes = [1, 2, 2, 4, 1.5 * sqrt(6000 / 3500)]
    expected = torch.tensor([exp(-0.1 * change) for change in changes])
    penalties = tracker.penalty(size_change(sizes, last), torch.tensor(0.1))
    torch.testing.assert_close(penalties, expected)


def test_the_window_prefers_the_middle():
    for influence, expected in ((0.0, 160 - 8 * 10), (0.4, 160.0)):
        tracker, state, frame = scripted(window_influence=influence)
        box = [31.75, 31.75, 31.75, 31.75]
        tracker.network.answer(12, 2, 3.0, 3.0, box)
        tracker.network.answer(12, 12, 2.9, 3.0, box)
        found = tracker.step([state], [frame])[0].box_xyxy
        assert found[[0, 2]].mean() == pytest.approx(expected)


def test_score_maps_are_what_the_next_step_chooses_by():
    tracker, state, frame = scripted(window_influence=0.3, scale_penalty=0.2)
    tracker.network.answer(12, 14, 0.0, 0.0, [31.75, 31.75, 31.75, 31.75])
    before = state.box_xyxy.copy()
    shown = tracker.score_maps(state, frame)
    np.testing.assert_array_equal(state.box_xyxy, before)
    assert shown.search_image.shape == (255, 255, 3)
    assert shown.stride == 8
    assert shown.maps["score"][12, 14] == pytest.approx(0.25)
    hann = np.outer(np.hanning(25), np.hanning(25))
    penalised = exp(-0.2) * 0.25 * 0.7 + hann[12, 14] * 0.3
    assert shown.maps["penalised score"][12, 14] == pytest.approx(penalised, rel=1e-5)
    np.testing.assert_allclose(shown.window.to_frame(np.array([127.5] * 4)), [160, 120] * 2)


NETWORK = {
    "_target_": "lightning_trackers.methods.hnse.HNSE",
    "backbone": {"_target_": "lightning_trackers.backbones.TinyResNet", "width": 2},
    "head": {"_target_": "lightning_trackers.heads.FCOSHead", "_partial_": True, "hidden": 32},
    "embedding": {
        "_target_": "lightning_trackers.methods.hnse.RoIEmbedding",
        "_partial_": True,
        "channels": 4,
    },
    "channels": 32,
}
SETTINGS = {
    "_target_": "lightning_trackers.methods.hnse.HNSESettings",
    "window_influence": 0.1,
    "size_lr": 0.3,
}
TRACKER = {
    "_target_": "lightning_trackers.methods.hnse.HNSETracker",
    "_partial_": True,
    "settings": SETTINGS,
}


def untrained():
    """A network whose random weights answer differently to every target and place."""
    torch.manual_seed(0)
    network = HNSE(TinyResNet(2), partial(FCOSHead, hidden=32), channels=32).eval()
    exemplar, search = torch.randn(1, 3, 127, 127), torch.randn(1, 3, 255, 255)
    with torch.no_grad():
        for i, (values, size) in enumerate(
            zip(network(exemplar, search), (2.0, 1.0, 0.3), strict=True)
        ):
            for head in network.heads:
                out = (head.cls_out, head.centerness_out, head.box_out)[i]
                out.weight *= size / values.std()
                if i == 0:
                    out.bias.zero_()
    return network


def videos(count, length):
    """Drifting textures of different sizes, and a first box in each."""
    rng = np.random.default_rng(0)
    for i in range(count):
        picture = rng.integers(0, 256, (12 + i, 16 - i, 3), np.uint8).repeat(9, 0).repeat(9, 1)
        frames = [np.roll(picture, (2 * t, -t), (0, 1)) for t in range(length)]
        yield frames, np.array([20.0, 25, 60, 57]) + rng.uniform(0, 20)


def test_results_do_not_depend_on_how_targets_are_grouped():
    tracker = HNSETracker(for_inference(untrained()), HNSESettings(window_influence=0.1))
    clips = list(videos(4, 5))

    def follow(group):
        rows = np.empty((4, 4, 5))
        for first in range(0, 4, group):
            part = range(first, min(4, first + group))
            states = [tracker.start(clips[i][0][0], clips[i][1]) for i in part]
            for t in range(1, 5):
                found = tracker.step(states, [clips[i][0][t] for i in part])
                for i, prediction in zip(part, found, strict=True):
                    rows[i, t - 1] = *prediction.box_xyxy, prediction.score
        return rows

    alone = follow(1)
    assert (np.abs(alone[:, -1, :4] - alone[:, 0, :4]).max(axis=1) > 1).all()
    assert np.ptp(alone[:, -1, 4]) > 0.01
    for group in (3, 4):
        np.testing.assert_allclose(follow(group), alone, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_becomes_its_tracker_again(tmp_path):
    network = untrained()
    state = {f"network.{k}": v for k, v in network.state_dict().items()}
    recipe = {"network": {**NETWORK, "embedding": None}, "tracker": TRACKER}
    path = tmp_path / "last.ckpt"
    torch.save({"recipe": recipe, "state_dict": state}, path)
    loaded = load_tracker(path, {"size_lr": 0.2})
    assert loaded.settings == HNSESettings(window_influence=0.1, size_lr=0.2)
    [(frames, box)] = videos(1, 2)
    ours = HNSETracker(for_inference(network), loaded.settings)
    boxes = [t.step([t.start(frames[0], box)], [frames[1]])[0].box_xyxy for t in (loaded, ours)]
    np.testing.assert_allclose(*boxes)


def test_a_recipe_with_emphasis_builds_its_embedding():
    assert build(NETWORK).embedding.layers[0].out_channels == 4
