"""What trackers that learn online did: a table of their updates, and figures of what they learnt from."""

import csv
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import Logger, WandbLogger

from callbacks.benchmark_evaluation import evaluation_mode, lent_tracker
from callbacks.online_figures import gradient_figure, logits_of, sample_figure, timeline_figure
from callbacks.progress import FrameProgress
from lightning_trackers.evaluation.one_pass import TrackResult, track_one_pass
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.tracker import Prediction
from lightning_trackers.files import atomic_file, write_text
from lightning_trackers.losses import GradientSensitiveLoss
from lightning_trackers.online import OnlineState, OnlineTracker, statistical_samples

log = logging.getLogger(__name__)

_GENERATED = 64  # SPGA's m, for a tracker that generates none
_SHOWN = 300  # samples of a kind in a figure


class OnlineLearning(pl.Callback):
    """Follows a benchmark's targets when the training is over and reports what they learnt.

    This is a tracking of its own: the states of the benchmark evaluation are gone when it ends. Writes
    ``<benchmark>.csv`` (a row per sequence: loss of the last update, updates, updates taken back or
    skipped, samples in memory, share of frames in which the target was found, fallbacks), and for the
    first sequences ``<sequence>_samples.png``, ``<sequence>_gradients.png`` and
    ``<sequence>_timeline.png``. The means are logged as ``online/<benchmark>/<name>``.

    Args:
        benchmark: Where the sequences come from.
        output_dir: Folder of table and figures.
        sequences: Sequences followed, from the first on; None follows all.
        figures: How many of them get figures.
        lanes: Sequences followed in lockstep.
        seed: Seed of the samples that are drawn for the figures.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        output_dir: str | Path,
        sequences: int | None = None,
        figures: int = 2,
        lanes: int = 8,
        seed: int = 0,
    ) -> None:
        if (sequences is not None and sequences < 1) or figures < 0 or lanes < 1:
            raise ValueError(
                "online learning: expected sequences >= 1, figures >= 0 and lanes >= 1, got "
                f"{sequences}, {figures} and {lanes}"
            )
        self.benchmark = benchmark
        self.output_dir = Path(output_dir)
        self.sequences = list(benchmark.sequences)[:sequences]
        self.figures = figures
        self.lanes = lanes
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a method that does not learn online before hours of training.

        Raises:
            TypeError: If the module's tracker is no :class:`OnlineTracker`.
        """
        self._tracker(pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Follow, write, log."""
        if not trainer.is_global_zero:
            return
        with evaluation_mode(pl_module):
            rows, figures = self.follow(self._tracker(pl_module))
        for logger in trainer.loggers:
            self._log(logger, rows, figures)

    def follow(self, tracker: OnlineTracker[Any]) -> tuple[dict[str, dict[str, float]], list[Path]]:
        """Follow the sequences and write table and figures.

        Returns:
            Statistics by sequence, and the figures.
        """
        rows: dict[str, dict[str, float]] = {}
        figures: list[Path] = []
        drawn = {sequence.name for sequence in self.sequences[: self.figures]}
        frames = sum(len(sequence) for sequence in self.sequences)
        with FrameProgress(f"{self.benchmark.name}: online learning", frames) as bar:
            for result, target in followed(tracker, self.sequences, self.lanes, bar.advance):
                rows[result.name] = target.state.statistics()
                if result.name in drawn:
                    figures += self._draw(tracker, result, target)
        rows = {sequence.name: rows[sequence.name] for sequence in self.sequences}
        path = self.output_dir / f"{self.benchmark.name}.csv"
        write_text(path, table(rows))
        log.info("online learning: %s", path)
        return rows, figures

    def _draw(
        self, tracker: OnlineTracker[Any], result: TrackResult, target: "Followed"
    ) -> list[Path]:
        found = figures_of(tracker, result, target, np.random.default_rng(self.seed))
        paths = []
        for name, figure in found.items():
            path = self.output_dir / f"{result.name}_{name}.png"
            with atomic_file(path) as partial:
                figure.savefig(partial, dpi=200, format="png")
            paths.append(path)
        return paths

    def _log(
        self, logger: Logger, rows: Mapping[str, Mapping[str, float]], figures: Sequence[Path]
    ) -> None:
        prefix = f"online/{self.benchmark.name}"
        logger.log_metrics({f"{prefix}/{name}": value for name, value in means(rows).items()})
        logger.save()
        if isinstance(logger, WandbLogger):
            columns = list(next(iter(rows.values())))
            data = [[name, *(row[c] for c in columns)] for name, row in rows.items()]
            logger.log_table(f"{prefix}/sequences", columns=["sequence", *columns], data=data)
            if figures:
                logger.log_image(f"{prefix}/figures", [str(path) for path in figures])

    def _tracker(self, module: pl.LightningModule) -> OnlineTracker[Any]:
        tracker = lent_tracker(module)
        if not isinstance(tracker, OnlineTracker):
            raise TypeError(
                "online learning: expected a method that learns online, such as mdnet, rtmdnet or "
                f"spga, got {type(tracker).__name__}"
            )
        return tracker


@dataclass
class Followed:
    """A target and what it had learnt after each frame.

    Args:
        state: The tracker's state.
        history: ``statistics()`` after each frame, and how often the target was ``found`` by then.
    """

    state: OnlineState
    history: list[dict[str, float]]

    def note(self) -> None:
        """Add a frame to the history."""
        self.history.append({**self.state.statistics(), "found": self.state.found})


class _Recorder:
    """The tracker, with a history for each of its targets; ``started`` numbers them."""

    def __init__(self, tracker: OnlineTracker[Any]) -> None:
        self.tracker = tracker
        self.started: list[Followed | None] = []

    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> Followed:
        target = Followed(self.tracker.start(frame, box_xyxy), [])
        target.note()
        self.started.append(target)
        return target

    def step(self, states: Sequence[Followed], frames: Sequence[np.ndarray]) -> list[Prediction]:
        found = self.tracker.step([target.state for target in states], frames)
        for target in states:
            target.note()
        return found


def followed(
    tracker: OnlineTracker[Any],
    sequences: Sequence[TrackingSequence],
    lanes: int,
    on_frame: Callable[[str], None] | None = None,
) -> Iterator[tuple[TrackResult, Followed]]:
    """Follow sequences in lockstep and yield each one's result and target when it ends.

    Args:
        tracker: The tracker.
        sequences: What to follow.
        lanes: How many at once.
        on_frame: Called with the sequence's name after each of its frames.
    """
    recorder = _Recorder(tracker)
    number = {sequence.name: i for i, sequence in enumerate(sequences)}
    for result in track_one_pass(recorder, sequences, lanes=lanes, on_frame=on_frame):
        # Sequences start in order. Forgotten at once, as a memory takes hundreds of MB.
        target, recorder.started[number[result.name]] = recorder.started[number[result.name]], None
        assert target is not None, "a sequence ends once"
        yield result, target


def figures_of(
    tracker: OnlineTracker[Any], result: TrackResult, target: Followed, rng: np.random.Generator
) -> dict[str, Figure]:
    """Return the figures of a sequence by name; without samples in memory, the timeline alone.

    Args:
        tracker: The tracker.
        result: Its answers.
        target: What the target learnt.
        rng: Source of the mini-batch that is shown.
    """
    figures = {"timeline": timeline_figure(result.scores, target.history, result.name)}
    pool = target.state.memory.pool()
    settings = tracker.settings.update
    if pool is None or len(pool.positives) < 3:
        return figures
    features = torch.cat([pool.negatives, pool.positives])
    labels = torch.zeros(len(features), device=features.device)
    labels[len(pool.negatives) :] = 1
    logits = logits_of(tracker.head, target.state.learner.weights, features)
    loss = tracker.loss if isinstance(tracker.loss, GradientSensitiveLoss) else None
    figures["gradients"] = gradient_figure(
        logits, labels, loss or GradientSensitiveLoss(), result.name
    )
    positives = pool.positives[_some(rng, len(pool.positives), _SHOWN)]
    batch = pool.positives[_some(rng, len(pool.positives), max(2, settings.positives))]
    shape = (settings.generated or _GENERATED, features.shape[1])
    uniform = torch.from_numpy(rng.random(shape, dtype=np.float32)).to(batch)
    figures["samples"] = sample_figure(
        positives,
        batch,
        statistical_samples(batch, uniform, settings.alpha),
        pool.negatives[_some(rng, len(pool.negatives), _SHOWN)],
        result.name,
    )
    return figures


def _some(rng: np.random.Generator, count: int, most: int) -> torch.Tensor:
    """Return the numbers of at most ``most`` of ``count`` samples."""
    return torch.from_numpy(rng.permutation(count)[:most])


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return statistics by sequence as CSV, the means in the last row."""
    columns = list(next(iter(rows.values())))
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["sequence", *columns])
    for name, row in {**rows, "mean": means(rows)}.items():
        writer.writerow([name, *(f"{row[c]:.6g}" if c in row else "" for c in columns)])
    return lines.getvalue()


def means(rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over sequences of each number; where a target never learnt it has no loss."""
    found = {}
    for name in next(iter(rows.values())):
        values = [row[name] for row in rows.values() if np.isfinite(row[name])]
        if values:
            found[name] = float(np.mean(values))
    return found
