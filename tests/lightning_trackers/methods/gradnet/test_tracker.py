from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.crops import crop, search_window
from lightning_trackers.evaluation.tracker import LiveTracker
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.gradnet import (
    GradNet,
    GradNetModule,
    GradNetSettings,
    GradNetTracker,
)
from lightning_trackers.methods.siamfc import response_labels
from lightning_trackers.siamese import for_inference, to_images
from lightning_trackers.training import GeometricSchedule, Optimisation


class Patches(nn.Module):
    """Features that are the image in cells of 8 px; three 1 × 1 convolutions that change nothing."""

    stride = 8
    out_channels = 3

    def __init__(self):
        super().__init__()
        first = nn.Conv2d(3, 3, 15, stride=8, bias=False)  # 127 -> 15 cells, 255 -> 31
        convolutions = [first] + [nn.Conv2d(3, 3, 1, bias=False) for _ in range(3)]
        for conv in convolutions:
            conv.weight.data.zero_()
            for c in range(3):
                conv.weight.data[c, c] = 1 / conv.weight[0, 0].numel()
        self.layers = nn.Sequential(*convolutions)

    def forward(self, images):
        return self.layers(images)


STEP = -20.0


def network(**options):
    """U2 is a step against the gradient, so that an update is gradient descent on the template."""
    options = {"response_scale": 1 / 675, "gradient_scale": 1.0} | options
    net = GradNet(Patches(), BinaryCrossEntropy(balanced=True), **options)
    if net.u2 is not None:
        net.u2[0].weight.data.zero_()
        for c in range(3):
            net.u2[0].weight.data[c, c, 1, 1] = STEP
    return net.eval()


def tracker(options=None, **settings):
    return GradNetTracker(for_inference(network(**options or {})), GradNetSettings(**settings))


def video(count=12, seed=0):
    """A square of coloured tiles that moves 4 px a frame over grey noise, and its boxes."""
    rng = np.random.default_rng(seed)
    tiles = np.kron(rng.integers(0, 256, (5, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    background = rng.integers(110, 140, (200, 260, 3)).astype(np.uint8)
    frames, boxes = [], []
    for t in range(count):
        frame = background.copy()
        x, y = 60 + 4 * t, 70 + 2 * t
        frame[y : y + 40, x : x + 40] = tiles
        frames.append(frame)
        boxes.append([x, y, x + 40, y + 40])
    return frames, np.array(boxes, dtype=np.float32)


def follow(shared, frames, box):
    """Return the predictions and the template after each frame."""
    state = shared.start(frames[0], box)
    predictions, templates = [], [state.exemplar.clone()]
    for frame in frames[1:]:
        predictions += shared.step([state], [frame])
        templates.append(state.exemplar.clone())
    return predictions, templates


def changes(templates):
    return [t for t in range(1, len(templates)) if not torch.equal(templates[t], templates[t - 1])]


def test_follows_a_drawn_square():
    frames, boxes = video()
    predictions, _ = follow(tracker(), frames, boxes[0])
    overlaps = [iou_xyxy(p.box_xyxy, b) for p, b in zip(predictions, boxes[1:], strict=True)]
    assert min(overlaps) > 0.6


def test_the_template_is_updated_every_five_frames():
    frames, boxes = video(17)
    _, templates = follow(tracker(reliable_share=-100.0), frames, boxes[0])
    assert changes(templates) == [5, 10, 15]


def test_no_update_keeps_the_first_frame_s_template():
    frames, boxes = video(12)
    shared = tracker(update_interval=0)
    _, templates = follow(shared, frames, boxes[0])
    assert changes(templates) == []
    # Which is the corrected one, not the initial one.
    state = shared.start(frames[0], boxes[0])
    assert not torch.allclose(state.exemplar, state.initial)


def test_an_unreliable_sample_does_not_update():
    frames, boxes = video(12)
    shared = tracker()
    state = shared.start(frames[0], boxes[0])
    state.threshold = float("inf")
    before = state.exemplar
    for frame in frames[1:]:
        shared.step([state], [frame])
    assert state.exemplar is before
    assert state.sample is None


def test_the_threshold_is_half_the_first_frame_s_maximum():
    frames, boxes = video()
    shared = tracker()
    state = shared.start(frames[0], boxes[0])
    window = search_window(boxes[0], 255, 127)
    images = to_images([crop(frames[0], window, state.fill)], state.exemplar)
    with torch.no_grad():
        scores = shared.network.track(images, state.exemplar)
    assert state.threshold == pytest.approx(0.5 * scores.max().item())


def test_a_sample_is_kept_if_the_raw_maximum_exceeds_the_threshold():
    frames, boxes = video()
    shared = tracker()
    state = shared.start(frames[0], boxes[0])
    probe = shared.start(frames[0], boxes[0])
    shared.step([probe], [frames[1]])
    state.threshold = probe.response_max - 1e-6
    shared.step([state], [frames[1]])
    window = search_window(state.box_xyxy, 255, 127)
    np.testing.assert_array_equal(state.sample, crop(frames[1], window, state.fill))
    state = shared.start(frames[0], boxes[0])
    state.threshold = probe.response_max
    shared.step([state], [frames[1]])
    assert state.sample is None


def centred_labels(count=1):
    middle = torch.full((count, 4), 127.5)
    return response_labels(
        middle, torch.ones(count, dtype=torch.bool), cells=17, stride=8, search_size=255, radius=16
    )


def sample_features(shared, state, frame):
    window = search_window(state.box_xyxy, 255, 127)
    return shared.network.search(to_images([crop(frame, window, state.fill)], state.exemplar))


def test_an_update_starts_from_h_2_of_the_first_frame_and_mixes_templates():
    frames, boxes = video(6)
    shared = tracker(initial_share=0.3, reliable_share=-100.0)
    state = shared.start(frames[0], boxes[0])
    first, h_2 = state.exemplar.clone(), state.features.clone()
    for frame in frames[1:]:
        shared.step([state], [frame])
    with torch.no_grad():
        searches = sample_features(shared, state, frames[5])
        adapted = shared.network.adapt(h_2, searches, centred_labels())
    torch.testing.assert_close(state.exemplar, 0.3 * first + 0.7 * adapted.template)
    assert torch.equal(state.features, h_2)


def test_the_released_reading_carries_h_2_on_and_adds_siamfc_s_template():
    frames, boxes = video(6)
    shared = tracker(initial_share=0.0, feature_lr=0.6, siamfc_share=0.85, reliable_share=-100.0)
    state = shared.start(frames[0], boxes[0])
    h_2, anchor = state.features.clone(), state.anchor.clone()
    for frame in frames[1:]:
        shared.step([state], [frame])
    with torch.no_grad():
        searches = sample_features(shared, state, frames[5])
        adapted = shared.network.adapt(h_2, searches, centred_labels())
        window = search_window(boxes[0], 127, 127)
        exemplar = to_images([crop(frames[0], window, state.fill)], state.exemplar)
        siamfc = shared.network.search(exemplar)
    torch.testing.assert_close(anchor, 0.85 * siamfc)
    torch.testing.assert_close(state.features, 0.4 * h_2 + 0.6 * adapted.features)
    torch.testing.assert_close(state.exemplar, 0.85 * siamfc + 0.15 * adapted.template)


def test_an_update_lowers_the_loss_on_the_sample_it_was_made_from():
    frames, boxes = video(6)
    shared = tracker(initial_share=0.0, reliable_share=-100.0)
    state = shared.start(frames[0], boxes[0])
    losses = {}
    for frame in frames[1:]:
        losses["before"] = state.exemplar.clone()
        shared.step([state], [frame])
    losses["after"] = state.exemplar
    with torch.no_grad():
        searches = sample_features(shared, state, frames[5])
        for name, template in losses.items():
            scores = shared.network.score_map(searches, template)
            losses[name] = shared.network.map_losses(scores, centred_labels()).item()
    assert losses["after"] < losses["before"]


def test_lockstep_equals_one_after_the_other_also_when_updates_fall_into_other_steps():
    count, delays = 8, (0, 0, 2)  # the third target begins two steps after the others
    videos = [video(count, seed=s) for s in range(3)]
    shared = tracker(reliable_share=-100.0)
    alone = [follow(shared, frames, boxes[0]) for frames, boxes in videos]
    states = [shared.start(frames[0], boxes[0]) for frames, boxes in videos]
    for step in range(1, count + max(delays)):
        frame_of = {n: step - delay for n, delay in enumerate(delays) if 0 < step - delay < count}
        found = shared.step(
            [states[n] for n in frame_of], [videos[n][0][t] for n, t in frame_of.items()]
        )
        for (n, t), prediction in zip(frame_of.items(), found, strict=True):
            predictions, templates = alone[n]
            np.testing.assert_allclose(predictions[t - 1].box_xyxy, prediction.box_xyxy, atol=1e-4)
            torch.testing.assert_close(templates[t], states[n].exemplar, atol=1e-5, rtol=1e-4)


def test_a_new_target_forgets_the_old_one_and_the_network_stays():
    frames, boxes = video()
    shared = tracker(reliable_share=-100.0)
    weights = {n: v.clone() for n, v in shared.network.state_dict().items()}
    live = LiveTracker(shared)

    def run(order, box):
        live.init(frames[order[0]], box)
        return [live.update(frames[i]).box_xyxy for i in order[1:]]

    first = run(range(12), boxes[0])
    run(range(11, -1, -1), boxes[-1])
    np.testing.assert_array_equal(first, run(range(12), boxes[0]))
    for name, value in shared.network.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_without_the_gradient_the_template_is_the_initial_one():
    frames, boxes = video(7)
    shared = tracker({"gradient": False}, update_interval=0)
    _, templates = follow(shared, frames, boxes[0])
    state = shared.start(frames[0], boxes[0])
    torch.testing.assert_close(templates[-1], state.initial)
    with pytest.raises(ValueError, match="gradient=False cannot update"):
        tracker({"gradient": False})


def test_score_maps_show_the_template_before_and_after_the_correction():
    frames, boxes = video()
    shared = tracker()
    state = shared.start(frames[0], boxes[0])
    shown = shared.score_maps(state, frames[0])
    assert shown.stride == 8
    assert shown.search_image.shape == (255, 255, 3)
    with torch.no_grad():
        searches = sample_features(shared, state, frames[0])
        for name, template in [("initial S", state.initial), ("updated S*", state.exemplar)]:
            expected = shared.network.score_map(searches, template)[0]
            np.testing.assert_allclose(shown.maps[name], expected, atol=1e-6)


def test_a_tracker_lent_inside_a_validation_loop_updates():
    module = GradNetModule(
        network(),
        partial(GradNetTracker, settings=GradNetSettings(reliable_share=-100.0)),
        Optimisation(torch.optim.SGD, partial(GeometricSchedule), reference_batch=1),
    )
    frames, boxes = video(7)
    expected, _ = follow(module.tracker(), frames, boxes[0])
    with torch.inference_mode():  # as Lightning runs validation
        found, templates = follow(module.tracker(), frames, boxes[0])
    assert changes(templates) == [5]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.box_xyxy, other.box_xyxy)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="update_interval >= 0"):
        GradNetSettings(update_interval=-1)
    with pytest.raises(ValueError, match="initial_share"):
        GradNetSettings(initial_share=1.5)
    with pytest.raises(ValueError, match="odd number of scales"):
        GradNetSettings(scales=2)
