"""GradNet's Figures 2 and 4: overfitting curves, and the weights that U2 gives to gradients."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure

from lightning_trackers.files import atomic_file, write_text
from lightning_trackers.methods.gradnet import GradNetModule


class GradNetFigures(pl.Callback):
    """Draws what template generalization changes, for this run and others beside it.

    Writes ``gradnet.json`` (the numbers), ``overfitting.png`` (Fig. 2: distance of score maps from
    their labels on training pairs, and precision of the tracker on validation sequences where
    ``evaluation.every_n_epochs`` asks for it) and ``gradient_weights.png`` (Fig. 4: distribution of
    the weights of U2, the proportion in which gradients are added to features).

    Source: Li et al., GradNet, ICCV 2019, Figures 2 and 4.

    Args:
        output_dir: Folder of the figures.
        name: Name of this run in the figures.
        beside: Folders with the figures of other runs, by name.
    """

    def __init__(
        self, output_dir: str | Path, name: str, beside: Mapping[str, str | Path] | None = None
    ) -> None:
        self.output_dir = Path(output_dir)
        self.name = name
        self.beside = {
            other: Path(folder) / "gradnet.json" for other, folder in (beside or {}).items()
        }
        self.curves: list[dict[str, float]] = []
        self._errors: list[torch.Tensor] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a folder without figures before hours of training.

        Raises:
            FileNotFoundError: If one has none.
            TypeError: If it is not GradNet that is trained.
        """
        if not isinstance(pl_module, GradNetModule):
            raise TypeError(f"gradnet figures: expected GradNet, got {type(pl_module).__name__}")
        for name, path in self.beside.items():
            if not path.is_file():
                raise FileNotFoundError(f"gradnet figures beside {name!r}: no such file {path}")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the step's error."""
        self._errors.append(trainer.callback_metrics["train/map_error"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch's point of the curves."""
        point = {}
        if self._errors:  # a run may be resumed at an epoch's end
            point["map_error"] = torch.stack(self._errors).mean().item()
            self._errors = []
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/") and name.endswith("/precision_20px"):
                point["precision"] = float(value)
        self.curves.append({"epoch": float(trainer.current_epoch), **point})

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write numbers and figures."""
        assert isinstance(pl_module, GradNetModule)
        if not trainer.is_global_zero:
            return
        own = {"curves": self.curves, "weights": gradient_weights(pl_module)}
        write_text(self.output_dir / "gradnet.json", json.dumps(own))
        runs = {self.name: own}
        for name, path in self.beside.items():
            runs[name] = json.loads(path.read_text(encoding="utf-8"))
        figures = {"overfitting": overfitting_figure(runs), "gradient_weights": weight_figure(runs)}
        for title, figure in figures.items():
            if figure is not None:
                with atomic_file(self.output_dir / f"{title}.png") as partial:
                    figure.savefig(partial, dpi=130, format="png")

    def state_dict(self) -> dict[str, Any]:
        """Return the curves, so that a resumed run has all of them."""
        return {"curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the curves of an interrupted run."""
        self.curves = list(state_dict["curves"])


def gradient_weights(module: GradNetModule) -> list[float]:
    """Return quantiles of the absolute weights of U2, 101 of them; none without U2.

    The unit is that of the features: U2 sees gradients multiplied by ``gradient_scale``, of the order
    of the features themselves, and features have weight 1 in Eq. 6.
    """
    if module.network.u2 is None:
        return []
    conv = next(m for m in module.network.u2.modules() if isinstance(m, torch.nn.Conv2d))
    weights = conv.weight.detach().abs().flatten().double().cpu().numpy()
    return [float(q) for q in np.quantile(weights, np.linspace(0, 1, 101))]


def weight_figure(runs: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Draw the share of U2's weights above each value, one curve a run; None where no run has U2."""
    shown = {name: run["weights"] for name, run in runs.items() if run["weights"]}
    if not shown:
        return None
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, quantiles in shown.items():
        axes.plot(quantiles, np.linspace(1, 0, len(quantiles)), label=name)
    axes.set_xlabel("weight of the gradient, |U2|")
    axes.set_ylabel("share of weights above")
    axes.legend(fontsize=8)
    return figure


def overfitting_figure(runs: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Draw the runs' curves, a panel for each that some run has; None where no run has any."""
    shown = {name: run["curves"] for name, run in runs.items() if run["curves"]}
    if not shown:
        return None
    titles = {
        "map_error": "distance of S* from Y, training pairs",
        "precision": "precision at 20 px, validation sequences",
    }
    drawn = {key for curve in shown.values() for point in curve for key in point}
    panels = {key: title for key, title in titles.items() if key in drawn}
    figure = Figure(figsize=(4.2 * len(panels), 3.2), layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (key, title) in zip(all_axes, panels.items(), strict=True):
        for name, curve in shown.items():
            points = [(point["epoch"] + 1, point[key]) for point in curve if key in point]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel(title, fontsize=8)
        axes.legend(fontsize=8)
    return figure
