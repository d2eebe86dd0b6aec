"""Stages that come before a run: each is trained or made once, and kept beside the run.

A configuration may name stages in ``pipeline``; their order is that of the file, and the run itself, the
stage ``tracker``, comes last. A stage is a folder of ``stages_dir`` with its configuration, its
checkpoints and, once it is finished, ``finished.json``. Whoever starts the same command again goes on
where it stopped: finished stages are not redone, an interrupted one goes on from its last epoch. Runs
may share ``stages_dir``: what several of them need is made by the first one, and the others wait.

    python -m experiments.run +exp=sintpp                    # all stages
    python -m experiments.run +exp=sintpp stages=[agent]     # one of them
    python -m experiments.run +exp=sintpp stages=[tracker] stages_as_made=true stages_dir=... optimizer.lr=1e-4
"""

import gc
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import wandb
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from callbacks.nan_guard import NaNGuard
from experiments.config import ConfigError, made, nearest
from experiments.dry_run import trainer_of
from experiments.initial_weights import initialise
from experiments.threads import torch_threads
from lightning_trackers.files import write_text

log = logging.getLogger(__name__)

TRACKER = "tracker"
"""The last stage: the run."""


def run_stages(cfg: DictConfig) -> bool:
    """Finish the stages that are asked for; those that have been finished are left as they are.

    A node of ``pipeline`` that has a ``module`` is trained on its ``datamodule`` for ``max_epochs``
    from ``initial_weights``, on one device, with its ``callbacks`` and with what its ``trainer`` says
    instead of the run's; ``last.ckpt`` is what the next stages read. If it has ``make``, that is
    called with its folder, after the training if there is one.

    With ``stages_as_made`` a stage that is not asked for is taken as it was made, whatever the
    configuration says of it; ``cfg.pipeline`` then says how it was made.

    Args:
        cfg: Composed configuration of a run.

    Returns:
        Whether the run itself is to follow: it is one of ``stages``, and no stage was interrupted.

    Raises:
        ConfigError: If a stage is unknown, needs another one that is not finished, or was begun with
            another configuration.
    """
    known = [*cfg.pipeline, TRACKER]
    for name in cfg.stages:
        if name not in known:
            raise ConfigError(
                f"stages: no stage {name!r}; nearest: {nearest(name, known)!r}; there are {known}"
            )
    if cfg.pipeline and TRACKER in cfg.stages:
        made(cfg.benchmarks)  # what is wrong with them should be found before the stages are made
    for place, name in enumerate(known):
        if name not in cfg.stages:
            continue
        for earlier in known[:place]:
            if cfg.stages_as_made:
                _take_as_made(cfg, earlier)
            _check_same(cfg, earlier)
            if not _finished(cfg, earlier).is_file():
                raise ConfigError(
                    f"stage {name} needs the stage {earlier}, which is not finished in "
                    f"{_folder(cfg, earlier)}; run it first, with stages=[{earlier},{name}]"
                )
        if name != TRACKER and not _run_stage(cfg, name):
            return False
    return TRACKER in cfg.stages


def _run_stage(cfg: DictConfig, name: str) -> bool:
    """Finish a stage; return whether it was not interrupted."""
    folder = _folder(cfg, name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # who comes second finds it finished
        _check_same(cfg, name)
        if _finished(cfg, name).is_file():
            log.info("stage %s: finished before, in %s", name, folder)
            return True
        return _make_stage(cfg, name, folder)


def _make_stage(cfg: DictConfig, name: str, folder: Path) -> bool:
    node = cfg.pipeline[name]
    log.info("stage %s: in %s", name, folder)
    write_text(_kept(cfg, name), _described(cfg, name))
    clock_start = time.monotonic()
    module = None
    if "module" in node:
        module = _train(cfg, name, node, folder)
        if module is None:
            log.warning("stage %s: interrupted; the same command goes on", name)
            return False
    if "make" in node:
        made(node.make)(folder)
    minutes = (time.monotonic() - clock_start) / 60
    write_text(_finished(cfg, name), json.dumps({"minutes": round(minutes, 2)}))
    log.info("stage %s: finished after %.1f min", name, minutes)
    del module
    gc.collect()  # the next stage needs the memory
    return True


def _train(cfg: DictConfig, name: str, node: DictConfig, folder: Path) -> pl.LightningModule | None:
    """Train a stage; return its module, None if it was interrupted."""
    pl.seed_everything(cfg.seed, workers=True)
    datamodule, module = made(node.datamodule), made(node.module)
    described: Any = OmegaConf.to_container(node.module, resolve=True)
    if {"network", "tracker"} <= described.keys():  # it can be loaded as a tracker
        module.recipe = {part: described[part] for part in ("network", "tracker")}
    initialise(module, node.get("initial_weights", "random"))
    loggers = _loggers(cfg, name, folder)
    checkpoint = pl.callbacks.ModelCheckpoint(
        folder, filename="epoch_{epoch:03d}", auto_insert_metric_name=False, save_last=True,
        save_on_train_epoch_end=True,
    )  # fmt: skip
    options: Mapping[str, Any] = OmegaConf.to_container(node.get("trainer", DictConfig({})))  # type: ignore[assignment]
    trainer = trainer_of(
        cfg,
        max_epochs=node.max_epochs,
        devices=1,
        num_nodes=1,
        strategy="auto",
        **options,
        callbacks=[
            checkpoint,
            NaNGuard(folder),
            *made(node.get("callbacks", DictConfig({}))).values(),
        ],
        logger=loggers,
        default_root_dir=str(folder),
    )
    for logger in loggers:
        logger.log_hyperparams(described)
    last = folder / "last.ckpt"
    if last.is_file():
        log.info("stage %s: going on from %s", name, last)
    workers = OmegaConf.select(node, "datamodule.num_workers", default=0)
    with torch_threads(torch.get_num_threads() - workers):
        trainer.fit(module, datamodule, ckpt_path=last if last.is_file() else None)
    wandb.finish()  # otherwise the next stage would log into this one's run
    return None if trainer.interrupted else module


def _loggers(cfg: DictConfig, name: str, folder: Path) -> list[Any]:
    """Return the run's loggers with the stage's name; in W&B they are of the run's group."""
    loggers = []
    for node in cfg.logger.values():
        own = {"save_dir": str(folder)}
        if "group" in node:
            own["name"] = f"{cfg.run_name}_{name}"
        loggers.append(made(node, **own))
    return loggers


def _take_as_made(cfg: DictConfig, name: str) -> None:
    kept = _kept(cfg, name)
    if kept.is_file():
        cfg.pipeline[name] = OmegaConf.load(kept)


def _check_same(cfg: DictConfig, name: str) -> None:
    """Refuse to go on with what was made with another configuration."""
    kept = _kept(cfg, name)
    if not kept.is_file():
        return
    before, now = kept.read_text(encoding="utf-8"), _described(cfg, name)
    if before != now:
        changed = sorted(set(before.splitlines()) ^ set(now.splitlines()))
        raise ConfigError(
            f"stage {name}: {kept.parent} was made with another configuration ({changed[0].strip()!r} "
            f"and {len(changed) - 1} more lines differ); give another stages_dir=, remove that folder "
            "and those of the stages after it, or take it as it is: leave it out of stages, with "
            "stages_as_made=true"
        )


def _described(cfg: DictConfig, name: str) -> str:
    node = {"seed": cfg.seed, **OmegaConf.to_container(cfg.pipeline[name], resolve=True)}  # type: ignore[dict-item]
    return OmegaConf.to_yaml(OmegaConf.create(node))


def _folder(cfg: DictConfig, name: str) -> Path:
    return Path(cfg.stages_dir) / name


def _kept(cfg: DictConfig, name: str) -> Path:
    return _folder(cfg, name) / "config.yaml"


def _finished(cfg: DictConfig, name: str) -> Path:
    return _folder(cfg, name) / "finished.json"
