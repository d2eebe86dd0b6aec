"""What becomes of a benchmark's scores: log entries, W&B curves and tables, a clip."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger, WandbLogger

from callbacks.visualisation import write_clip
from lightning_trackers.evaluation.benchmarking import BenchmarkScores
from lightning_trackers.evaluation.protocol import SequenceResult
from lightning_trackers.evaluation.sequence import Benchmark


def log_scores(logger: Logger, rows: Sequence[BenchmarkScores]) -> None:
    """Log scalars to any logger; curves, tables and the clip to W&B.

    Args:
        logger: Any logger of Lightning's.
        rows: Scores on one benchmark, the trained tracker first, then the references.
    """
    benchmark = rows[0].benchmark
    scalars = {f"test/{benchmark}/{key}": v for key, v in rows[0].scalars.items()}
    for row in rows[1:]:
        prefix = f"reference/{slug(row.tracker)}/{benchmark}"
        scalars |= {f"{prefix}/{key}": v for key, v in row.scalars.items()}
    logger.log_metrics(scalars)
    logger.save()
    if isinstance(logger, WandbLogger):
        media = {f"test/{benchmark}/{key}": v for key, v in _wandb_media(rows).items()}
        logger.experiment.log(media)


def write_middle_clip(
    path: Path,
    benchmark: Benchmark,
    scores: BenchmarkScores,
    results: Mapping[str, SequenceResult],
    max_frames: int,
) -> Path | None:
    """Write the clip of the sequence in the middle of the ranking: neither the best nor the worst.

    Returns:
        Its path; None where the results are not one box a frame.
    """
    rows = scores.scores.sequences
    ranked = sorted(benchmark, key=lambda s: rows.get(s.name, {}).get(scores.headline, 0.0))
    sequence = ranked[len(ranked) // 2]
    boxes_xyxy = np.asarray(getattr(results[sequence.name], "boxes_xyxy", ()))
    if boxes_xyxy.shape != (len(sequence), 4):
        return None
    return write_clip(
        path,
        sequence.frames,
        {scores.tracker: boxes_xyxy},
        target_boxes_xyxy=np.where(sequence.valid[:, None], sequence.boxes_xyxy, np.nan),
        max_frames=max_frames,
        title=sequence.name,
    )


def slug(name: str) -> str:
    """Return a tracker's name as folders and log keys spell it."""
    return re.sub(r"[^\w.+-]+", "_", name)


def _wandb_media(rows: Sequence[BenchmarkScores]) -> dict[str, Any]:
    """Return plots of the curves, tables of sequences and attributes, and the clip, by key."""
    import wandb  # here, as it takes a second and a run without W&B does not need it

    media: dict[str, Any] = {}
    for name, curve in rows[0].scores.curves.items():
        shown = [row for row in rows if name in row.scores.curves]
        media[f"{name}_curve"] = wandb.plot.line_series(
            xs=[row.scores.curves[name].x.tolist() for row in shown],
            ys=[row.scores.curves[name].y.tolist() for row in shown],
            keys=[row.tracker for row in shown],
            title=f"{rows[0].benchmark}: {name.replace('_', ' ')}",
            xname=curve.x_label,
        )
    # Runs of one sequence may be scored together, so lengths and speeds have no place in some rows.
    by_sequence = [
        {
            "tracker": row.tracker,
            "sequence": name,
            "frames": row.frames.get(name),
            **row.scores.sequences.get(name, {}),
            "fps": row.sequence_fps.get(name),
        }
        for row in rows
        for name in row.scores.sequences or row.frames
    ]
    by_attribute = [
        {"tracker": row.tracker, "attribute": code, **values}
        for row in rows
        for code, values in row.scores.attributes.items()
    ]
    for key, records in (("sequences", by_sequence), ("attributes", by_attribute)):
        if records:
            columns = list(dict.fromkeys(column for record in records for column in record))
            data = [[record.get(column) for column in columns] for record in records]
            media[key] = wandb.Table(columns=columns, data=data)
    if rows[0].clip is not None:
        media["clip"] = wandb.Video(str(rows[0].clip), format="mp4")
    return media
