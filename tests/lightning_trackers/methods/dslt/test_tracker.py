import copy

import cv2
import numpy as np
import pytest
import torch

from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.evaluation.tracker import LiveTracker
from lightning_trackers.losses import PowerLoss
from lightning_trackers.methods.dslt import DSLTSettings
from tests.lightning_trackers.methods.dslt.drawn import tracker, video


@pytest.fixture(scope="module")
def shared():
    return tracker()


def follow(shared, frames, box):
    state = shared.start(frames[0], box)
    return [shared.step([state], [frame])[0] for frame in frames[1:]], state


def test_follows_a_drawn_square(shared):
    frames, boxes = video()
    predictions, state = follow(shared, frames, boxes[0])
    overlaps = [iou_xyxy(p.box_xyxy, b) for p, b in zip(predictions, boxes[1:], strict=True)]
    assert min(overlaps) > 0.6
    assert all(0 < p.score <= 1 for p in predictions)
    assert state.statistics()["updates"] == 10  # the first frame and nine more
    assert len(state.samples) == state.statistics()["memory"] == 7  # T


def test_the_response_peaks_where_a_shifted_target_is(shared):
    frames, boxes = video(2)
    state = shared.start(frames[0], boxes[0])
    per_cell = 8 / shared._window(state.box_xyxy).scale  # frame px
    for dx, dy in ((0, 0), (5, 0), (0, -3), (-4, 2)):
        moved = np.roll(frames[0], (round(dy * per_cell), round(dx * per_cell)), axis=(0, 1))
        response = shared.responses(state, moved)
        row, column = divmod(int(response.argmax()), response.shape[1])
        middle = (response.shape[0] - 1) / 2
        assert (column - middle, row - middle) == pytest.approx((dx, dy), abs=1)


def test_the_first_frame_is_learnt_until_it_converges():
    frames, boxes = video(1)
    steps = [
        tracker(initial_iterations=300, remaining=r).start(frames[0], boxes[0]).learner.steps
        for r in (0.5, 0.2, 0.0)
    ]
    assert 1 < steps[0] < steps[1] < steps[2] == 300
    unlearnt = tracker().begin(frames[0], boxes[0])
    first = float(tracker().descent(unlearnt).step())
    converged = tracker(initial_iterations=300, remaining=0.2).start(frames[0], boxes[0])
    assert converged.learner.loss <= 0.2 * first


def test_adaptation_changes_the_target_s_weights_and_nothing_else():
    frames, boxes = video(3)
    for settings, still in (
        ({}, set()),
        ({"update_reductions": False}, {"reduce_shallow", "reduce_deep"}),
        (
            {"update_iterations": 0},
            {"reduce_shallow", "reduce_deep", "regress_fused", "regress_deep"},
        ),
    ):
        own = tracker(**settings)
        network = copy.deepcopy(own.network.state_dict())
        state = own.start(frames[0], boxes[0])
        before = copy.deepcopy(state.learner.weights)
        own.step([state], [frames[1]])
        after = state.learner.weights
        assert {n for n, v in before.items() if torch.equal(v, after[n])} == still
        assert all(torch.equal(v, network[n]) for n, v in own.network.state_dict().items())


def test_a_state_never_leaks_into_the_next(shared):
    frames, boxes = video()
    first, _ = follow(shared, frames, boxes[0])
    follow(shared, *(lambda f, b: (f, b[0]))(*video(seed=5, size=(60, 20))))
    again, _ = follow(shared, frames, boxes[0])
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.box_xyxy, b.box_xyxy)
        assert a.score == b.score


def test_many_targets_together_give_what_each_gives_alone(shared):
    # Two share a kernel, one has another; one begins later, with a shorter memory.
    videos = [video(7, 1), video(7, 2, step=(-3, 1)), video(7, 3, size=(56, 24))]
    alone = [follow(shared, frames, boxes[0])[0] for frames, boxes in videos]
    late, _ = follow(shared, videos[0][0][3:], videos[0][1][3])
    states = [shared.start(frames[0], boxes[0]) for frames, boxes in videos]
    assert len({state.kernel for state in states}) == 2
    for t in range(1, 7):
        if t == 4:
            states.append(shared.start(videos[0][0][3], videos[0][1][3]))
        found = shared.step(states, [v[0][t] for v in videos] + [videos[0][0][t]] * (t >= 4))
        expected = [own[t - 1] for own in alone] + ([late[t - 4]] if t >= 4 else [])
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.box_xyxy, b.box_xyxy, atol=1e-2)
            assert a.score == pytest.approx(b.score, abs=1e-3)


@pytest.mark.parametrize("growth", [1.02, 0.98])
def test_the_size_follows_the_target_s(shared, growth):
    frames, boxes = video(1)
    state = shared.start(frames[0], boxes[0])
    centre = boxes[0].reshape(2, 2).mean(0)
    for t in range(1, 9):
        zoom = growth**t  # 1.17 or 0.85 in the end
        matrix = np.array([[zoom, 0, (1 - zoom) * centre[0]], [0, zoom, (1 - zoom) * centre[1]]])
        shared.step([state], [cv2.warpAffine(frames[0], matrix, (260, 200))])
    width, height = state.box_xyxy[2:] - state.box_xyxy[:2]
    assert width == pytest.approx(height)
    assert (width > 42.5) if growth > 1 else (width < 37.5)


def test_a_target_that_is_not_found_keeps_its_size():
    frames, boxes = video(1)
    sure = tracker(scale_threshold=10.0)
    state = sure.start(frames[0], boxes[0])
    sure.step([state], [cv2.resize(frames[0], None, fx=1.3, fy=1.3)])
    np.testing.assert_allclose(state.box_xyxy[2:] - state.box_xyxy[:2], 40)


@pytest.mark.parametrize(
    "box",
    [[100, 90, 102, 92], [100, 90, 101, 150], [0, 0, 260, 200], [-20, -20, 300, 230]],
    ids=["two px", "a hair", "the whole frame", "more than the frame"],
)
def test_targets_of_any_size_are_followed(shared, box):
    frames, _ = video(4)
    predictions, state = follow(shared, frames, np.array(box, dtype=np.float32))
    for prediction in predictions:
        assert np.isfinite(prediction.box_xyxy).all()
        assert (prediction.box_xyxy[2:] > prediction.box_xyxy[:2]).all()
    assert state.learner.failed == 0


def test_the_frame_size_may_change(shared):
    frames, boxes = video(3)
    smaller = frames[1][:150, :180]
    predictions, _ = follow(shared, [frames[0], smaller, frames[2]], boxes[0])
    assert min(iou_xyxy(predictions[i].box_xyxy, boxes[i + 1]) for i in (0, 1)) > 0.5


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((200, 260), np.uint8), r"expected a uint8 array \(H, W, 3\), got uint8 \(200, 260\)"),
        (np.zeros((200, 260, 3), np.uint16), "got uint16"),
    ],
    ids=["grey", "16 bit"],
)  # fmt: skip
def test_frames_of_another_kind_are_refused_by_name(shared, bad, message):
    frames, boxes = video(1)
    with pytest.raises(ValueError, match=message):
        shared.start(bad, boxes[0])
    state = shared.start(frames[0], boxes[0])
    with pytest.raises(ValueError, match=message):
        shared.step([state], [bad])


def test_nan_in_an_update_restores_that_target_alone(shared, monkeypatch):
    frames, boxes = video(4)
    states = [shared.start(frames[0], boxes[0]) for _ in range(2)]
    healthy = shared.start(frames[0], boxes[0])
    before = copy.deepcopy(states[1].learner.weights)
    remember = shared._remember

    def spoil(state, window, maps):
        remember(state, window, maps)
        if state is states[1]:
            state.samples[-1].label.fill_(float("nan"))

    monkeypatch.setattr(shared, "_remember", spoil)
    shared.step(states, [frames[1]] * 2)
    assert [s.learner.failed for s in states] == [0, 1]
    assert states[1].statistics()["failed_updates"] == 1
    assert all(torch.equal(v, states[1].learner.weights[n]) for n, v in before.items())
    assert len(states[1].samples) == 1  # what it could not learn from is forgotten
    monkeypatch.undo()
    shared.step([healthy], [frames[1]])
    torch.testing.assert_close(
        states[0].learner.weights, healthy.learner.weights, rtol=1e-3, atol=1e-6
    )
    predictions = shared.step(states, [frames[2]] * 2)
    assert min(iou_xyxy(p.box_xyxy, boxes[2]) for p in predictions) > 0.6
    assert states[1].learner.failed == 1


def test_runs_in_inference_mode_and_alive():
    frames, boxes = video(3)
    live = LiveTracker(tracker(PowerLoss()))
    with torch.inference_mode():
        live.init(frames[0], boxes[0])
        assert iou_xyxy(live.update(frames[1]).box_xyxy, boxes[1]) > 0.6


def test_the_cosine_window_prefers_the_middle(shared):
    # Two equal peaks: the one nearer to the middle, but its height is the response's own.
    response = torch.zeros(21, 21)
    response[10, 8] = 0.8
    response[2, 18] = 0.85
    assert shared._peak(response)[:2] == pytest.approx((8, -8), abs=0.5)
    windowed = tracker(window_influence=0.3)
    x, y, peak = windowed._peak(response)
    assert (x, y) == pytest.approx((-2, 0), abs=0.5)
    assert peak == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": 2}, "odd number of scales"),
        ({"search_size": 100}, "search_size >= scale_size"),
        ({"memory": 0}, "memory >= 1"),
        ({"scale_lr": 2.0}, r"scale_lr in \[0, 1\]"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DSLTSettings(**settings)


def test_online_rates_are_a_quarter():
    settings = DSLTSettings()
    first, online = settings.first_rates(), settings.online_rates()
    # The printed rates: 8e-7 is 0.01 at 128 channels of 10 × 10 cells, up to rounding.
    assert first.regression / (128 * 100) == pytest.approx(8e-7, rel=0.03)
    assert online.regression / first.regression == pytest.approx(2e-7 / 8e-7)
    assert online.reduction == pytest.approx(2e-7)
    assert DSLTSettings(update_reductions=False).online_rates().reduction == 0
