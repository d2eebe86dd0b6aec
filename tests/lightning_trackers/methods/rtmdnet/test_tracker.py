from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.losses import BinaryCrossEntropy, FocalLoss, ShrinkageLoss
from lightning_trackers.methods.rtmdnet import RTMDNetTracker, SceneFeatures
from lightning_trackers.online import OnlineSettings, SampleSettings, UpdateSettings
from lightning_trackers.scenes import scene_of
from lightning_trackers.siamese import for_inference

SETTINGS = OnlineSettings(
    candidates=32, best=3, initial_iterations=30, initial_lr=0.03, update_iterations=2,
    update_lr=0.01, long_interval=2, regression_alpha=10.0,
    samples=SampleSettings(
        initial_positives=20, initial_negatives=40, initial_anywhere=0.2, positives=6,
        negatives=12, regression_samples=20,
    ),
    update=UpdateSettings(positives=8, negatives=16, candidates=32),
)  # fmt: skip


@pytest.fixture
def tracker(network):
    return RTMDNetTracker(for_inference(network), BinaryCrossEntropy(), SETTINGS)


def box(cx, cy, w=30, h=24):
    return np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


def frame(cx, cy, wh=(160, 120), w=30, h=24):
    """A chequered target on a smooth background."""
    y, x = np.mgrid[: wh[1], : wh[0]]
    picture = np.stack([60 + x // 4, 60 + y // 4, 90 + 0 * x], axis=-1).astype(np.uint8)
    u, v = x - (cx - w // 2), y - (cy - h // 2)
    inside = (u >= 0) & (u < w) & (v >= 0) & (v < h)
    chequer = np.where((u // 6 + v // 6) % 2, 250, 10)
    picture[inside] = np.stack([chequer, 255 - chequer, chequer], axis=-1)[inside]
    return picture


def test_a_frame_is_looked_at_once(tracker, monkeypatch):
    tracker.settings = replace(SETTINGS, success_threshold=-1e9)  # always found: samples are taken
    state = tracker.start(frame(60, 60), box(60, 60))
    passes = []
    backbone = tracker.features.network.backbone
    forward = backbone.forward
    monkeypatch.setattr(backbone, "forward", lambda x: passes.append(len(x)) or forward(x))
    for i in range(1, 4):  # candidates, samples and an update every second frame
        tracker.step([state], [frame(60 + 2 * i, 60)])
    assert state.found == 3
    assert passes == [1, 1, 1]


def test_features_of_a_box_are_those_of_a_pass_over_it_alone(network, noise):
    features = SceneFeatures(network.eval())
    target, boxes = box(90, 70, 40, 20), np.array([[75.0, 58, 112, 80], [60, 50, 108, 79]])
    (look,) = features.look([noise], [target])
    found = features.features([look], [boxes])[0]
    for one, own in zip(boxes, found, strict=True):
        # Beginning on the same grid of 8 scene px, so that cells look at the same pixels.
        low = look.scene.to_scene(one)[:2] // 8 * 8 - 24
        corner = look.scene.corner + low * look.scene.steps
        region = np.concatenate([corner, one[2:] + 12])
        scene = scene_of(region, np.array([40.0, 20]), 107, 75)
        picture = torch.from_numpy(scene.shown(noise, np.full(3, 128.0))).permute(2, 0, 1)[None]
        with torch.no_grad():
            maps = network.maps(picture)
            alone = network.features(
                maps, torch.from_numpy(scene.to_scene(one)).float()[None, None]
            )
        torch.testing.assert_close(own, alone[0, 0], atol=0.02, rtol=0.02)  # pixels are rounded


def test_boxes_beyond_the_scene_are_looked_at_by_themselves(network, noise, monkeypatch):
    near, far = SceneFeatures(network.eval(), reach=0.1), SceneFeatures(network, reach=8.0)
    target = box(60, 70, 20, 20)
    boxes = np.array([[51.0, 60, 71, 80], [140, 30, 160, 50], [120, 100, 141, 119]])
    small, large = near.look([noise], [target])[0], far.look([noise], [target])[0]
    seen = near.features([small], [boxes])[0]
    expected = far.features([large], [boxes])[0]
    assert not torch.equal(seen[1], seen[2])
    # The grids of cells lie differently, by less than a cell: alike, not the same.
    likeness = torch.nn.functional.cosine_similarity(seen, expected)
    other = torch.nn.functional.cosine_similarity(seen, expected.roll(1, 0))
    assert (likeness > other).all()
    monkeypatch.setattr("lightning_trackers.methods.rtmdnet.tracker._TOGETHER", 1)
    torch.testing.assert_close(near.features([small], [boxes])[0], seen, atol=1e-5, rtol=1e-4)


def test_the_chequered_target_is_followed(tracker):
    state = tracker.start(frame(50, 60), box(50, 60))
    for i in range(1, 6):
        prediction = tracker.step([state], [frame(50 + 4 * i, 60 + i)])[0]
    assert iou_xyxy(prediction.box_xyxy, box(70, 65).astype(np.float32)) > 0.5
    assert state.learner.updates >= 1 + 2  # every second frame, and when it is lost
    assert state.learner.failed == 0


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), FocalLoss(), ShrinkageLoss(balanced=False)])
def test_results_do_not_depend_on_how_targets_are_grouped(tracker, loss):
    tracker.loss = loss
    starts = [(50, 60), (100, 50), (80, 80)]
    sizes = [(160, 120), (180, 110), (150, 130)]  # frames of different sizes too
    alone = []
    for (cx, cy), wh in zip(starts, sizes, strict=True):
        state = tracker.start(frame(cx, cy, wh), box(cx, cy))
        alone.append([tracker.step([state], [frame(cx + 3 * i, cy, wh)])[0] for i in range(1, 4)])
    states = [
        tracker.start(frame(cx, cy, wh), box(cx, cy))
        for (cx, cy), wh in zip(starts, sizes, strict=True)
    ]
    for i in range(1, 4):
        frames = [frame(cx + 3 * i, cy, wh) for (cx, cy), wh in zip(starts, sizes, strict=True)]
        for t, prediction in enumerate(tracker.step(states, frames)):
            expected = alone[t][i - 1]
            np.testing.assert_allclose(prediction.box_xyxy, expected.box_xyxy, atol=1e-2)
            assert prediction.score == pytest.approx(expected.score, abs=1e-3)


def test_nothing_leaks_into_the_next_sequence(tracker):
    offline = [p.clone() for p in tracker.features.network.parameters()]

    def run():
        state = tracker.start(frame(60, 60), box(60, 60))
        steps = [tracker.step([state], [frame(60 + 3 * i, 60)])[0].box_xyxy for i in (1, 2, 3)]
        return np.stack(steps), state

    first, state = run()
    assert not torch.equal(state.learner.weights["fc4.weight"], tracker.head.fc4.weight)
    tracker.step([tracker.start(frame(100, 40), box(100, 40))], [frame(90, 40)])
    np.testing.assert_array_equal(run()[0], first)
    for now, before in zip(tracker.features.network.parameters(), offline, strict=True):
        assert torch.equal(now, before)


@pytest.mark.parametrize(
    "first", [box(60, 60, 3, 3), np.array([0.0, 0, 160, 120]), box(80, 60, 150, 6)]
)
def test_targets_of_a_few_pixels_as_large_as_the_frame_or_thin(tracker, first):
    state = tracker.start(frame(60, 60), first)
    for i in range(3):
        prediction = tracker.step([state], [frame(60 + i, 60)])[0]
        assert np.isfinite(prediction.box_xyxy).all()
        assert (prediction.box_xyxy[2:] > prediction.box_xyxy[:2]).all()
    if first[2] - first[0] == 3:
        assert state.fallbacks >= 1  # no box of 10 px overlaps one of 3 px by .7


def test_the_size_of_the_frame_may_change(tracker):
    state = tracker.start(frame(130, 100), box(130, 100))
    prediction = tracker.step([state], [frame(40, 30, wh=(80, 60))])[0]
    centre = (prediction.box_xyxy[:2] + prediction.box_xyxy[2:]) / 2
    assert (centre <= [80, 60]).all()


def test_grey_and_16_bit_frames_are_refused_by_name(tracker):
    with pytest.raises(ValueError, match=r"expected a uint8 array \(H, W, 3\)"):
        tracker.start(frame(60, 60).astype(np.uint16), box(60, 60))
    state = tracker.start(frame(60, 60), box(60, 60))
    with pytest.raises(ValueError, match=r"expected a uint8 array \(H, W, 3\)"):
        tracker.step([state], [frame(60, 60)[..., 0]])


def test_without_room_for_negatives_nothing_is_learnt_and_that_is_said(tracker, caplog):
    tracker.settings = replace(
        SETTINGS,
        samples=replace(SETTINGS.samples, initial_negative_overlap=0.0, initial_negatives=2),
    )
    state = tracker.start(frame(80, 60), np.array([1.0, 1, 159, 119]))
    assert state.learner.updates == 0
    assert state.fallbacks >= 1
    assert "no room for negative samples" in caplog.text


def test_an_update_that_is_not_finite_is_taken_back_for_that_target_alone(tracker):
    states = [tracker.start(frame(cx, 60), box(cx, 60)) for cx in (50, 100)]
    before = {n: v.clone() for n, v in states[0].learner.weights.items()}
    states[0].memory.add(
        torch.full((6, tracker.head.inputs), torch.nan), torch.zeros(1, tracker.head.inputs)
    )
    other = states[1].learner.weights["fc4.weight"].clone()
    for i in (1, 2):
        tracker.step(states, [frame(cx + i, 60) for cx in (50, 100)])
    assert states[0].statistics()["failed_updates"] >= 1
    assert all(torch.equal(v, before[n]) for n, v in states[0].learner.weights.items())
    assert states[1].statistics()["failed_updates"] == 0
    assert not torch.equal(states[1].learner.weights["fc4.weight"], other)


def test_reach_is_checked(network):
    with pytest.raises(ValueError, match="reach > 0"):
        SceneFeatures(network, reach=0)
