from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.losses import BinaryCrossEntropy, GradientSensitiveLoss
from lightning_trackers.online import (
    OnlineSettings,
    OnlineTracker,
    SampleSettings,
    TargetHead,
    UpdateSettings,
)

SETTINGS = OnlineSettings(
    candidates=64,
    best=3,
    initial_iterations=30,
    initial_lr=0.05,
    update_iterations=3,
    update_lr=0.02,
    long_interval=3,
    regression_alpha=1.0,
    samples=SampleSettings(
        initial_positives=40, initial_negatives=120, positives=10, negatives=30,
        regression_samples=60,
    ),
    update=UpdateSettings(positives=16, negatives=32, candidates=64),
)  # fmt: skip
GRID = 6


class Grey:
    """Features: mean brightness of a box's 6 × 6 cells, from an integral image."""

    def look(self, frames, boxes_xyxy):
        return [
            np.pad(f[..., 0].astype(float).cumsum(0).cumsum(1), ((1, 0), (1, 0))) for f in frames
        ]

    def features(self, looks, boxes_xyxy):
        return [self._of(look, boxes) for look, boxes in zip(looks, boxes_xyxy, strict=True)]

    def _of(self, total, boxes):
        share = np.arange(GRID + 1) / GRID
        h, w = total.shape
        x = boxes[:, :1] + share * (boxes[:, 2:3] - boxes[:, :1])
        y = boxes[:, 1:2] + share * (boxes[:, 3:] - boxes[:, 1:2])
        x, y = x.round().astype(int).clip(0, w - 1), y.round().astype(int).clip(0, h - 1)
        corner = total[y[:, :, None], x[:, None, :]]
        mass = corner[:, 1:, 1:] - corner[:, :-1, 1:] - corner[:, 1:, :-1] + corner[:, :-1, :-1]
        area = np.diff(y)[:, :, None] * np.diff(x)[:, None, :]
        mean = (mass / area.clip(1)).reshape(len(boxes), -1) / 128 - 1
        return torch.from_numpy(mean).float()


def frame(cx=None, cy=60, side=24, wh=(160, 120)):
    picture = np.full((wh[1], wh[0], 3), 60, dtype=np.uint8)
    if cx is not None:
        picture[cy - side // 2 : cy + side // 2, cx - side // 2 : cx + side // 2] = 220
    return picture


def box(cx, cy=60, side=24):
    return np.array([cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2])


@pytest.fixture
def tracker():
    torch.manual_seed(0)
    return OnlineTracker(Grey(), TargetHead(GRID**2, 16, 0.5, 0.2), BinaryCrossEntropy(), SETTINGS)


def test_a_moving_square_is_followed_and_updates_come_when_due(tracker):
    state = tracker.start(frame(60), box(60))
    learnt = state.learner.weights["fc4.weight"].clone()
    assert state.learner.updates == 1
    for i in range(1, 7):
        prediction = tracker.step([state], [frame(60 + 4 * i)])[0]
        assert iou_xyxy(prediction.box_xyxy, box(60 + 4 * i).astype(np.float32)) > 0.6
        assert prediction.score > 0.5
        assert state.learner.updates == 1 + i // 3  # every third frame
    assert not torch.equal(state.learner.weights["fc4.weight"], learnt)
    numbers = state.statistics()
    assert numbers["success_rate"] == 1
    assert numbers["memory"] == 40 + 30 + 6 * (10 + 30)
    assert numbers["failed_updates"] == numbers["skipped_updates"] == 0


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), GradientSensitiveLoss(unit_mean=True)])
def test_results_do_not_depend_on_how_targets_are_grouped(tracker, loss):
    tracker.loss = loss
    starts = [60, 40, 90]
    alone = []
    for cx in starts:
        state = tracker.start(frame(cx), box(cx))
        alone.append([tracker.step([state], [frame(cx + 3 * i)])[0] for i in range(1, 5)])
    states = [tracker.start(frame(cx), box(cx)) for cx in starts]
    for i in range(1, 5):
        together = tracker.step(states, [frame(cx + 3 * i) for cx in starts])
        for t, prediction in enumerate(together):
            np.testing.assert_allclose(
                prediction.box_xyxy, alone[t][i - 1].box_xyxy, atol=1e-3, rtol=0
            )
            assert prediction.score == pytest.approx(alone[t][i - 1].score, abs=1e-4)


def test_nothing_leaks_into_the_next_sequence(tracker):
    offline = [p.clone() for p in tracker.head.parameters()]

    def run():
        state = tracker.start(frame(60), box(60))
        return np.stack([tracker.step([state], [frame(60 + 3 * i)])[0].box_xyxy for i in (1, 2, 3)])

    first = run()
    tracker.step([tracker.start(frame(100), box(100))], [frame(90)])
    np.testing.assert_array_equal(run(), first)
    for now, before in zip(tracker.head.parameters(), offline, strict=True):
        assert torch.equal(now, before)


def test_the_search_widens_while_the_target_is_lost_and_a_short_update_follows(tracker):
    tracker.settings = replace(SETTINGS, success_threshold=1e9, long_interval=100)
    state = tracker.start(frame(60), box(60))
    memory = len(state.memory)
    widths = []
    for _ in range(12):
        tracker.step([state], [frame()])
        widths.append(state.translation)
    assert widths[0] == pytest.approx(0.66)  # 0.6 * 1.1
    assert widths[1] == pytest.approx(0.726)
    assert widths[-1] == 1.5  # the limit
    assert state.learner.updates == 1 + 12
    assert len(state.memory) == memory  # nothing is learnt from frames without the target
    assert state.statistics()["success_rate"] == 0
    tracker.settings = replace(SETTINGS, success_threshold=-1e9)
    tracker.step([state], [frame(60)])
    assert state.translation == 0.6


def test_a_target_that_leaves_and_returns_is_found_again(tracker):
    state = tracker.start(frame(60), box(60))
    for i in range(1, 4):
        tracker.step([state], [frame(60 + 2 * i)])
    for _ in range(4):
        gone = tracker.step([state], [frame()])[0]
        assert gone.score < 0.5
    assert state.found == 3
    assert state.translation > SETTINGS.translation
    for _ in range(4):
        back = tracker.step([state], [frame(70)])[0]
    assert back.score > 0.5
    assert iou_xyxy(back.box_xyxy, box(70).astype(np.float32)) > 0.5
    assert state.translation == SETTINGS.translation


def test_an_update_that_diverges_is_taken_back_counted_and_said(tracker, caplog):
    state = tracker.start(frame(60), box(60))
    before = {name: value.clone() for name, value in state.learner.weights.items()}
    tracker.settings = replace(SETTINGS, update_lr=1e36)
    for i in range(1, 4):  # the third is due
        prediction = tracker.step([state], [frame(60 + 2 * i)])[0]
    assert state.statistics()["failed_updates"] == 1
    assert "not finite" in caplog.text
    for name, value in before.items():
        assert torch.equal(state.learner.weights[name], value)
    tracker.settings = SETTINGS
    for i in range(4, 7):
        prediction = tracker.step([state], [frame(60 + 2 * i)])[0]
    assert np.isfinite(prediction.box_xyxy).all()
    assert state.statistics()["failed_updates"] == 1
    assert not torch.equal(state.learner.weights["fc4.weight"], before["fc4.weight"])


def test_box_regression_is_reported_and_not_fed_back(tracker):
    state = tracker.start(frame(60), box(60))
    state.regression = replace(
        state.regression,
        weight=torch.zeros_like(state.regression.weight),
        bias=torch.tensor([0.0, 0.0, np.log(1.5), 0.0]),
    )
    prediction = tracker.step([state], [frame(62)])[0]
    kept = state.box_xyxy[2] - state.box_xyxy[0]
    # The mean over the best boxes, whose centres stay: 1.5 times as wide as what is kept.
    reported = prediction.box_xyxy[2] - prediction.box_xyxy[0]
    assert reported == pytest.approx(1.5 * kept, rel=1e-4)


@pytest.mark.parametrize(
    ("first", "wh"), [(box(60, side=4), (160, 120)), (np.array([0.0, 0, 160, 120]), (160, 120))]
)
def test_targets_of_a_few_pixels_or_as_large_as_the_frame(tracker, first, wh):
    state = tracker.start(frame(60, side=4), first)
    for _ in range(3):
        prediction = tracker.step([state], [frame(60, side=4)])[0]
        assert np.isfinite(prediction.box_xyxy).all()
    if first[2] - first[0] == 4:
        assert state.fallbacks >= 1  # no box of 10 px overlaps 4 px by .7: its own is the sample


def test_without_negative_samples_nothing_is_learnt_and_that_is_said(tracker, caplog):
    tracker.settings = replace(
        SETTINGS,
        samples=replace(SETTINGS.samples, initial_negative_overlap=0.0, initial_negatives=2),
    )
    state = tracker.start(frame(80, 60, 110), np.array([1.0, 1, 159, 119]))
    assert state.learner.updates == 0
    assert "no room for negative samples" in caplog.text
    tracker.step([state], [frame(80, 60, 110)])
    assert state.fallbacks >= 1


def test_the_size_of_the_frame_may_change(tracker):
    state = tracker.start(frame(60), box(60))
    prediction = tracker.step([state], [frame(30, 40, wh=(80, 60), side=20)])[0]
    centre = (prediction.box_xyxy[:2] + prediction.box_xyxy[2:]) / 2
    assert (centre <= [80, 60]).all()


def test_frames_that_are_not_uint8_rgb_are_refused(tracker):
    with pytest.raises(ValueError, match=r"expected a uint8 array \(H, W, 3\)"):
        tracker.start(frame(60).astype(np.uint16), box(60))
    state = tracker.start(frame(60), box(60))
    with pytest.raises(ValueError, match=r"expected a uint8 array \(H, W, 3\)"):
        tracker.step([state], [frame(60)[..., 0]])


def test_it_learns_inside_inference_mode_too(tracker):
    with torch.inference_mode():
        state = tracker.start(frame(60), box(60))
        for i in range(1, 4):
            tracker.step([state], [frame(60 + 3 * i)])
    assert state.learner.updates == 2


def test_settings_are_checked():
    with pytest.raises(ValueError, match="best <= candidates"):
        OnlineSettings(candidates=3, best=4)
    with pytest.raises(ValueError, match="long_interval >= 1"):
        OnlineSettings(long_interval=0)
