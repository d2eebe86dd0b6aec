"""What a training will need, before it is begun: ``python -m experiments.run ... trainer.dry_run=true``."""

import logging
from pathlib import Path

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from callbacks.dry_run import DryRun, available_memory, stage_epochs
from experiments.config import ConfigError, made

log = logging.getLogger(__name__)

_GIB = 2**30


def dry_run(
    cfg: DictConfig,
    module: pl.LightningModule,
    datamodule: pl.LightningDataModule,
    output_dir: Path,
) -> dict[int, int]:
    """Measure the memory of a training step at every stage, say it, and train nothing.

    The steps are Lightning's own, on the configured device, precision and batches.

    Args:
        cfg: The run's configuration.
        module: Module of the run; its weights are spoilt.
        datamodule: Data of the run.
        output_dir: Folder of the run.

    Returns:
        Largest memory by epoch, bytes: of the beginning, and of each epoch that begins a stage.

    Raises:
        ConfigError: If a step does not fit into the device's memory; the message says which.
    """
    probe = DryRun(stage_epochs(module, cfg.trainer.max_epochs))
    trainer: pl.Trainer = trainer_of(
        cfg,
        max_epochs=-1,
        max_steps=probe.steps(),
        limit_val_batches=0,
        callbacks=[probe],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=str(output_dir),
    )
    try:
        trainer.fit(module, datamodule)
    except torch.cuda.OutOfMemoryError as error:
        raise ConfigError(
            f"a training step of epoch {probe.epoch} does not fit into the device's memory "
            f"({said(probe.peaks) or 'nor does any before'}); make datamodule.batch_size smaller "
            f"than {cfg.datamodule.batch_size}, with trainer.accumulate_grad_batches for the same "
            "total"
        ) from error
    device = trainer.strategy.root_device
    total = available_memory(device)
    log.info(
        "dry run: %s%s, %s pairs a step, precision %s",
        torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, whole process",
        f" with {total / _GIB:.1f} GiB" if total else "",
        cfg.datamodule.batch_size,
        cfg.trainer.precision,
    )
    every = sum(p.numel() for p in module.parameters())
    for epoch, peak in probe.peaks.items():
        log.info(
            "dry run: from epoch %d on %.2f GiB at most; %.1f of %.1f M parameters learn",
            epoch,
            peak / _GIB,
            probe.learning[epoch] / 1e6,
            every / 1e6,
        )
    return probe.peaks


def trainer_of(cfg: DictConfig, **options: object) -> pl.Trainer:
    """Build the configured trainer; options replace what the configuration says."""
    configured = {str(key): value for key, value in cfg.trainer.items() if key != "dry_run"}
    trainer: pl.Trainer = made(DictConfig(configured), **options)
    return trainer


def said(peaks: dict[int, int]) -> str:
    """Return peaks in words."""
    return ", ".join(f"epoch {epoch}: {peak / _GIB:.2f} GiB" for epoch, peak in peaks.items())
