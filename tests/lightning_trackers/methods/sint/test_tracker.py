import numpy as np
import pytest
import torch

from lightning_trackers.backbones import TinyVGG
from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.methods.sint import SINTNetwork, SINTSettings, SINTTracker
from lightning_trackers.siamese import for_inference

SETTINGS = SINTSettings(image_size=96, context_amount=1.5, radius=0.2, steps=4, angles=8)
WHOLE = SINTSettings(image_size=96, radius=0.2, steps=4, angles=8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return for_inference(SINTNetwork(TinyVGG(4, pool=3, hidden=10), pool=3))


def scene(x, y, seed=0, wh=(160, 120)):
    """A chequered square of 24 px on noise, at a place."""
    rng = np.random.default_rng(seed)
    frame = rng.integers(90, 110, (wh[1], wh[0], 3), dtype=np.uint8)
    frame[y : y + 24, x : x + 24] = (250, 40, 30)
    frame[y : y + 12, x : x + 12] = (20, 60, 240)
    frame[y + 12 : y + 24, x + 12 : x + 24] = (20, 220, 40)
    return frame, np.array([x, y, x + 24, y + 24], dtype=np.float32)


@pytest.mark.parametrize("settings", [SETTINGS, WHOLE])
def test_follows_a_target_through_an_untrained_network(network, settings):
    tracker = SINTTracker(network, settings)
    frame, box = scene(40, 40)
    state = tracker.start(frame, box)
    for t in range(1, 6):
        frame, truth = scene(40 + 5 * t, 40 + 3 * t, seed=t)
        prediction = tracker.step([state], [frame])[0]
        assert iou_xyxy(prediction.box_xyxy, truth) > 0.4
        assert 0.5 < prediction.score <= 1


@pytest.mark.parametrize("settings", [SETTINGS, WHOLE])
def test_several_targets_in_lockstep_equal_one_at_a_time(network, settings):
    tracker = SINTTracker(network, settings)
    starts = [(30, 30, (160, 120)), (60, 20, (160, 120)), (50, 70, (200, 150))]
    first = [scene(x, y, i, wh) for i, (x, y, wh) in enumerate(starts)]
    alone, together = ([tracker.start(f, b) for f, b in first] for _ in range(2))
    for t in range(1, 4):
        frames = [scene(x + 3 * t, y + 2 * t, 9 * t, wh)[0] for x, y, wh in starts]
        one_by_one = [tracker.step([s], [f])[0] for s, f in zip(alone, frames, strict=True)]
        at_once = tracker.step(together, frames)
        for a, b in zip(one_by_one, at_once, strict=True):
            np.testing.assert_allclose(a.box_xyxy, b.box_xyxy, atol=1e-3)
            assert a.score == pytest.approx(b.score, abs=1e-5)


def test_network_looks_once_at_a_frame(network, monkeypatch):
    tracker = SINTTracker(network, SETTINGS)
    frame, box = scene(40, 40)
    states = [tracker.start(frame, box) for _ in range(3)]
    seen = []
    levels = network.levels
    monkeypatch.setattr(
        network, "levels", lambda images: seen.append(len(images)) or levels(images)
    )
    tracker.step(states, [frame] * 3)
    assert seen == [3]


def test_best_candidate_is_the_one_nearest_to_the_first_frame(network):
    tracker = SINTTracker(network, SINTSettings(96, 1.5, 0.2, 4, 8, regression_alpha=0.0))
    frame, box = scene(40, 40)
    state = tracker.start(frame, box)
    prediction = tracker.step([state], [frame])[0]
    # The same frame: the first candidate is the exemplar itself.
    np.testing.assert_allclose(prediction.box_xyxy, box, atol=1e-4)
    assert prediction.score == pytest.approx(1, abs=1e-5)


def test_refined_box_is_reported_and_not_fed_back(network):
    tracker = SINTTracker(network, SETTINGS)
    frame, box = scene(40, 40)
    state = tracker.start(frame, box)
    assert state.regression is not None
    shift = torch.tensor([0.25, 0, 0, 0])
    state.regression = type(state.regression)(torch.zeros_like(state.regression.weight), shift)
    prediction = tracker.step([state], [frame])[0]
    np.testing.assert_allclose(prediction.box_xyxy, box + np.array([6, 0, 6, 0]), atol=1e-3)
    np.testing.assert_allclose(state.box_xyxy, box, atol=1e-3)


def test_sizes_are_those_of_the_first_box(network):
    tracker = SINTTracker(network, SINTSettings(96, 1.5, 0.2, 4, 8, regression_alpha=0.0))
    frame, box = scene(40, 40)
    state = tracker.start(frame, box)
    state.box_xyxy = np.array([30.0, 30, 70, 70])  # as if it had grown
    prediction = tracker.step([state], [frame])[0]
    side = prediction.box_xyxy[2] - prediction.box_xyxy[0]
    assert min(abs(side - 24 * s) for s in (0.5**0.5, 1, 2**0.5)) < 1e-3


def test_a_target_at_the_border_keeps_its_centre_in_the_frame(network):
    tracker = SINTTracker(network, SETTINGS)
    frame, box = scene(0, 0)
    state = tracker.start(frame, box)
    empty = np.full_like(frame, 100)
    for _ in range(5):
        tracker.step([state], [empty])
        centre = (state.box_xyxy[:2] + state.box_xyxy[2:]) / 2
        assert (centre >= 0).all()
        assert (centre <= (160, 120)).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"radius": 0.6}, "radius"),
        ({"scales": ()}, "positive scales"),
        ({"context_amount": -1.0}, "context_amount"),
    ],
)
def test_bad_constants_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SINTSettings(**values)


def test_one_frame_a_state(network):
    tracker = SINTTracker(network, SETTINGS)
    with pytest.raises(ValueError, match="1 states and 0 frames"):
        tracker.step([tracker.start(*scene(40, 40))], [])
    assert tracker.step([], []) == []
