"""Track benchmarks with trained weights, without training.

    python -m experiments.evaluate checkpoint=outputs/.../last.ckpt
    python -m experiments.evaluate benchmark=[otb] paths.otb_root=/data/OTB100
    python -m experiments.evaluate checkpoint=... devices=4
    torchrun --nproc-per-node=4 -m experiments.evaluate checkpoint=...

Several processes, also those of ``srun``, share the sequences; on several machines the output
folder has to be one that all of them see. Finished sequences are kept in it; the same command
again, with as many processes as you like, goes on with the others.
"""

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from callbacks.benchmark_evaluation import BenchmarkScores, evaluate_benchmarks
from experiments.config import ConfigError, check, made, run_checked, user_errors
from experiments.loggers import closed_wandb_run
from experiments.ranks import on_ranks, rank_device
from experiments.report import run_details, write_report
from experiments.run import begin
from experiments.settings import given_settings
from lightning_trackers.evaluation.distribution import PeerError, is_first
from lightning_trackers.evaluation.results import ResultFileError
from lightning_trackers.evaluation.static import StaticTracker
from lightning_trackers.methods.loading import SHIPPED, load_tracker

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig, output_dir: Path) -> list[BenchmarkScores]:
    """Track the configured benchmarks with ``cfg.devices`` processes and write the report.

    Args:
        cfg: Composed configuration, see ``conf/evaluate.yaml``.
        output_dir: Folder of results and report.

    Returns:
        Scores of the tracker, and of the box that never moves, on every benchmark.

    Raises:
        PeerError: If another process failed or died.
    """
    # Resolved here, as the other processes do not know what Hydra was called with.
    resolved = OmegaConf.to_container(cfg, resolve=True)
    return on_ranks(evaluate_rank, (resolved, output_dir), devices=cfg.devices)


def evaluate_rank(
    config: dict[str, Any], output_dir: Path, *, local_rank: int
) -> list[BenchmarkScores]:
    """Do one process's part of :func:`evaluate`; the first one writes the report."""
    clock_start = time.monotonic()
    cfg = OmegaConf.create(config)
    meta: dict[str, object] = begin(cfg, output_dir) if is_first() else {}
    checkpoint = SHIPPED if cfg.checkpoint is None else Path(cfg.checkpoint)
    meta["checkpoint"] = checkpoint
    settings = given_settings(cfg.settings)
    benchmarks = list(made(cfg.benchmarks).values())
    device = rank_device(cfg.device, local_rank)
    try:
        tracker = load_tracker(cfg.checkpoint, settings, device, cfg.runtime)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(str(error)) from error
    trackers = {cfg.exp_name: tracker}
    if cfg.evaluation.references:
        trackers["box that never moves"] = StaticTracker()
    loggers = list(made(cfg.logger).values()) if is_first() else []
    scores = evaluate_benchmarks(
        trackers,
        benchmarks,
        output_dir,
        fingerprint=fingerprint(checkpoint, settings),
        overwrite=cfg.overwrite,
        lanes=cfg.evaluation.lanes,
        clip_frames=cfg.evaluation.clip_frames,
        loggers=loggers,
    )
    if not is_first():
        return scores
    for logger in loggers:
        logger.finalize("success")
    meta["duration"] = f"{(time.monotonic() - clock_start) / 60:.1f} min"
    config_text = OmegaConf.to_yaml(cfg, resolve=True)
    details = run_details(output_dir, benchmarks, scores)
    report = write_report(output_dir, scores, config_text, meta, details=details)
    log.info("report: %s", report)
    return scores


def fingerprint(checkpoint: Path, settings: dict[str, object]) -> str:
    """Return a digest of the weights (a file, or an export's folder) and of the settings given."""
    digest = hashlib.sha256()
    for file in sorted(checkpoint.glob("*.onnx")) if checkpoint.is_dir() else [checkpoint]:
        digest.update(file.read_bytes())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> float:
    """Evaluate one checkpoint; return its headline score on the first benchmark, for sweeps."""
    with user_errors(), closed_wandb_run():
        check(cfg)
        try:
            scores = evaluate(cfg, Path(HydraConfig.get().runtime.output_dir))
        except (PeerError, ResultFileError) as error:
            raise SystemExit(f"error: {error}") from error
    return scores[0].headline_score


if __name__ == "__main__":
    run_checked(main)
