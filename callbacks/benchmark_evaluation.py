"""Tracks benchmarks: result files, scores, curves and clips, during or after a training."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from callbacks.benchmark_logging import log_scores, slug, write_middle_clip
from callbacks.progress import FrameProgress
from lightning_trackers.evaluation.benchmarking import (
    BenchmarkScores,
    Keeping,
    evaluate_benchmark,
)
from lightning_trackers.evaluation.distribution import team
from lightning_trackers.evaluation.sequence import Benchmark
from lightning_trackers.evaluation.static import StaticTracker
from lightning_trackers.evaluation.tracker import Tracker

__all__ = ["BenchmarkEvaluation", "BenchmarkScores", "evaluate_benchmarks"]


def evaluate_benchmarks(
    trackers: Mapping[str, Tracker[Any]],
    benchmarks: Sequence[Benchmark],
    output_dir: str | Path,
    *,
    fingerprint: str,
    overwrite: bool = False,
    lanes: int = 8,
    clip_frames: int = 150,
    loggers: Sequence[Logger] = (),
) -> list[BenchmarkScores]:
    """Track every benchmark with every tracker, write the results and log the scores.

    Where ``torch.distributed`` is initialised its ranks share the sequences and return the same
    scores; the files have to lie where all ranks see them. Finished sequences are read from their
    result files, so an interrupted evaluation goes on where it stopped. See
    :func:`~lightning_trackers.evaluation.benchmarking.evaluate_benchmark`.

    Log keys: ``test/<benchmark>/success_auc`` for the first tracker,
    ``reference/<tracker>/<benchmark>/success_auc`` for the others.

    Args:
        trackers: Trackers by name; the first is the one that was trained, the others references.
        benchmarks: What to track.
        output_dir: Gets ``results/<benchmark>/<tracker>/<sequence>.txt`` and
            ``clips/<benchmark>.mp4``. One evaluation at a time.
        fingerprint: Names what the results depend on (weights, options).
        overwrite: Remove results of another fingerprint instead of refusing to go on.
        lanes: Sequences that each process tracks in lockstep. A process that is killed loses these.
        clip_frames: Length of each clip, frames; 0 writes none.
        loggers: Get the scalars; W&B also gets curves, tables and clips. Used by the first rank.

    Returns:
        Scores, one per benchmark and tracker, benchmark by benchmark; the clip in the first rank.

    Raises:
        ValueError: If there is no tracker or no benchmark, or two benchmarks have one name; if a
            result file is damaged or belongs to other annotations.
        FileExistsError: If the folder holds results of another fingerprint and is to be kept.
        PeerError: If another process failed or died.
    """
    names = [benchmark.name for benchmark in benchmarks]
    if not trackers or not names or len(set(names)) != len(names):
        raise ValueError(
            "evaluation: expected at least one tracker, and benchmarks of different names, got "
            f"trackers {list(trackers)} and benchmarks {names}"
        )
    output_dir = Path(output_dir)
    all_scores = []
    together = team()
    for benchmark in benchmarks:
        rows: list[BenchmarkScores] = []
        for name, tracker in trackers.items():
            folder = output_dir / "results" / benchmark.name / slug(name)
            scores, results = evaluate_benchmark(
                tracker,
                benchmark,
                name,
                team=together,
                lanes=lanes,
                keeping=Keeping(folder, fingerprint, overwrite),
                progress=FrameProgress,
            )
            if clip_frames and not rows and together.is_first:
                file = output_dir / "clips" / f"{benchmark.name}.mp4"
                clip = write_middle_clip(file, benchmark, scores, results, clip_frames)
                scores = replace(scores, clip=clip)
            rows.append(scores)
        if together.is_first:
            for logger in loggers:
                log_scores(logger, rows)
        all_scores += rows
    return all_scores


class BenchmarkEvaluation(pl.Callback):
    """Tracks the benchmarks after training, and a validation subset while it goes on.

    The module lends its tracker (``module.tracker()``); the network is in evaluation mode
    meanwhile. ``scores`` holds the last result. ``trainer.test`` evaluates too.

    While training, ``val/<name>/success_auc`` and its companions are logged, so that
    ``ModelCheckpoint(monitor="val/<name>/success_auc", every_n_epochs=n)`` can choose by them.

    Args:
        benchmarks: Benchmarks, or a mapping whose values are.
        output_dir: Folder of the run.
        validation: Benchmark tracked during training; never one that is reported.
        every_n_epochs: Epochs between two validations; 0 for none.
        lanes: Sequences tracked in lockstep.
        clip_frames: Length of each annotated clip, frames; 0 for none.
        tracker_name: Name of the trained tracker in result folders and tables.
        references: Trackers reported beside it, by name; the box that never moves by default.

    Raises:
        ValueError: If ``validation`` and ``every_n_epochs`` are not given together, or the
            validation benchmark is also reported.
    """

    def __init__(
        self,
        benchmarks: Mapping[str, Benchmark] | Sequence[Benchmark],
        output_dir: str | Path,
        *,
        validation: Benchmark | None = None,
        every_n_epochs: int = 0,
        lanes: int = 8,
        clip_frames: int = 150,
        tracker_name: str = "tracker",
        references: Mapping[str, Tracker[Any]] | None = None,
    ) -> None:
        if (validation is None) != (every_n_epochs == 0) or every_n_epochs < 0:
            raise ValueError(
                "BenchmarkEvaluation: validation and every_n_epochs belong together, got "
                f"validation={validation.name if validation else None}, "
                f"every_n_epochs={every_n_epochs}"
            )
        chosen = benchmarks.values() if isinstance(benchmarks, Mapping) else benchmarks
        self.benchmarks: list[Benchmark] = list(chosen)
        if validation is not None and validation.name in {b.name for b in self.benchmarks}:
            raise ValueError(
                f"BenchmarkEvaluation: {validation.name} is reported after training; choosing "
                "checkpoints by it would make its score meaningless: validate on another one"
            )
        self.output_dir = Path(output_dir)
        self.validation, self.every_n_epochs = validation, every_n_epochs
        self.lanes, self.clip_frames = lanes, clip_frames
        self.tracker_name = tracker_name
        self.references = {"static": StaticTracker()} if references is None else dict(references)
        if tracker_name in self.references:
            raise ValueError(f"BenchmarkEvaluation: two trackers are named {tracker_name!r}")
        self.scores: list[BenchmarkScores] = []
        self._last_epoch = -1

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate inside the validation loop, where there is one: checkpoints are chosen there."""
        if not trainer.sanity_checking and trainer.state.fn == TrainerFn.FITTING:
            self._validate(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate here where the run's validation loop did not run."""
        self._validate(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate the trained tracker."""
        self._evaluate_all(trainer, pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate under ``trainer.test``."""
        self._evaluate_all(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to validate in the same epochs."""
        return {"last_epoch": self._last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of an interrupted run."""
        self._last_epoch = state_dict["last_epoch"]

    def _validate(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.validation is None:
            return
        if trainer.current_epoch - self._last_epoch < self.every_n_epochs:
            return
        self._last_epoch = trainer.current_epoch
        with evaluation_mode(pl_module):
            # No bar: the training's is on the screen. No files: weights change.
            scores, _ = evaluate_benchmark(
                lent_tracker(pl_module),
                self.validation,
                self.tracker_name,
                team=team(),
                lanes=self.lanes,
            )
        pl_module.log_dict(
            {f"val/{self.validation.name}/{k}": v for k, v in scores.scalars.items()},
            on_step=False,
            on_epoch=True,
            batch_size=1,
        )

    def _evaluate_all(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with evaluation_mode(pl_module):
            self.scores = evaluate_benchmarks(
                {self.tracker_name: lent_tracker(pl_module), **self.references},
                self.benchmarks,
                self.output_dir,
                fingerprint=module_fingerprint(pl_module),
                overwrite=True,  # a resumed training has other weights, and its own folder
                lanes=self.lanes,
                clip_frames=self.clip_frames,
                loggers=trainer.loggers,
            )


def lent_tracker(module: nn.Module) -> Tracker[Any]:
    """Return the module's tracker.

    Raises:
        TypeError: If the module does not lend one.
    """
    lend = getattr(module, "tracker", None)
    if not callable(lend):
        raise TypeError(
            f"{type(module).__name__}: expected a method tracker() that returns a Tracker, to "
            "evaluate benchmarks with; add it or leave BenchmarkEvaluation out"
        )
    return cast("Tracker[Any]", lend())


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode, and each of its parts back into the mode it had."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def module_fingerprint(module: nn.Module) -> str:
    """Return a digest of a module's weights, hyperparameters and recipe, hexadecimal."""
    digest = hashlib.sha256(type(module).__qualname__.encode())
    for description in ("hparams", "recipe"):
        text = json.dumps(getattr(module, description, None), default=str, sort_keys=True)
        digest.update(text.encode())
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode())
        if isinstance(value, Tensor):
            # Bytes, as numpy does not know every dtype (bfloat16).
            raw = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(raw.numpy().tobytes())
    return digest.hexdigest()
