"""Figures of score maps over the search region that they belong to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pytorch_lightning.loggers import WandbLogger

from callbacks.benchmark_evaluation import evaluation_mode, lent_tracker
from lightning_trackers.evaluation.score_maps import ScoreMaps
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.files import atomic_file
from lightning_trackers.methods.loading import load_tracker

_PANEL = 2.4  # inches
_DARK = 0.35  # brightness of the grey search image beneath a map


def score_map_figure(
    search_image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    *,
    stride: int | None = None,
    box_xyxy: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """Draw a search image and, beside it, maps over it.

    All maps share one colour scale, so that they can be compared.

    Args:
        search_image: The search region, uint8 RGB ``(S, S, 3)``.
        maps: Maps by title, ``(H, W)`` each; tensors on the CPU do too.
        stride: Px of the region per cell: a map is drawn where it lies, in the middle of the region.
            None spreads it over the whole region.
        box_xyxy: A box to draw on every picture, ``(4,)``, px of the region.
        title: Title of the figure; none if empty.

    Returns:
        The figure, to be saved or logged.

    Raises:
        ValueError: If there is no map, or one has not two axes.
    """
    shown = {name: np.asarray(values, dtype=np.float64) for name, values in maps.items()}
    if not shown or any(values.ndim != 2 for values in shown.values()):
        shapes = {name: values.shape for name, values in shown.items()}
        raise ValueError(f"score maps: expected maps of shape (H, W), got {shapes}")
    height, width = search_image.shape[:2]
    low = min(float(np.nanmin(values)) for values in shown.values())
    high = max(float(np.nanmax(values)) for values in shown.values())
    figure = Figure(figsize=(_PANEL * (len(shown) + 1) + 0.7, _PANEL + 0.5), layout="constrained")
    axes = figure.subplots(1, len(shown) + 1, squeeze=False)[0]
    grey = cv2.cvtColor(np.ascontiguousarray(search_image), cv2.COLOR_RGB2GRAY)
    axes[0].imshow(search_image, extent=(0, width, height, 0))
    axes[0].set_title("search region", fontsize=8)
    for axis, (name, values) in zip(axes[1:], shown.items(), strict=True):
        axis.imshow(_DARK * grey, extent=(0, width, height, 0), cmap="gray", vmin=0, vmax=255)
        cells_y, cells_x = values.shape
        side_x, side_y = (width, height) if stride is None else (stride * cells_x, stride * cells_y)
        left, top = (width - side_x) / 2, (height - side_y) / 2
        drawn = axis.imshow(
            values,
            extent=(left, left + side_x, top + side_y, top),
            cmap="viridis",
            vmin=low,
            vmax=high,
            interpolation="nearest",
            alpha=0.85,
        )
        axis.set_title(name, fontsize=8)
        axis.set_xlim(0, width)
        axis.set_ylim(height, 0)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        if box_xyxy is not None:
            x1, y1, x2, y2 = (float(v) for v in box_xyxy)
            axis.add_patch(
                Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="yellow", linewidth=1.2)
            )
    figure.colorbar(drawn, ax=list(axes), shrink=0.8).ax.tick_params(labelsize=7)
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


class ScoreMapFigures(pl.Callback):
    """Draws the score maps of the trained tracker, and of others beside it, after the training.

    A target is followed up to a frame; there all trackers look at the same search region, around the
    ground truth of the frame before, so that their maps can be compared cell by cell.

    Args:
        benchmark: Where the sequences come from.
        output_dir: Folder of the figures, one PNG a sequence.
        sequences: Sequences drawn, from the first on.
        frame: The frame that is looked at, as a share of the sequence; the nearest one that is
            annotated, as is the frame before it.
        beside: Checkpoints of other trackers by name, such as ``{without emphasis: .../last.ckpt}``.
        name: Name of the trained tracker in the figures.

    Raises:
        ValueError: If the share is not in (0, 1).
    """

    def __init__(
        self,
        benchmark: Benchmark,
        output_dir: str | Path,
        sequences: int = 4,
        frame: float = 0.5,
        beside: Mapping[str, str | Path] | None = None,
        name: str = "trained",
    ) -> None:
        if not 0 < frame < 1:
            raise ValueError(f"score maps: expected a frame in (0, 1), got {frame}")
        self.benchmark = benchmark
        self.output_dir = Path(output_dir)
        self.sequences = sequences
        self.frame = frame
        self.beside = dict(beside or {})
        self.name = name

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a checkpoint that is not there before hours of training.

        Raises:
            FileNotFoundError: If one is missing.
        """
        for name, checkpoint in self.beside.items():
            if not Path(checkpoint).is_file():
                raise FileNotFoundError(f"score maps of {name!r}: no checkpoint {checkpoint}")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the figures and log them to W&B."""
        if not trainer.is_global_zero:
            return
        with evaluation_mode(pl_module):
            trackers = {self.name: lent_tracker(pl_module)}
            trackers |= {name: load_tracker(path) for name, path in self.beside.items()}
            paths = self.draw(trackers)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("test/score_maps", [str(path) for path in paths])

    def draw(self, trackers: Mapping[str, Tracker[Any]]) -> list[Path]:
        """Write the figures of any trackers that show their scores, and return their paths.

        Args:
            trackers: Trackers with ``score_maps``, by name.

        Raises:
            TypeError: If a tracker has none.
        """
        for name, tracker in trackers.items():
            if not hasattr(tracker, "score_maps"):
                raise TypeError(f"score maps of {name!r}: {type(tracker).__name__} shows none")
        paths = []
        for sequence in self.benchmark.sequences[: self.sequences]:
            t = nearest_frame(sequence, self.frame)
            path = self.output_dir / f"{sequence.name}.png"
            figure = compared(trackers, sequence, t)
            with atomic_file(path) as partial:
                figure.savefig(partial, dpi=130, format="png")
            paths.append(path)
        return paths


def nearest_frame(sequence: TrackingSequence, share: float) -> int:
    """Return the frame nearest to a share of a sequence of which it and its predecessor are annotated.

    Raises:
        ValueError: If there is none.
    """
    annotated = sequence.valid & np.isfinite(sequence.boxes_xyxy).all(axis=1)  # (T,)
    possible = 1 + np.flatnonzero(annotated[1:] & annotated[:-1])
    if not len(possible):
        raise ValueError(f"score maps: {sequence.name} has no two annotated frames in a row")
    return int(possible[np.abs(possible - share * len(sequence)).argmin()])


def compared(trackers: Mapping[str, Tracker[Any]], sequence: TrackingSequence, t: int) -> Figure:
    """Return the figure of frame ``t`` of a sequence, with the maps of each tracker.

    A tracker follows the target until the frame before, so that what it learns online is in its maps,
    and is then put back onto the ground truth.
    """
    maps: dict[str, np.ndarray] = {}
    shown: ScoreMaps | None = None
    states = {
        name: tracker.start(sequence.frames[0], sequence.start_xyxy)
        for name, tracker in trackers.items()
    }
    for frame_number in range(1, t):
        frame = sequence.frames[frame_number]
        for name, tracker in trackers.items():
            tracker.step([states[name]], [frame])
    for name, tracker in trackers.items():
        states[name].box_xyxy = np.array(sequence.boxes_xyxy[t - 1], dtype=np.float64)
        found: ScoreMaps = tracker.score_maps(states[name], sequence.frames[t])  # type: ignore[attr-defined]
        if shown is not None and not np.array_equal(shown.search_image, found.search_image):
            raise ValueError(
                f"score maps of {name!r}: expected the search region of the others; trackers compared "
                "must have one search size and context"
            )
        shown = found
        prefix = f"{name}: " if len(trackers) > 1 else ""
        maps |= {f"{prefix}{title}": values for title, values in found.maps.items()}
    assert shown is not None
    box = shown.window.to_crop(np.asarray(sequence.boxes_xyxy[t], dtype=np.float64))
    return score_map_figure(
        shown.search_image,
        maps,
        stride=shown.stride,
        box_xyxy=box,
        title=f"{sequence.name}, frame {t + 1}",
    )
