"""Train a tracker, evaluate it, and write the report.

python -m experiments.run +exp=siamrpn_sl
python -m experiments.run +exp=siamrpn_sl profile=overnight resume=auto
python -m experiments.run +exp=siamrpnpp profile=paper trainer.dry_run=true
"""

import logging
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from callbacks.benchmark_evaluation import BenchmarkEvaluation, BenchmarkScores
from datamodules.loading import usable_cores
from experiments.config import ConfigError, check, made, run_checked, user_errors
from experiments.dry_run import dry_run, trainer_of
from experiments.initial_weights import initialise
from experiments.loggers import closed_wandb_run
from experiments.pipeline import run_stages
from experiments.report import run_details, write_report
from experiments.threads import torch_threads
from lightning_trackers.evaluation.static import StaticTracker
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.files import write_text

log = logging.getLogger(__name__)


def run(cfg: DictConfig, output_dir: Path) -> list[BenchmarkScores]:
    """Train, evaluate and report one configuration.

    Args:
        cfg: Composed configuration, see ``conf/run.yaml``.
        output_dir: Folder of the run.

    Returns:
        Scores of the trained tracker and of its references on every benchmark.
    """
    clock_start = time.monotonic()
    meta = begin(cfg, output_dir)
    pl.seed_everything(cfg.seed, workers=True)
    # Benchmarks first: a missing folder should be found before hours of training.
    benchmarks = made(cfg.benchmarks)
    datamodule = made(cfg.datamodule)
    module = made(cfg.module)
    described: Any = OmegaConf.to_container(cfg.module, resolve=True)
    module.recipe = {part: described[part] for part in ("network", "tracker")}
    initialise(module, cfg.initial_weights)
    if cfg.trainer.dry_run:
        dry_run(cfg, module, datamodule, output_dir)
        return []
    references: dict[str, Tracker[Any]] = {}
    if cfg.evaluation.references:
        references = {"box that never moves": StaticTracker()}
        if any(p.requires_grad for p in module.parameters()):  # else it is the tracker itself
            references["untrained"] = module.tracker()
    evaluation = BenchmarkEvaluation(
        benchmarks,
        output_dir,
        validation=made(cfg.validation_benchmark) if cfg.evaluation.every_n_epochs else None,
        every_n_epochs=cfg.evaluation.every_n_epochs,
        lanes=cfg.evaluation.lanes,
        clip_frames=cfg.evaluation.clip_frames,
        tracker_name=cfg.exp_name,
        references=references,
    )
    loggers = list(made(cfg.logger).values())
    trainer = trainer_of(
        cfg,
        callbacks=[*made(cfg.callbacks).values(), evaluation],
        logger=loggers,
        default_root_dir=str(output_dir),
    )
    log.info("parameters: %.2f M", sum(p.numel() for p in module.parameters()) / 1e6)
    for logger in loggers:
        logger.log_hyperparams(OmegaConf.to_container(cfg, resolve=True))
    workers = OmegaConf.select(cfg, "datamodule.num_workers", default=0)
    with torch_threads(torch.get_num_threads() - workers):
        trainer.fit(module, datamodule, ckpt_path=checkpoint_to_resume(cfg.resume, output_dir))
    if trainer.interrupted:
        log.warning("interrupted; go on with resume=%s", output_dir)
    elif trainer.is_global_zero:
        meta["duration"] = f"{(time.monotonic() - clock_start) / 60:.1f} min"
        config = OmegaConf.to_yaml(cfg, resolve=True)
        details = run_details(output_dir, evaluation.benchmarks, evaluation.scores)
        report = write_report(output_dir, evaluation.scores, config, meta, details=details)
        log.info("report: %s", report)
    return evaluation.scores


def begin(cfg: DictConfig, output_dir: Path) -> dict[str, object]:
    """Write down what is run, and say it.

    Returns:
        Lines of the report's header.
    """
    meta: dict[str, object] = {
        "exp": cfg.exp_name,
        "profile": cfg.profile_name,
        "data": cfg.data_name,
        "seed": cfg.seed,
        "commit": git_commit(),
        "torch": torch.__version__,
        "device": device_name(),
        "folder": output_dir,
    }
    for key, value in meta.items():
        log.info("%s: %s", key, value)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_text(output_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    write_text(output_dir / "git.txt", f"{meta['commit']}\n")
    write_text(output_dir / "device.txt", f"{meta['device']}\n")
    return meta


def device_name() -> str:
    """Return the GPU's name, or the processor's and how many of its cores are used."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:  # where there is no such file, the name is the architecture's
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        described = ""
    models = re.findall(r"^model name\s*:\s*(.+)$", described, re.MULTILINE)
    name = models[0] if models else platform.processor() or platform.machine()
    return f"{name}, {usable_cores()} cores"


def git_commit() -> str:
    """Return the commit of the checkout, with ``+changes`` where files differ from it."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return f"{commit}{'+changes' if changed else ''}"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def checkpoint_to_resume(resume: str | None, output_dir: Path) -> Path | None:
    """Return the checkpoint to go on from, None to begin.

    Args:
        resume: A checkpoint, a run's folder, ``auto`` for this run's own folder, or None.
        output_dir: Folder of this run.

    Raises:
        ConfigError: If a checkpoint was named and is not there.
    """
    if resume is None:
        return None
    path = output_dir if resume == "auto" else Path(resume)
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if path.is_file():
        log.info("going on from %s", path)
        return path
    if resume == "auto":
        return None
    raise ConfigError(f"resume={resume}: no checkpoint {path}")


@hydra.main(version_base="1.3", config_path="conf", config_name="run")
def main(cfg: DictConfig) -> float:
    """Run one configuration; return its headline score on the first benchmark, for sweeps."""
    with user_errors(), closed_wandb_run():
        check(cfg)
        if not run_stages(cfg):
            return float("nan")
        scores = run(cfg, Path(HydraConfig.get().runtime.output_dir))
    return scores[0].headline_score if scores else float("nan")


if __name__ == "__main__":
    run_checked(main)
