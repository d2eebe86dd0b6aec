"""Track benchmarks with trained weights, without training.

    python -m experiments.evaluate checkpoint=outputs/.../last.ckpt
    python -m experiments.evaluate benchmark=[otb] paths.otb_root=/data/OTB100

Finished sequences are kept in the output folder; the same command again goes on with the others.
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
from experiments.config import check, chosen_device, made, run_checked, user_errors
from experiments.report import write_report
from experiments.run import begin
from lightning_trackers.evaluation.static import StaticTracker
from lightning_trackers.methods.loading import SHIPPED, load_tracker

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig, output_dir: Path) -> list[BenchmarkScores]:
    """Track the configured benchmarks and write the report.

    Args:
        cfg: Composed configuration, see ``conf/evaluate.yaml``.
        output_dir: Folder of results and report.

    Returns:
        Scores of the tracker, and of the box that never moves, on every benchmark.
    """
    clock_start = time.monotonic()
    meta = begin(cfg, output_dir)
    checkpoint = SHIPPED if cfg.checkpoint is None else Path(cfg.checkpoint)
    meta["checkpoint"] = checkpoint
    settings: Any = OmegaConf.to_container(cfg.settings, resolve=True)
    benchmarks = list(made(cfg.benchmarks).values())
    tracker = load_tracker(checkpoint, settings, chosen_device(cfg.device))
    trackers = {cfg.exp_name: tracker}
    if cfg.evaluation.references:
        trackers["box that never moves"] = StaticTracker()
    loggers = list(made(cfg.logger).values())
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
    for logger in loggers:
        logger.finalize("success")
    meta["duration"] = f"{(time.monotonic() - clock_start) / 60:.1f} min"
    report = write_report(output_dir, scores, OmegaConf.to_yaml(cfg, resolve=True), meta)
    log.info("report: %s", report)
    return scores


def fingerprint(checkpoint: Path, settings: dict[str, object]) -> str:
    """Return a digest of a file of weights and of the settings that replace its own."""
    digest = hashlib.sha256(checkpoint.read_bytes())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> float:
    """Evaluate one checkpoint; return the success AUC on the first benchmark."""
    with user_errors():
        check(cfg)
        scores = evaluate(cfg, Path(HydraConfig.get().runtime.output_dir))
    return scores[0].success_auc


if __name__ == "__main__":
    run_checked(main)
