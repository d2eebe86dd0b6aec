import json
from functools import partial

import pytest
import torch

from callbacks.gradnet_figures import (
    GradNetFigures,
    gradient_weights,
    overfitting_figure,
    weight_figure,
)
from lightning_trackers.backbones import Tiny
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.gradnet import (
    GradNet,
    GradNetModule,
    GradNetSettings,
    GradNetTracker,
)
from lightning_trackers.training import GeometricSchedule, Optimisation


def module(**options):
    return GradNetModule(
        GradNet(Tiny(2, 4), BinaryCrossEntropy(balanced=True), **options),
        partial(GradNetTracker, settings=GradNetSettings()),
        Optimisation(torch.optim.SGD, partial(GeometricSchedule), reference_batch=1),
    )


class FakeTrainer:
    is_global_zero = True
    current_epoch = 0

    def __init__(self):
        self.callback_metrics = {}


def run(callback, errors, precisions, trained):
    """Take epochs of two steps each, as the trainer's hooks come."""
    trainer = FakeTrainer()
    callback.setup(trainer, trained, "fit")
    for epoch, (pair, precision) in enumerate(zip(errors, precisions, strict=True)):
        trainer.current_epoch = epoch
        for error in pair:
            trainer.callback_metrics["train/map_error"] = torch.tensor(error)
            callback.on_train_batch_end(trainer, trained, None, None, 0)
        if precision is not None:
            trainer.callback_metrics["val/drawn/precision_20px"] = torch.tensor(precision)
        callback.on_train_epoch_end(trainer, trained)
    callback.on_fit_end(trainer, trained)


def test_curves_hold_the_mean_error_of_each_epoch_and_the_precision(tmp_path):
    callback = GradNetFigures(tmp_path, "ours")
    run(callback, [(0.4, 0.2), (0.1, 0.3)], [0.5, 0.6], module())
    written = json.loads((tmp_path / "gradnet.json").read_text())["curves"]
    assert [point["epoch"] for point in written] == [0, 1]
    assert [point["map_error"] for point in written] == pytest.approx([0.3, 0.2])
    assert [point["precision"] for point in written] == pytest.approx([0.5, 0.6])
    assert (tmp_path / "overfitting.png").stat().st_size > 1000
    assert (tmp_path / "gradient_weights.png").stat().st_size > 1000
    resumed = GradNetFigures(tmp_path, "ours")
    resumed.load_state_dict(callback.state_dict())
    assert resumed.curves == callback.curves


def test_an_epoch_of_which_the_end_alone_was_left_has_precision_alone(tmp_path):
    callback = GradNetFigures(tmp_path, "ours")
    run(callback, [(), (0.4, 0.2)], [0.1, 0.5], module())
    [errors, precisions] = overfitting_figure({"ours": {"curves": callback.curves}}).axes
    assert list(errors.lines[0].get_xdata()) == [2]
    assert list(precisions.lines[0].get_ydata()) == pytest.approx([0.1, 0.5])


def test_another_run_is_drawn_beside(tmp_path):
    run(GradNetFigures(tmp_path / "a", "a"), [(0.4, 0.2)], [None], module())
    both = GradNetFigures(tmp_path / "b", "b", beside={"a": tmp_path / "a"})
    run(both, [(0.5, 0.5)], [None], module())
    runs = {n: json.loads((tmp_path / n / "gradnet.json").read_text()) for n in "ab"}
    figure = overfitting_figure(runs)
    [axes] = figure.axes  # nobody tracked: no second panel
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn == {"a": pytest.approx([0.3]), "b": pytest.approx([0.5])}
    with pytest.raises(FileNotFoundError, match="'c'"):
        GradNetFigures(tmp_path, "d", beside={"c": tmp_path}).setup(None, module(), "fit")


def test_weights_are_quantiles_of_the_absolute_weights_of_u2():
    trained = module()
    conv = trained.network.u2[0]
    conv.weight.data = torch.linspace(-1, 1, conv.weight.numel()).view_as(conv.weight)
    quantiles = gradient_weights(trained)
    assert quantiles[0] == pytest.approx(0, abs=1e-2)
    assert quantiles[50] == pytest.approx(0.5, abs=1e-2)
    assert quantiles[100] == 1
    assert gradient_weights(module(gradient=False)) == []


def test_a_run_without_u2_has_no_curve_of_weights():
    assert weight_figure({"plain": {"weights": []}}) is None
    figure = weight_figure({"plain": {"weights": []}, "ours": {"weights": [0.0, 1.0]}})
    assert [line.get_label() for line in figure.axes[0].lines] == ["ours"]
