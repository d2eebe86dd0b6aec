import csv
import math

import numpy as np
import pytest
import torch

from callbacks.regression_convergence import (
    RegressionConvergence,
    convergence_figure,
    first_below,
)
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.losses import PowerLoss, ShrinkageRegressionLoss
from tests.lightning_trackers.methods.dslt.drawn import tracker, video


class Module(torch.nn.Module):
    def __init__(self, lent):
        super().__init__()
        self.lent = lent

    def tracker(self):
        return self.lent


class FakeTrainer:
    is_global_zero = True


@pytest.fixture(scope="module")
def benchmark():
    sequences = []
    for seed in (0, 1):
        frames, boxes = video(1, seed=seed)
        sequences.append(
            TrackingSequence(f"drawn{seed}", frames, boxes.astype(float), np.ones(1, bool))
        )
    return Benchmark("drawn", sequences)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_tables_hold_what_each_loss_does_on_the_first_frames(tmp_path, benchmark):
    lent = tracker()
    losses = {"l2": PowerLoss(), "shrinkage": ShrinkageRegressionLoss()}
    callback = RegressionConvergence(tmp_path, benchmark, losses, remaining=0.3, iterations=40)
    callback.on_fit_end(FakeTrainer(), Module(lent))
    for kind in ("png", "pdf"):
        assert (tmp_path / f"figure16.{kind}").stat().st_size > 1000
    steps = rows(tmp_path / "figure16_iterations.csv")
    curves = rows(tmp_path / "figure16.csv")
    assert len(curves) == 2 * 2 * 40
    for name, loss in losses.items():
        found = []
        for sequence in benchmark:
            learning = tracker(loss)
            descent = learning.descent(learning.begin(sequence.frames[0], sequence.start_xyxy))
            values = [float(descent.step()) for _ in range(40)]
            found.append([value / values[0] for value in values])
            [row] = [r for r in steps if (r["loss"], r["sequence"]) == (name, sequence.name)]
            reached = [i for i, value in enumerate(found[-1]) if value <= 0.3]
            assert float(row["steps_loss"]) == (reached[0] if reached else math.inf)
        drawn = [float(r["mean"]) for r in curves if (r["loss"], r["measure"]) == (name, "loss")]
        np.testing.assert_allclose(drawn, np.mean(found, axis=0), rtol=1e-3)
    # Of the squared loss, loss and error are one thing.
    assert all(r["steps_loss"] == r["steps_error"] for r in steps if r["loss"] == "l2")


def test_first_below():
    assert first_below([1.0, 0.5, 0.1, 0.2, 0.05], 0.1) == 2
    assert first_below([1.0, 0.5], 0.1) == math.inf


def test_bars_end_at_the_number_of_steps():
    curves = {"a": np.ones((2, 2, 5)), "b": np.full((2, 2, 5), 0.5)}
    steps = {"a": np.array([[2.0, math.inf], [4.0, math.inf]]), "b": np.zeros((2, 2))}
    figure = convergence_figure(curves, steps, 5)
    heights = [patch.get_height() for patch in figure.axes[2].patches]
    assert heights == [3, 0, 5, 0]
    assert [line.get_label() for line in figure.axes[0].lines] == ["a", "b"]


def test_another_tracker_and_bad_options_are_refused(tmp_path, benchmark):
    callback = RegressionConvergence(tmp_path, benchmark, {"l2": PowerLoss()})
    with pytest.raises(TypeError, match="expected DSLT, got object"):
        callback.on_fit_end(FakeTrainer(), Module(object()))
    with pytest.raises(ValueError, match=r"remaining in \(0, 1\)"):
        RegressionConvergence(tmp_path, benchmark, {"l2": PowerLoss()}, remaining=1.0)
