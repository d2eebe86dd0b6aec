import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lightning_trackers.backbones import Tiny
from lightning_trackers.crops import Window
from lightning_trackers.evaluation.looking import Situation, is_looking
from lightning_trackers.evaluation.one_pass import track_one_pass
from lightning_trackers.evaluation.output_memo import OutputMemo
from lightning_trackers.evaluation.replay import Lattice, OnLattice, Replay
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.heads import DepthwiseRPN
from lightning_trackers.methods.siamfc import SiamFC, SiamFCSettings, SiamFCTracker
from lightning_trackers.methods.siamrpn import SiamRPN, SiamRPNSettings, SiamRPNTracker
from lightning_trackers.siamese import cosine_window, for_inference

LATTICE = Lattice(shift=16.0, zoom=1.1)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Patches(nn.Module):
    """Features that are the image itself in cells of 8 px, so correlation is template matching."""

    stride = 8
    out_channels = 3

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(8 + 7, 8)
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return nn.functional.normalize(self.pool(images * self.one), dim=1)


def siamfc():
    return SiamFCTracker(for_inference(SiamFC(Patches(), 1.0)), SiamFCSettings())


def siamrpn():
    torch.manual_seed(0)
    network = SiamRPN(Tiny(4, 8), partial(DepthwiseRPN, hidden=8))
    return SiamRPNTracker(for_inference(network), SiamRPNSettings(search_size=255))


def sequence(count=7, name="tiles", growth=1.03):
    """A square of coloured tiles that moves and grows over grey noise."""
    rng = np.random.default_rng(0)
    tiles = np.kron(rng.integers(0, 256, (5, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    background = rng.integers(110, 140, (160, 220, 3)).astype(np.uint8)
    frames, boxes = [], []
    for t in range(count):
        frame, side = background.copy(), round(40 * growth**t)
        x, y = 60 + 4 * t, 50 + 2 * t
        index = np.arange(side) * 40 // side
        frame[y : y + side, x : x + side] = tiles[index][:, index]
        frames.append(frame)
        boxes.append([x, y, x + side, y + side])
    return TrackingSequence(name, frames, np.array(boxes, float), np.ones(count, bool))


OTHERS = {
    siamfc: [{}, {"scale_lr": 0.1}, {"window_influence": 0.95}, {"scale_penalty": 0.8}],
    siamrpn: [{}, {"size_lr": 0.9}, {"window_influence": 0.9}, {"scale_penalty": 10.0}],
}


def followed(tracker, run):
    [result] = track_one_pass(tracker, Benchmark("one", [run]), lanes=1)
    return result


@pytest.mark.parametrize("make", [siamfc, siamrpn])
def test_a_replay_gives_what_the_tracker_gives_on_the_lattice(make, tmp_path):
    tracker, run = make(), sequence()
    settings = [dataclasses.replace(tracker.settings, **other) for other in OTHERS[make]]
    replay = Replay(tracker, run, OutputMemo(tmp_path), LATTICE)
    results = replay.follow(settings)
    paths = [result.boxes_xyxy for result in results]
    for mine, result in zip(settings, results, strict=True):
        live = followed(OnLattice(type(tracker)(tracker.network, mine), LATTICE), run)
        # The network's answers differ by rounding with the number of crops in a batch.
        np.testing.assert_allclose(result.boxes_xyxy, live.boxes_xyxy, atol=1e-2)
        np.testing.assert_allclose(result.scores, live.scores, atol=1e-4)
    # The settings matter: with them the target's path changes.
    assert len({path.tobytes() for path in paths}) >= 3


@pytest.mark.parametrize("make", [siamfc, siamrpn])
def test_exact_windows_give_what_the_tracker_gives(make):
    # A lattice this fine moves no window by more than a thousandth of a pixel.
    tracker, run = make(), sequence(4)
    fine = OnLattice(tracker, Lattice(shift=1e-3, zoom=1 + 1e-6))
    np.testing.assert_allclose(
        followed(fine, run).boxes_xyxy, followed(tracker, run).boxes_xyxy, atol=0.05
    )


def test_what_was_seen_is_not_looked_at_again(tmp_path):
    tracker, run = siamfc(), sequence()
    first = Replay(tracker, run, OutputMemo(tmp_path), LATTICE)
    [before] = first.follow([tracker.settings])
    assert first.looks == len(run) - 1
    # Neither pixels nor the network are needed: both would raise.
    blind = TrackingSequence("tiles", [None] * len(run), run.boxes_xyxy, run.valid)
    tracker.network.track = tracker.network.exemplar = None
    again = Replay(tracker, blind, OutputMemo(tmp_path), LATTICE)
    [after] = again.follow([tracker.settings])
    assert again.looks == 0
    np.testing.assert_array_equal(before.boxes_xyxy, after.boxes_xyxy)


def test_a_sequence_of_one_frame_is_its_first_box(tmp_path):
    tracker, run = siamfc(), sequence(1)
    [result] = Replay(tracker, run, OutputMemo(tmp_path), LATTICE).follow([tracker.settings])
    np.testing.assert_array_equal(result.boxes_xyxy, run.boxes_xyxy)


def test_frames_of_other_sizes_are_refused(tmp_path):
    run = sequence(3)
    frames = [*run.frames[:2], run.frames[2][:-1]]
    odd = TrackingSequence("odd", frames, run.boxes_xyxy, run.valid)
    tracker = siamfc()
    with pytest.raises(ValueError, match=r"odd, frame 3: expected \[220, 160\] px .* \[220, 159\]"):
        Replay(tracker, odd, OutputMemo(tmp_path), LATTICE).follow([tracker.settings])


def test_lattice_by_hand():
    lattice = Lattice(shift=10.0, zoom=2.0)
    # Side 70 lies between 64 = 2^6 and 128, nearer to 64 (70 / 64 < 128 / 70); a step is then
    # 10 px of a crop of 320 px, 64 / 320 * 10 = 2 frame px.
    window = Window(33.1, 40.9, 70.0, 320)
    assert lattice.place(window) == (6, 17, 20)
    assert lattice.window((6, 17, 20), 320) == Window(34.0, 40.0, 64.0, 320)


@pytest.mark.parametrize("values", [{"shift": 0.0}, {"zoom": 1.0}, {"zoom": math.inf}])
def test_an_empty_lattice_is_refused(values):
    with pytest.raises(ValueError, match=f"expected {next(iter(values))}"):
        Lattice(**values)


def test_a_target_in_the_middle_has_no_shift():
    box = np.array([[10.0, 20, 50, 40]])
    size = np.array([[40.0, 20]])
    middle = Situation([Window(30, 30, 100, 200)], box, size, size)
    assert middle.shifts() is None
    # The window lies 3 px to the right of the target, and a frame px is 2 crop px.
    right = Situation([Window(33, 30, 100, 200)], box, size, size)
    np.testing.assert_allclose(right.shifts(), [[-6, 0]])


def test_the_cosine_window_follows_its_shift():
    still, right, down = cosine_window(17, np.array([[0.0, 0], [2, 0], [0, 3]]))
    np.testing.assert_allclose(still, cosine_window(17), atol=1e-6)
    np.testing.assert_allclose(right[:, 2:], still[:, :-2], atol=1e-6)
    np.testing.assert_allclose(down[3:], still[:-3], atol=1e-6)
    assert right[:, :2].abs().max() == 0 == down[:3].abs().max()


def test_only_a_tracker_with_both_halves_is_looking():
    assert is_looking(siamfc())
    assert not is_looking(OnLattice(siamfc(), LATTICE))
