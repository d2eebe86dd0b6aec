"""Figures of what a tracker learns online: its samples, their gradients, its way through a sequence."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lightning_trackers.losses import GradientSensitiveLoss

# Of Okabe and Ito, who chose them to be told apart by everybody.
BLUE, ORANGE, GREY, RED = "#0072B2", "#D55E00", "#9A9A9A", "#CC3311"
_WIDTH, _PANEL = 7.2, 3.1  # inches: a page's text width, a panel's height
_SMALL = 8  # points


class GradientHistogram(NamedTuple):
    """How the samples of a class, and their pull on the head, spread over gradients.

    Args:
        edges: Borders of the B bins of abs(p - y), ``(B + 1,)``, from 0 to 1.
        samples: Share of the samples in each bin, ``(B,)``.
        weighted: Share of their weights.
        pull: Share of the sum of gradients.
        weighted_pull: Share of the sum of weighted gradients.
    """

    edges: np.ndarray
    samples: np.ndarray
    weighted: np.ndarray
    pull: np.ndarray
    weighted_pull: np.ndarray


def gradient_histogram(
    logits: Tensor, labels: Tensor, label: int, loss: GradientSensitiveLoss
) -> GradientHistogram:
    """Return the histogram of one class, with bins of the loss's window.

    Source: Lin et al., SPGA, MMAsia 2019, Eq. 6-11; the form of Li et al., GHM, AAAI 2019, Fig. 2.

    Args:
        logits: One per sample, ``(N,)``.
        labels: 1 and 0, ``(N,)``.
        label: The class.
        loss: Whose weights are shown.

    Raises:
        ValueError: If there is no sample of the class.
    """
    own = labels == label
    if not own.any():
        raise ValueError(f"gradient histogram: expected samples of label {label}, got none")
    found = loss.weights(logits[None], labels[None])[0][own]
    weights = found.double().cpu().numpy()
    sizes = (logits.sigmoid() - labels).abs()[own].double().cpu().numpy()
    edges = np.linspace(0, 1, max(1, round(1 / loss.epsilon)) + 1)

    def shares(amounts: np.ndarray) -> np.ndarray:
        sums: np.ndarray = np.histogram(sizes, edges, weights=amounts)[0]
        sums /= max(sums.sum(), np.finfo(float).tiny)
        return sums

    ones = np.ones_like(sizes)
    return GradientHistogram(
        edges, shares(ones), shares(weights), shares(sizes), shares(weights * sizes)
    )


def gradient_figure(
    logits: Tensor, labels: Tensor, loss: GradientSensitiveLoss, title: str = ""
) -> Figure:
    """Draw samples and gradients of both classes before and after weighting.

    Args:
        logits: One per sample, ``(N,)``.
        labels: 1 and 0, ``(N,)``; both occur.
        loss: Whose weights are shown.
        title: Title of the figure; none if empty.
    """
    figure = Figure(figsize=(_WIDTH, 1.7 * _PANEL), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, (label, name) in enumerate(((0, "background"), (1, "target"))):
        found = gradient_histogram(logits, labels, label, loss)
        count = int((labels == label).sum())
        axes[0, column].set_title(f"{name}, {count} samples", fontsize=_SMALL + 1)
        axes[1, column].set_xlabel("gradient, |p − y|", fontsize=_SMALL)
        _before_and_after(axes[0, column], found.edges, found.samples, found.weighted)
        _before_and_after(axes[1, column], found.edges, found.pull, found.weighted_pull)
    axes[0, 0].set_ylabel("share of samples, by weight", fontsize=_SMALL)
    axes[1, 0].set_ylabel("share of the summed gradient", fontsize=_SMALL)
    axes[0, 0].legend(fontsize=_SMALL, frameon=False)
    if title:
        figure.suptitle(title, fontsize=_SMALL + 1)
    return figure


def _before_and_after(axes: Axes, edges: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    axes.stairs(before, edges, fill=True, color=GREY, alpha=0.55, label="cross-entropy")
    axes.stairs(after, edges, color=ORANGE, linewidth=1.4, label="gradient sensitive")
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_ylim(top=1.5)
    _plain(axes)


def sample_figure(
    positives: Tensor, batch: Tensor, generated: Tensor, negatives: Tensor, title: str = ""
) -> Figure:
    """Draw real and generated positive samples on the principal axes of the real ones.

    Left the axes of target and background together, right those of the target alone.

    Source: Lin et al., SPGA, MMAsia 2019, Section 3.1.

    Args:
        positives: Features of the target, ``(P, d)``.
        batch: Those that others were generated from, ``(n, d)``.
        generated: The generated ones, ``(m, d)``.
        negatives: Features beside it, ``(N, d)``.
        title: Title of the figure; none if empty.
    """
    real, drawn, used, beside = (
        x.double().cpu().numpy() for x in (positives, generated, batch, negatives)
    )
    groups = (
        (beside, GREY, ".", 12, f"background ({len(beside)})"),
        (real, "#8CC4E6", ".", 22, f"target ({len(real)})"),
        (used, BLUE, "o", 22, f"target, mini-batch ({len(used)})"),
        (drawn, ORANGE, "x", 22, f"generated ({len(drawn)})"),
    )
    figure = Figure(figsize=(_WIDTH, _PANEL + 0.5), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, of, shown, name in (
        (panels[0], np.concatenate([real, beside]), groups, "target and background"),
        (panels[1], real, groups[1:], "target alone"),
    ):
        mean, principal, share = principal_axes(of)
        for points, colour, marker, size, label in shown:
            x, y = ((points - mean) @ principal.T).T
            axes.scatter(x, y, s=size, c=colour, marker=marker, linewidths=0.9, label=label)
        axes.set_title(f"principal axes of {name}", fontsize=_SMALL + 1)
        axes.set_xlabel(f"first ({share[0]:.0%} of the variance)", fontsize=_SMALL)
        axes.set_ylabel(f"second ({share[1]:.0%})", fontsize=_SMALL)
        _plain(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, fontsize=_SMALL, frameon=False
    )
    if title:
        figure.suptitle(title, fontsize=_SMALL + 1)
    return figure


def principal_axes(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean ``(d,)``, the two axes of largest variance ``(2, d)`` and their shares of it ``(2,)``.

    Raises:
        ValueError: If there are fewer than three samples, or fewer than two features.
    """
    if samples.ndim != 2 or len(samples) < 3 or samples.shape[1] < 2:
        raise ValueError(f"principal axes: expected shape (n >= 3, d >= 2), got {samples.shape}")
    mean = samples.mean(0)
    _, spread, axes = np.linalg.svd(samples - mean, full_matrices=False)
    variance = spread**2
    return mean, axes[:2], variance[:2] / max(variance.sum(), np.finfo(float).tiny)


def timeline_figure(
    scores: np.ndarray, history: Sequence[dict[str, float]], title: str = ""
) -> Figure:
    """Draw score, loss of each update and size of the memory along a sequence.

    Args:
        scores: Confidence of each frame, ``(T,)``.
        history: ``OnlineState.statistics()`` after each frame.
        title: Title of the figure; none if empty.
    """
    frames = np.arange(1, len(history) + 1)
    updates, losses, memory, found = (
        np.array([frame[name] for frame in history])
        for name in ("updates", "online_loss", "memory", "found")
    )
    learnt = np.concatenate([[updates[0] > 0], np.diff(updates) > 0])
    lost = np.concatenate([[False], np.diff(found) == 0])
    figure = Figure(figsize=(_WIDTH, 1.6 * _PANEL), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    panels[0].plot(frames, scores[: len(frames)], color=BLUE, linewidth=1.2)
    panels[0].set_ylim(0, 1.05)
    panels[0].set_ylabel("score", fontsize=_SMALL)
    for kind, which, colour in (
        ("long-term", learnt & ~lost, BLUE),
        ("short-term, after a failure", learnt & lost, RED),
    ):
        panels[1].plot(frames[which], losses[which], "o", markersize=3.5, color=colour, label=kind)
    panels[1].set_ylabel("loss of an update", fontsize=_SMALL)
    panels[1].set_ylim(bottom=0)
    panels[1].legend(fontsize=_SMALL, frameon=False)
    panels[2].plot(frames, memory, color=BLUE, linewidth=1.2)
    panels[2].set_ylim(bottom=0)
    panels[2].set_ylabel("samples in memory", fontsize=_SMALL)
    panels[2].set_xlabel("frame", fontsize=_SMALL)
    for axes in panels:
        for frame in frames[lost]:
            axes.axvspan(frame - 0.5, frame + 0.5, color=RED, alpha=0.12, linewidth=0)
        axes.set_xlim(0.5, len(frames) + 0.5)
        _plain(axes)
    if title:
        figure.suptitle(title, fontsize=_SMALL + 1)
    return figure


def logits_of(head: torch.nn.Module, weights: dict[str, Tensor], features: Tensor) -> Tensor:
    """Return a target's logit of each sample: target less background, ``(N, d)`` to ``(N,)``."""
    with torch.no_grad():
        found: Tensor = torch.func.functional_call(head, weights, (features,))
    return found[:, 1] - found[:, 0]


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=_SMALL - 1)
    axes.spines[["top", "right"]].set_visible(False)
