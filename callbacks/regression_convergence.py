"""DSLT's Figure 16: how fast the response to a target is learnt with each loss."""

import csv
import io
import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure

from callbacks.benchmark_evaluation import lent_tracker
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.files import atomic_file, write_text
from lightning_trackers.losses import RegressionLoss
from lightning_trackers.methods.dslt import DSLTTracker

log = logging.getLogger(__name__)

MEASURES = {"loss": "its own loss", "error": "the squared error"}


class RegressionConvergence(pl.Callback):
    """Learns the first frame of sequences with several losses, and writes ``figure16`` of them.

    ``figure16.csv`` holds the curves, ``figure16_iterations.csv`` the steps of each sequence, and
    ``figure16.png`` and ``.pdf`` draw both: the training loss (mean over sequences and its deviation)
    and the mean steps until it has converged.

    Source: Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Fig. 16, top.
    Deviation: the paper does not say when a loss has converged; here when it has fallen to
        ``remaining`` of the loss it began with. As losses differ in what is left of a small error, the
        squared error of the same responses is followed too, under the same rule for all of them.

    Args:
        output_dir: Folder of the figure.
        benchmark: Its sequences' first frames are learnt.
        losses: Losses by name.
        remaining: Share of the first value at which loss or error counts as converged.
        iterations: Steps; a sequence that has not converged by then counts as never converging.
    """

    def __init__(
        self,
        output_dir: str | Path,
        benchmark: Benchmark,
        losses: Mapping[str, RegressionLoss],
        remaining: float = 0.1,
        iterations: int = 300,
    ) -> None:
        if not losses or not 0 < remaining < 1 <= iterations:
            raise ValueError(
                "figure 16: expected losses, remaining in (0, 1) and iterations >= 1, got "
                f"{list(losses)}, {remaining} and {iterations}"
            )
        self.output_dir = Path(output_dir)
        self.benchmark = benchmark
        self.losses = dict(losses)
        self.remaining = remaining
        self.iterations = iterations

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write figure and tables.

        Raises:
            TypeError: If it is not DSLT whose tracker the module lends.
        """
        tracker = lent_tracker(pl_module)
        if not isinstance(tracker, DSLTTracker):
            raise TypeError(f"figure 16: expected DSLT, got {type(tracker).__name__}")
        if not trainer.is_global_zero:
            return
        curves = {
            name: np.stack([self._curve(tracker, loss, s) for s in self.benchmark])
            for name, loss in self.losses.items()
        }  # (sequences, measures, iterations)
        steps = {
            name: np.array([[first_below(c, self.remaining) for c in own] for own in found])
            for name, found in curves.items()
        }  # (sequences, measures)
        write_text(self.output_dir / "figure16.csv", _csv(_curve_rows(curves)))
        names = [s.name for s in self.benchmark]
        write_text(self.output_dir / "figure16_iterations.csv", _csv(_step_rows(steps, names)))
        figure = convergence_figure(curves, steps, self.iterations)
        for kind in ("png", "pdf"):
            with atomic_file(self.output_dir / f"figure16.{kind}") as partial:
                figure.savefig(partial, dpi=130, format=kind)
        for name, found in steps.items():
            log.info(
                "%12s: %s", name,
                ", ".join(f"{_said(found[:, i])} until {m}" for i, m in enumerate(MEASURES.values())),
            )  # fmt: skip
        log.info("figure 16: %s", self.output_dir / "figure16.png")

    def _curve(
        self, tracker: DSLTTracker, loss: RegressionLoss, sequence: TrackingSequence
    ) -> np.ndarray:
        """Return loss and squared error at every step, relative to the first, ``(2, iterations)``."""
        learning = DSLTTracker(tracker.network, loss, tracker.settings)
        # Lightning may call us in inference mode, in which nothing learns.
        with torch.inference_mode(False):
            state = learning.begin(sequence.frames[0], sequence.start_xyxy)
            descent = learning.descent(state)
            found = []
            for _ in range(self.iterations):
                value = float(descent.step())
                error = float((descent.responses - descent.labels).square().mean())
                found.append((value, error))
        values = np.array(found).T
        relative: np.ndarray = values / values[:, :1]
        return relative


def first_below(values: Iterable[float], goal: float) -> float:
    """Return the number of the first value that is not above a goal, ``inf`` if all are."""
    return next((float(i) for i, value in enumerate(values) if value <= goal), math.inf)


def convergence_figure(
    curves: Mapping[str, np.ndarray], steps: Mapping[str, np.ndarray], iterations: int
) -> Figure:
    """Draw curves and steps.

    Args:
        curves: Loss and error relative to the first, ``(sequences, 2, iterations)``, by loss.
        steps: Steps until both have converged, ``(sequences, 2)``, by loss.
        iterations: Steps that were taken; bars of what did not converge end there.
    """
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    all_axes = figure.subplots(1, 3)
    for i, (axes, said) in enumerate(zip(all_axes, MEASURES.values(), strict=False)):
        for name, found in curves.items():
            mean, deviation = found[:, i].mean(0), found[:, i].std(0)
            [line] = axes.plot(mean, label=name)
            low = np.maximum(mean - deviation, 1e-4)  # the axis is logarithmic
            axes.fill_between(
                range(len(mean)), low, mean + deviation, alpha=0.15, color=line.get_color()
            )
        axes.set_yscale("log")
        axes.set_ylim(1e-3, 2)
        axes.set_xlabel("step of the first frame")
        axes.set_ylabel(f"{said}, relative to its beginning")
        axes.legend(fontsize=8)
    bars = all_axes[2]
    places = np.arange(len(steps))
    for i, said in enumerate(MEASURES.values()):
        heights = [np.minimum(found[:, i], iterations).mean() for found in steps.values()]
        bars.bar(places + 0.4 * (i - 0.5), heights, 0.4, label=said)
    bars.set_xticks(places, list(steps), fontsize=8)
    bars.set_ylabel("steps to converge, mean")
    bars.legend(fontsize=8)
    return figure


def _curve_rows(curves: Mapping[str, np.ndarray]) -> list[list[str]]:
    rows = [["loss", "measure", "step", "mean", "deviation"]]
    for name, found in curves.items():
        for i, measure in enumerate(MEASURES):
            columns = zip(found[:, i].mean(0), found[:, i].std(0), strict=True)
            rows += [
                [name, measure, str(t), f"{m:.6g}", f"{d:.6g}"] for t, (m, d) in enumerate(columns)
            ]
    return rows


def _step_rows(steps: Mapping[str, np.ndarray], sequences: list[str]) -> list[list[str]]:
    rows = [["loss", "sequence", *(f"steps_{measure}" for measure in MEASURES)]]
    for name, found in steps.items():
        rows += [
            [name, sequence, *(f"{n:g}" for n in own)]
            for sequence, own in zip(sequences, found, strict=True)
        ]
    return rows


def _csv(rows: list[list[str]]) -> str:
    lines = io.StringIO()
    csv.writer(lines).writerows(rows)
    return lines.getvalue()


def _said(steps: np.ndarray) -> str:
    reached = steps[np.isfinite(steps)]
    mean = f"{reached.mean():.0f} steps" if len(reached) else "never"
    return mean if len(reached) == len(steps) else f"{mean} ({len(reached)} of {len(steps)})"
