from functools import partial
from math import exp, log, sqrt

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from lightning_trackers.backbones import AlexNet, Tiny
from lightning_trackers.boxes import xyxy_to_cxcywh
from lightning_trackers.heads import DepthwiseRPN, Kernels, Proposals
from lightning_trackers.methods.siamrpn import SiamRPN, SiamRPNSettings, SiamRPNTracker
from lightning_trackers.methods.siamrpn.anchors import anchor_sides, grid_anchors
from lightning_trackers.proposal_tracker import size_change
from lightning_trackers.siamese import for_inference

SIZES_HW = [
    (120, 160),
    (200, 150),
    (90, 240),
    (144, 144),
    (100, 100),
    (160, 120),
    (97, 131),
    (64, 64),
]


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks gain nothing from threads, which wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Scripted(nn.Module):
    """Stands in for the network: one anchor per cell of 8 px, answers that the test writes."""

    def __init__(self, cells=17):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.logits = torch.full((1, 1, cells, cells), -50.0)
        self.deltas = torch.zeros(1, 1, cells, cells, 4)

    def anchors_cxcywh(self, cells, search_size):
        return grid_anchors(anchor_sides([1], 8, 8), cells, 8, search_size)  # 64 × 64 px

    def exemplar(self, images):
        return Kernels(torch.zeros(1, 1), torch.zeros(1, 1))

    def track(self, images, kernels):
        return Proposals(self.logits, self.deltas)

    def answer(self, row, column, logit, deltas=(0, 0, 0, 0)):
        self.logits[0, 0, row, column] = logit
        self.deltas[0, 0, row, column] = torch.tensor(deltas)


def scripted(**settings):
    """A tracker at the centre (160, 120) of a frame, with 1 crop px per frame px.

    The target of 63.5 × 63.5 px has an exemplar window of 127 px, so the crop's scale is 1.
    """
    tracker = SiamRPNTracker(Scripted(), SiamRPNSettings(search_size=255, **settings))
    frame = np.zeros((240, 320, 3), np.uint8)
    box = np.array([160, 120, 160, 120]) + np.array([-1, -1, 1, 1]) * 31.75
    return tracker, tracker.start(frame, box), frame


def untrained(backbone, hidden):
    """A tracker whose random weights answer differently to every target and place."""
    network = SiamRPN(backbone, partial(DepthwiseRPN, hidden=hidden))
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    last = (network.head.cls_out[-1], network.head.box_out[-1])
    # Logits around 1 and boxes near the anchors.
    exemplar = torch.randn(1, 3, 127, 127, generator=generator)
    search = torch.randn(1, 3, 255, 255, generator=generator)
    with torch.no_grad():
        for layer, values, size in zip(
            last, network.eval()(exemplar, search), (1, 0.1), strict=True
        ):
            layer.weight *= size / values.std()
    settings = SiamRPNSettings(search_size=255, window_influence=0.1)
    return SiamRPNTracker(for_inference(network), settings)


def small():
    # Not smaller: torch computes a convolution of one image with up to 20480 inputs by another
    # routine than one of several images, and its rounding differs.
    return untrained(Tiny(16, 96), 96)


def videos(count, length):
    """Drifting textures of different sizes, and a first box in each."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        height, width = SIZES_HW[i]
        picture = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (9, 9), 3)
        picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
        dy, dx = rng.integers(-3, 4, 2)
        frames = [np.roll(picture, (t * dy, t * dx), (0, 1)) for t in range(length)]
        # The last one begins at a corner, so that part of its window lies outside.
        box = np.array([2.0, 3.0, 30.0, 24.0]) + (0 if i == count - 1 else rng.uniform(0, 30))
        found.append((frames, box))
    return found


def follow(tracker, clips, group):
    """Track all clips, ``group`` at a time; rows of box and score, (clips, frames - 1, 5)."""
    rows = np.empty((len(clips), len(clips[0][0]) - 1, 5))
    for first in range(0, len(clips), group):
        part = range(first, min(first + group, len(clips)))
        states = [tracker.start(clips[i][0][0], clips[i][1]) for i in part]
        for t in range(1, len(clips[0][0])):
            predictions = tracker.step(states, [clips[i][0][t] for i in part])
            for i, prediction in zip(part, predictions, strict=True):
                rows[i, t - 1] = *prediction.box_xyxy, prediction.score
    return rows


def check_lockstep(tracker, clips, groups):
    alone = follow(tracker, clips, 1)
    # The targets move, and each in its own way: equal results say something.
    assert (np.abs(alone[:, -1, :4] - alone[:, 0, :4]).max(axis=1) > 1).all()
    assert np.ptp(alone[:, -1, 4]) > 0.01
    for group in groups:
        together = follow(tracker, clips, group)
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_results_do_not_depend_on_how_targets_are_grouped():
    check_lockstep(small(), videos(8, 16), groups=(3, 8))


@pytest.mark.slow
def test_results_of_the_paper_s_network_do_not_depend_on_grouping():
    check_lockstep(untrained(AlexNet(), 256), videos(8, 10), groups=(3, 8))


def test_a_second_run_gives_the_same():
    tracker, clips = small(), videos(3, 12)
    np.testing.assert_array_equal(follow(tracker, clips, 3), follow(tracker, clips, 3))


def test_targets_of_one_video_keep_their_own_state():
    tracker, [(frames, box)] = small(), videos(1, 8)
    other_box = box + 35
    alone = tracker.start(frames[0], box)
    expected = [tracker.step([alone], [frame])[0] for frame in frames[1:]]
    state, other = tracker.start(frames[0], box), tracker.start(frames[0], other_box)
    for frame, wanted in zip(frames[1:], expected, strict=True):
        # The order within a step may change from frame to frame.
        _, prediction = tracker.step([other, state], [frame, frame])
        np.testing.assert_allclose(prediction.box_xyxy, wanted.box_xyxy, rtol=1e-5)
    assert not np.allclose(other.box_xyxy, state.box_xyxy, atol=1)


def test_inputs_stay_as_they_are():
    tracker, [(frames, box)] = small(), videos(1, 3)
    copies = [frame.copy() for frame in frames], box.copy()
    state = tracker.start(frames[0], box)
    first = tracker.step([state], [frames[1]])[0]
    kept = first.box_xyxy.copy()
    tracker.step([state], [frames[2]])
    np.testing.assert_array_equal(frames, copies[0])
    np.testing.assert_array_equal(box, copies[1])
    np.testing.assert_array_equal(first.box_xyxy, kept)


def test_place_and_size_by_hand():
    tracker, state, frame = scripted(window_influence=0, scale_penalty=0.16, size_lr=0.5)
    # Two columns right of the middle: + 16 px. 127 × 63.5 px beside the last 63.5 × 63.5 px; the
    # anchor has 64 × 64 px. Score 0.5.
    tracker.network.answer(8, 10, 0.0, (0, 0, log(127 / 64), log(63.5 / 64)))
    prediction = tracker.step([state], [frame])[0]
    # Padded by p = (w + h) / 2 = 95.25 and 63.5: sizes sqrt(222.25 * 158.75) and 127.
    change = sqrt(222.25 * 158.75) / 127 * 2
    rate = exp(-0.16 * (change - 1)) * 0.5 * 0.5
    assert rate == pytest.approx(0.1828, abs=1e-4)
    width = 63.5 * (1 - rate) + 127 * rate
    assert prediction.score == pytest.approx(0.5)
    np.testing.assert_allclose(
        xyxy_to_cxcywh(prediction.box_xyxy), [176, 120, width, 63.5], rtol=1e-5
    )


def test_penalty_is_the_same_for_shrinking_and_growing():
    tracker, _, _ = scripted()
    last = torch.tensor([[40.0, 20.0]])
    halved_doubled_and_kept = torch.tensor([[20.0, 10.0], [80.0, 40.0], [40.0, 20.0]])
    penalties = tracker.penalty(size_change(halved_doubled_and_kept, last), torch.tensor(0.16))
    torch.testing.assert_close(penalties, torch.tensor([exp(-0.16), exp(-0.16), 1.0]))


@pytest.mark.parametrize(("influence", "expected_cx"), [(0.0, 160 - 8 * 8), (0.4, 160)])
def test_the_window_prefers_the_middle(influence, expected_cx):
    tracker, state, frame = scripted(window_influence=influence)
    tracker.network.answer(8, 0, 3.0)
    tracker.network.answer(8, 8, 2.9)
    box = tracker.step([state], [frame])[0].box_xyxy
    assert xyxy_to_cxcywh(box)[0] == pytest.approx(expected_cx)


def test_centre_and_size_stay_within_the_frame():
    tracker, state, frame = scripted(size_lr=1, scale_penalty=0)
    # One crop px is one frame px: 1000 px to the left, 20 times as wide, a 64th as high.
    tracker.network.answer(8, 8, 50.0, (-1000 / 64, 0, log(20), log(1 / 64)))
    box = tracker.step([state], [frame])[0].box_xyxy
    np.testing.assert_allclose(xyxy_to_cxcywh(box), [0, 120, 320, 10], atol=1e-3)


def test_a_target_smaller_than_the_least_side_may_keep_its_size():
    tracker = SiamRPNTracker(Scripted(), SiamRPNSettings(search_size=255, window_influence=0))
    frame = np.zeros((240, 320, 3), np.uint8)
    state = tracker.start(frame, np.array([100.0, 100.0, 106.0, 104.0]))
    tracker.network.answer(8, 8, -50.0)
    box = tracker.step([state], [frame])[0].box_xyxy
    np.testing.assert_allclose(box[2:] - box[:2], [6, 4], rtol=1e-5)


@pytest.mark.parametrize(
    ("frame", "box", "message"),
    [
        (np.zeros((50, 50, 3), np.float32), [1, 1, 9, 9], "uint8"),
        (np.zeros((50, 50, 3), np.uint8), [1, 1, 1, 9], "positive width"),
        (np.zeros((50, 50, 3), np.uint8), [60, 1, 70, 9], "touches the frame"),
    ],
)
def test_start_refuses_what_cannot_be_followed(frame, box, message):
    with pytest.raises(ValueError, match=message):
        scripted()[0].start(frame, np.array(box, dtype=np.float32))


def test_a_step_that_fails_changes_no_state():
    tracker, clips = small(), videos(2, 2)
    states = [tracker.start(frames[0], box) for frames, box in clips]
    before = [state.box_xyxy.copy() for state in states]
    good = clips[0][0][1]
    with pytest.raises(ValueError, match="one frame per state, got 2 states and 1 frames"):
        tracker.step(states, [good])
    with pytest.raises(ValueError, match="uint8"):
        tracker.step(states, [good, good[..., 0]])
    np.testing.assert_array_equal([state.box_xyxy for state in states], before)


def test_a_step_without_targets_predicts_nothing():
    assert scripted()[0].step([], []) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search_size": 127}, "search_size > exemplar_size"),
        ({"exemplar_size": 0}, "search_size > exemplar_size > 0"),
        ({"window_influence": 1.1}, r"window_influence in \[0, 1\], got 1.1"),
        ({"size_lr": -0.1}, r"size_lr in \[0, 1\], got -0.1"),
        ({"context_amount": -1}, "context_amount >= 0, got -1"),
        ({"scale_penalty": float("nan")}, "scale_penalty >= 0, got nan"),
        ({"min_side": float("inf")}, "min_side >= 0, got inf"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SiamRPNSettings(**settings)
