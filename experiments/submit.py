"""Make the archive that a benchmark's server asks for, out of tracked results.

python -m experiments.evaluate benchmark=[got10k_test] checkpoint=... run_dir=outputs/got10k
python -m experiments.submit benchmark=[got10k_test] results=outputs/got10k/results/got10k_test/...
"""

import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig, ListConfig

from experiments.config import ConfigError, check, made, run_checked, user_errors
from lightning_trackers.evaluation.submission import ServerScored

log = logging.getLogger(__name__)


def submit(cfg: DictConfig) -> Path:
    """Write the archive.

    Returns:
        Its path.

    Raises:
        ConfigError: If there is not exactly one benchmark, or no server scores it.
        FileNotFoundError: If a folder holds no results.
        ValueError: If a sequence has no result, or one does not belong to it.
    """
    if len(cfg.benchmarks) != 1:
        raise ConfigError(f"benchmark: expected one to submit, got {list(cfg.benchmarks)}")
    (benchmark,) = made(cfg.benchmarks).values()
    if not isinstance(benchmark.protocol, ServerScored):
        raise ConfigError(
            f"{benchmark.name}: has public ground truth and is scored by experiments.evaluate; "
            "archives are for got10k_test and trackingnet_test"
        )
    given = cfg.results if isinstance(cfg.results, ListConfig) else [cfg.results]
    folders = [Path(str(folder)) for folder in given]
    out = Path(cfg.out) if cfg.out else folders[0].with_name(f"{folders[0].name}.zip")
    benchmark.protocol.write_archive(benchmark, folders, out)
    log.info("%s: %d sequences; upload it to the benchmark's server", out, len(benchmark))
    return out


@hydra.main(version_base="1.3", config_path="conf", config_name="submit")
def main(cfg: DictConfig) -> None:
    """Write the archive that the configuration describes."""
    with user_errors():
        check(cfg)
        try:
            submit(cfg)
        except ValueError as error:
            raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    run_checked(main)
