import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from callbacks.online_figures import gradient_histogram, principal_axes, timeline_figure
from callbacks.online_learning import OnlineLearning, followed, means, table
from lightning_trackers.evaluation.one_pass import track_one_pass
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.static import StaticTracker
from lightning_trackers.losses import BinaryCrossEntropy, GradientSensitiveLoss
from lightning_trackers.online import (
    OnlineSettings,
    OnlineTracker,
    SampleSettings,
    TargetHead,
    UpdateSettings,
)

SETTINGS = OnlineSettings(
    candidates=16, best=2, initial_iterations=3, update_iterations=2, long_interval=3,
    regression_alpha=0, success_threshold=-1e9,
    samples=SampleSettings(
        initial_positives=20, initial_negatives=30, positives=5, negatives=10,
    ),
    update=UpdateSettings(positives=4, negatives=6, candidates=12),
)  # fmt: skip


class Edges:
    """Features: a box's edges relative to the frame."""

    def look(self, frames, boxes_xyxy):
        return [frame.shape[1] for frame in frames]

    def features(self, looks, boxes_xyxy):
        return [
            torch.from_numpy(boxes / width).float()
            for width, boxes in zip(looks, boxes_xyxy, strict=True)
        ]


def tracker(loss=None):
    torch.manual_seed(0)
    return OnlineTracker(Edges(), TargetHead(4, 8), loss or BinaryCrossEntropy(), SETTINGS)


def sequence(name, length):
    frames = [np.full((60, 80, 3), 100, dtype=np.uint8)] * length
    boxes = np.tile(np.array([30.0, 20.0, 50.0, 40.0]), (length, 1))
    return TrackingSequence(name, frames, boxes, np.ones(length, dtype=bool))


@pytest.fixture
def benchmark():
    return Benchmark("drawn", [sequence("long", 9), sequence("short", 4), sequence("middle", 6)])


class Module(nn.Module):
    def __init__(self, lent):
        super().__init__()
        self.lent = lent

    def tracker(self):
        return self.lent


class Logger:
    def __init__(self):
        self.metrics = {}

    def log_metrics(self, metrics):
        self.metrics |= metrics

    def save(self):
        pass


def test_each_sequence_gets_its_own_row_and_the_means_are_logged(benchmark, tmp_path):
    callback = OnlineLearning(benchmark, tmp_path, figures=1, lanes=2)
    logger = Logger()
    callback.on_fit_end(SimpleNamespace(is_global_zero=True, loggers=[logger]), Module(tracker()))
    with (tmp_path / "drawn.csv").open() as file:
        rows = {row["sequence"]: row for row in csv.DictReader(file)}
    # The first frame, then every third: 9 frames have 8 steps.
    assert {n: float(r["updates"]) for n, r in rows.items()} == pytest.approx(
        {"long": 1 + 2, "short": 1 + 1, "middle": 1 + 1, "mean": 7 / 3}, rel=1e-5
    )
    assert list(rows) == ["long", "short", "middle", "mean"]
    assert float(rows["long"]["memory"]) == 20 + 10 + 8 * 15
    assert float(rows["short"]["success_rate"]) == 1
    assert logger.metrics["online/drawn/updates"] == pytest.approx(7 / 3)
    assert logger.metrics["online/drawn/online_loss"] > 0
    names = ["long_gradients.png", "long_samples.png", "long_timeline.png"]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == names
    assert all((tmp_path / name).stat().st_size > 5000 for name in names)


def test_recording_changes_no_result_and_notes_every_frame(benchmark):
    plain = {r.name: r.boxes_xyxy for r in track_one_pass(tracker(), benchmark, lanes=2)}
    for result, target in followed(tracker(), benchmark.sequences, lanes=2):
        np.testing.assert_array_equal(result.boxes_xyxy, plain[result.name])
        assert len(target.history) == len(result.scores)
        assert target.history[0]["updates"] == 1
        assert target.history[-1] == {**target.state.statistics(), "found": target.state.found}


def test_only_the_first_sequences_are_followed_if_so_many_are_asked_for(benchmark, tmp_path):
    rows, figures = OnlineLearning(benchmark, tmp_path, sequences=1, figures=0).follow(tracker())
    assert list(rows) == ["long"]
    assert figures == []


def test_a_method_that_does_not_learn_online_is_refused_before_training(benchmark, tmp_path):
    callback = OnlineLearning(benchmark, tmp_path)
    with pytest.raises(TypeError, match=r"learns online.*got StaticTracker"):
        callback.setup(None, Module(StaticTracker()), "fit")
    callback.setup(None, Module(tracker()), "fit")


def test_counts_are_checked(benchmark, tmp_path):
    with pytest.raises(ValueError, match="sequences >= 1"):
        OnlineLearning(benchmark, tmp_path, sequences=0)


def test_a_target_that_never_learnt_has_no_loss_in_the_mean():
    rows = {
        "a": {"online_loss": float("nan"), "updates": 0},
        "b": {"online_loss": 0.5, "updates": 4},
    }
    assert means(rows) == {"online_loss": 0.5, "updates": 2}
    assert table(rows).splitlines()[1:] == ["a,nan,0", "b,0.5,4", "mean,0.5,2"]


def test_weighting_makes_a_crowd_of_equal_gradients_count_as_one_sample():
    # 8 easy negatives at p = 0.01 and 2 hard ones at p = 0.5 and 0.95, windows of 0.1.
    p = torch.tensor([0.01] * 8 + [0.5, 0.95] + [0.8], dtype=torch.float64)
    labels = torch.tensor([0.0] * 10 + [1.0])
    found = gradient_histogram(p.logit(), labels, 0, GradientSensitiveLoss(epsilon=0.1))
    assert len(found.edges) == 11
    np.testing.assert_allclose(found.samples[[0, 9]], [0.8, 0.1])
    # Weights 10 / (8 / .1), 10 / (1 / .1) twice: the sums are 1, 1 and 1.
    np.testing.assert_allclose(found.weighted[[0, 9]], [1 / 3, 1 / 3])
    # Gradients .08 + .5 + .95 = 1.53; weighted .125 * .08 + .5 + .95 = 1.46.
    np.testing.assert_allclose(found.pull[[0, 9]], [0.08 / 1.53, 0.95 / 1.53])
    np.testing.assert_allclose(found.weighted_pull[[0, 9]], [0.01 / 1.46, 0.95 / 1.46])
    of_target = gradient_histogram(p.logit(), labels, 1, GradientSensitiveLoss(epsilon=0.1))
    assert of_target.samples.argmax() in (1, 2)  # 1 - .8, on a border
    with pytest.raises(ValueError, match="label 1, got none"):
        gradient_histogram(p.logit(), torch.zeros(11), 1, GradientSensitiveLoss())


def test_principal_axes_are_those_of_largest_variance():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(400, 5)) * [0.1, 3, 0.1, 1, 0.1] + 7
    mean, axes, share = principal_axes(samples)
    np.testing.assert_allclose(mean, samples.mean(0))
    assert abs(axes[0, 1]) > 0.99
    assert abs(axes[1, 3]) > 0.99
    total = np.var(samples, axis=0).sum()
    np.testing.assert_allclose(share[0], np.var(samples @ axes[0]) / total)
    with pytest.raises(ValueError, match="n >= 3"):
        principal_axes(samples[:2])


def test_the_timeline_tells_updates_after_a_failure_from_the_others():
    def frame(updates, found):
        return {"updates": updates, "found": found, "online_loss": 0.1 * updates, "memory": 5}

    # Found, lost with an update, found with an update.
    history = [frame(1, 0), frame(1, 1), frame(2, 1), frame(3, 2)]
    figure = timeline_figure(np.array([1, 0.9, 0.2, 0.8]), history)
    drawn = {line.get_label(): list(line.get_xdata()) for line in figure.axes[1].lines}
    assert drawn == {"long-term": [1, 4], "short-term, after a failure": [3]}
