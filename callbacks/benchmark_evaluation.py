"""Tracks benchmarks: result files, scores, curves and clips, during or after a training."""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from callbacks.progress import FrameProgress
from callbacks.visualisation import write_clip
from lightning_trackers.evaluation.one_pass import TrackResult, track_one_pass
from lightning_trackers.evaluation.results import ResultStore
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.static import StaticTracker
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.metrics.functional import ope
from lightning_trackers.metrics.ope import OnePassEvaluation

log = logging.getLogger(__name__)

SCALARS = ("success_auc", "precision_20px", "normalized_precision")


@dataclass(frozen=True)
class SequenceScores:
    """How one tracker did on one sequence.

    Args:
        sequence: Name of the sequence.
        frames: Its length.
        success_auc: Mean of the success curve, in [0, 1].
        precision_20px: Share of frames with a centre error of at most 20 px.
        normalized_precision: Share of frames with a normalised centre error of at most 0.20.
        fps: Frames per second of the tracker, see :attr:`BenchmarkScores.fps`.
    """

    sequence: str
    frames: int
    success_auc: float
    precision_20px: float
    normalized_precision: float
    fps: float


@dataclass(frozen=True)
class BenchmarkScores:
    """How one tracker did on one benchmark; all scores are fractions in [0, 1].

    Args:
        benchmark: Name of the benchmark.
        tracker: Name of the tracker.
        success_auc: Mean over sequences.
        precision_20px: Mean over sequences.
        normalized_precision: Mean over sequences, at 0.20.
        fps: Frames divided by the time spent in the tracker, first frames and decoding excluded;
            where sequences are tracked in lockstep it is the throughput of all lanes together.
        curves: ``success_curve`` ``(21,)``, ``precision_curve`` and
            ``normalized_precision_curve`` ``(51,)``.
        sequences: Scores of each sequence, in the benchmark's order.
        clip: Annotated clip, where one was written.
    """

    benchmark: str
    tracker: str
    success_auc: float
    precision_20px: float
    normalized_precision: float
    fps: float
    curves: dict[str, np.ndarray]
    sequences: tuple[SequenceScores, ...]
    clip: Path | None = None

    @property
    def scalars(self) -> dict[str, float]:
        """Scores by log key."""
        return {key: float(getattr(self, key)) for key in (*SCALARS, "fps")}


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

    Where ``torch.distributed`` is initialised the sequences are dealt round-robin over the ranks,
    none twice and none added; scores are the same on all ranks. Finished sequences are read from
    their result files, so an interrupted evaluation goes on where it stopped.

    Log keys: ``test/<benchmark>/success_auc`` for the first tracker,
    ``reference/<tracker>/<benchmark>/success_auc`` for the others.

    Args:
        trackers: Trackers by name; the first is the one that was trained, the others references.
        benchmarks: What to track.
        output_dir: Gets ``results/<benchmark>/<tracker>/<sequence>.txt`` and
            ``clips/<benchmark>.mp4``.
        fingerprint: Names what the results depend on (weights, options).
        overwrite: Remove results of another fingerprint instead of refusing to go on.
        lanes: Sequences tracked in lockstep.
        clip_frames: Length of each clip, frames; 0 writes none.
        loggers: Get the scalars; W&B also gets curves and clips.

    Returns:
        Scores, one per benchmark and tracker, benchmark by benchmark.

    Raises:
        ValueError: If there is no tracker or no benchmark, or two benchmarks have one name.
        FileExistsError: If the folder holds results of another fingerprint and is to be kept.
    """
    names = [benchmark.name for benchmark in benchmarks]
    if not trackers or not names or len(set(names)) != len(names):
        raise ValueError(
            "evaluation: expected at least one tracker, and benchmarks of different names, got "
            f"trackers {list(trackers)} and benchmarks {names}"
        )
    output_dir = Path(output_dir)
    all_scores = []
    for benchmark in benchmarks:
        rows: list[BenchmarkScores] = []
        for name, tracker in trackers.items():
            folder = output_dir / "results" / benchmark.name / _slug(name)
            clip = output_dir / "clips" / f"{benchmark.name}.mp4"
            scores = _evaluate(
                tracker,
                benchmark,
                name,
                store=_store(folder, fingerprint, overwrite),
                lanes=lanes,
                clip=clip if clip_frames and not rows else None,
                clip_frames=clip_frames,
            )
            rows.append(scores)
        if _rank() == 0:
            for logger in loggers:
                _log_scores(logger, rows)
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
            # No bar of its own: the training's bar is on the screen. No files: weights change.
            scores = _evaluate(
                lent_tracker(pl_module),
                self.validation,
                self.tracker_name,
                lanes=self.lanes,
                show_progress=False,
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


def _evaluate(
    tracker: Tracker[Any],
    benchmark: Benchmark,
    name: str,
    *,
    lanes: int,
    store: ResultStore | None = None,
    clip: Path | None = None,
    clip_frames: int = 0,
    show_progress: bool = True,
) -> BenchmarkScores:
    """Track this rank's share of a benchmark and return the scores of the whole."""
    mine = benchmark.sequences[_rank() :: _world_size()]
    metric = OnePassEvaluation().to(_communication_device())
    rows: list[SequenceScores] = []
    results: dict[str, TrackResult] = {}
    times_s: list[float] = []
    for result in _results(tracker, mine, f"{benchmark.name}: {name}", store, lanes, show_progress):
        sequence = next(s for s in mine if s.name == result.name)
        rows.append(_scored(metric, sequence, result))
        results[result.name] = result
        times_s += [float(t) for t in result.times_s[1:]]
    shares: list[tuple[list[SequenceScores], float, int]] = _gathered(
        (rows, float(np.sum(times_s)), len(times_s))
    )
    by_name = {row.sequence: row for share, _, _ in shares for row in share}
    values = metric.compute()  # summed over ranks
    spent_s, frames = sum(s for _, s, _ in shares), sum(n for _, _, n in shares)
    scores = BenchmarkScores(
        benchmark=benchmark.name,
        tracker=name,
        **{key: float(values[key]) for key in SCALARS},
        fps=_rate(frames, spent_s),
        curves={k: v.cpu().numpy() for k, v in values.items() if k.endswith("_curve")},
        sequences=tuple(by_name[s.name] for s in benchmark),
        clip=_clip(clip, mine, rows, results, name, clip_frames),
    )
    if _rank() == 0:
        log.info(
            "%s: %s: success AUC %.3f, precision at 20 px %.3f, normalised precision %.3f, "
            "%.1f frames/s",
            *(benchmark.name, name, *scores.scalars.values()),
        )
    return scores


def _store(folder: Path, fingerprint: str, overwrite: bool) -> ResultStore:
    """Open the result files; the first rank removes stale ones before the others look."""
    if overwrite and _rank() == 0:
        try:
            ResultStore(folder, fingerprint)
        except FileExistsError:
            ResultStore(folder, fingerprint, overwrite=True)
    if _distributed():
        torch.distributed.barrier()
    return ResultStore(folder, fingerprint)


def _results(
    tracker: Tracker[Any],
    sequences: Sequence[TrackingSequence],
    title: str,
    store: ResultStore | None,
    lanes: int,
    show_progress: bool,
) -> Iterator[TrackResult]:
    """Yield stored results first, then the others as they are tracked, storing each."""
    missing = []
    for sequence in sequences:
        stored = None if store is None else store.load(sequence)
        if stored is None:
            missing.append(sequence)
        else:
            yield stored
    if store is not None and len(missing) < len(sequences):
        found = len(sequences) - len(missing)
        log.info("%s: %d of %d sequences were tracked before", title, found, len(sequences))
    total = sum(len(sequence) for sequence in missing)
    with FrameProgress(title, total, enabled=show_progress and _rank() == 0) as progress:
        for result in track_one_pass(tracker, missing, lanes=lanes, on_frame=progress.advance):
            yield result if store is None else store.save(result)


def _scored(
    metric: OnePassEvaluation, sequence: TrackingSequence, result: TrackResult
) -> SequenceScores:
    """Add one sequence to the metric and return its own scores."""
    device = metric.device
    values = metric(  # adds to the sums and returns the value of this sequence alone
        torch.from_numpy(np.asarray(result.boxes_xyxy, dtype=np.float64)).to(device),
        torch.from_numpy(np.asarray(sequence.boxes_xyxy, dtype=np.float64)).to(device),
        torch.from_numpy(sequence.valid).to(device),
    )
    return SequenceScores(
        sequence=sequence.name,
        frames=len(sequence),
        **{key: float(values[key]) for key in SCALARS},
        fps=result.fps,
    )


def _rate(frames: int, seconds: float) -> float:
    """Return frames per second; NaN where nothing was timed (one-frame sequences)."""
    return frames / seconds if frames and seconds > 0 else float("nan")


def _clip(
    path: Path | None,
    sequences: Sequence[TrackingSequence],
    rows: Sequence[SequenceScores],
    results: Mapping[str, TrackResult],
    name: str,
    max_frames: int,
) -> Path | None:
    """Write the clip of the sequence in the middle of the ranking: neither the best nor the worst."""
    if path is None or _rank() != 0:
        return None
    middle = sorted(rows, key=lambda row: row.success_auc)[len(rows) // 2].sequence
    sequence = next(s for s in sequences if s.name == middle)
    target = np.where(sequence.valid[:, None], sequence.boxes_xyxy, np.nan)
    return write_clip(
        path,
        sequence.frames,
        {name: results[middle].boxes_xyxy},
        target_boxes_xyxy=target,
        max_frames=max_frames,
        title=middle,
    )


def _log_scores(logger: Logger, rows: Sequence[BenchmarkScores]) -> None:
    """Log scalars to any logger; curves and the clip to W&B."""
    benchmark = rows[0].benchmark
    scalars = {f"test/{benchmark}/{key}": v for key, v in rows[0].scalars.items()}
    for row in rows[1:]:
        prefix = f"reference/{_slug(row.tracker)}/{benchmark}"
        scalars |= {f"{prefix}/{key}": v for key, v in row.scalars.items()}
    logger.log_metrics(scalars)
    logger.save()
    if not isinstance(logger, WandbLogger):
        return
    import wandb  # here, as it takes a second and a run without W&B does not need it

    axes = {
        "success": (ope.SUCCESS_THRESHOLDS, "overlap threshold"),
        "precision": (ope.PRECISION_THRESHOLDS, "centre error threshold, px"),
        "normalized_precision": (
            ope.NORMALIZED_PRECISION_THRESHOLDS,
            "normalised centre error threshold",
        ),
    }
    media: dict[str, Any] = {
        f"test/{benchmark}/{kind}_curve": wandb.plot.line_series(
            xs=thresholds.tolist(),
            ys=[row.curves[f"{kind}_curve"].tolist() for row in rows],
            keys=[row.tracker for row in rows],
            title=f"{benchmark}: {kind.replace('_', ' ')}",
            xname=label,
        )
        for kind, (thresholds, label) in axes.items()
    }
    columns = list(asdict(rows[0].sequences[0]))
    media[f"test/{benchmark}/sequences"] = wandb.Table(
        columns=["tracker", *columns],
        data=[[row.tracker, *asdict(s).values()] for row in rows for s in row.sequences],
    )
    if rows[0].clip is not None:
        media[f"test/{benchmark}/clip"] = wandb.Video(str(rows[0].clip), format="mp4")
    logger.experiment.log(media)


def _slug(name: str) -> str:
    """Return a tracker's name as folders and log keys spell it."""
    return re.sub(r"[^\w.+-]+", "_", name)


def _rank() -> int:
    return torch.distributed.get_rank() if _distributed() else 0


def _world_size() -> int:
    return torch.distributed.get_world_size() if _distributed() else 1


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _communication_device() -> torch.device:
    """Return where tensors have to lie to be summed over ranks."""
    if _distributed() and torch.distributed.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _gathered(share: Any) -> list[Any]:
    """Return what every rank hands in, in rank order."""
    if not _distributed():
        return [share]
    shares: list[Any] = [None] * _world_size()
    torch.distributed.all_gather_object(shares, share)
    return shares
