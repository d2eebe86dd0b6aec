r"""Prepare a training set: annotation index, packed crops, report.

    python -m experiments.prepare source=vid root=/data/ILSVRC2015 report=true
    python -m experiments.prepare source=vid root=/data/ILSVRC2015 out=/data/vid_shards
    python -m experiments.prepare -m hydra/launcher=submitit_slurm 'part=range(0,16)' parts=16 \
        source=vid root=/data/ILSVRC2015 out=/data/vid_shards

What is finished is kept: the same command goes on after an interruption. The last one is a SLURM array;
its parts need a folder that all machines see, and nothing else of each other.
"""

import logging

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from datamodules.loading import usable_cores
from datamodules.packing import pack
from datamodules.sources.tracks import TrackSource
from experiments.config import ConfigError, check, made, run_checked, user_errors
from experiments.data_report import write_data_report

log = logging.getLogger(__name__)


def prepare(cfg: DictConfig) -> None:
    """Index a source, and pack and report it as the configuration says.

    Args:
        cfg: Composed configuration, see ``conf/prepare.yaml``.

    Raises:
        ConfigError: If the root is missing or there is no such part.
        DatasetError: If the source is unusable.
    """
    name = HydraConfig.get().runtime.choices["source"]
    if cfg.root is None:
        raise ConfigError(
            f"root: expected the folder of {name}; give root=/..., or set TRACKERS_{name.upper()}_ROOT"
        )
    if not 0 <= cfg.part < cfg.parts:
        raise ConfigError(f"part={cfg.part}: expected 0 to {cfg.parts - 1}, as parts={cfg.parts}")
    settings = made(cfg.packing)
    source: TrackSource = made(cfg.source)
    index = source.index
    log.info("%s: %d tracks, %d boxes; index in %s", name, len(index), index.boxes, index.path)
    if cfg.report and cfg.part == 0:
        report = write_data_report(source, cfg.run_dir, pairs=cfg.report_pairs, seed=cfg.seed)
        log.info("report: %s", report)
    if cfg.out is not None:
        workers = usable_cores() if cfg.workers is None else cfg.workers
        manifest = pack(source, cfg.out, settings, part=cfg.part, parts=cfg.parts, workers=workers)
        if manifest is not None:
            log.info("%s: packed; train from it with paths.%s_shards=%s", name, name, cfg.out)


@hydra.main(version_base="1.3", config_path="conf", config_name="prepare")
def main(cfg: DictConfig) -> None:
    """Prepare one source."""
    with user_errors():
        check(cfg)
        try:
            prepare(cfg)
        except KeyboardInterrupt:
            raise SystemExit("interrupted; the same command goes on") from None


if __name__ == "__main__":
    run_checked(main)
