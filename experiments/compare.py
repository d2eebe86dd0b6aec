"""Compare trackers by their raw result files: tables, significance, figures and a report.

    python -m experiments.compare benchmark=otb2015 results=[results/KCF,results/SiamFC]
    python -m experiments.compare benchmark=otb2015 annotations=anno results={KCF:results/kcf}

Results of other trackers are read in the layouts of OTB, got10k and VOT, ours as evaluation left
them. With ``annotations=`` no frame is needed.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from datamodules.errors import DatasetError
from datamodules.raw_results import read_comparison
from experiments.config import ConfigError, check, made, run_checked, user_errors
from experiments.report import benchmark_details, styles, write_report
from experiments.run import git_commit
from lightning_trackers.evaluation.benchmarking import BenchmarkScores, protocol_of
from lightning_trackers.evaluation.protocol import SequenceResult
from lightning_trackers.evaluation.sequence import Benchmark
from lightning_trackers.files import write_text

log = logging.getLogger(__name__)

FROM_ANNOTATIONS = {
    "datamodules.benchmarks.otb.otb_benchmark": (
        "datamodules.benchmarks.annotations.annotated_otb",
        "root",
    ),
    "datamodules.benchmarks.vot.vot_benchmark": (
        "datamodules.benchmarks.vot.annotated_vot",
        "file",
    ),
}
"""What reads a benchmark without its frames and by which argument, by what reads it with them."""


def compare(cfg: DictConfig, output_dir: Path) -> list[BenchmarkScores]:
    """Score the results of several trackers on one benchmark and write the report.

    Args:
        cfg: Composed configuration, see ``conf/compare.yaml``.
        output_dir: Folder of the report.

    Returns:
        Scores of each tracker.

    Raises:
        ConfigError: If not exactly one benchmark is named, or two trackers have one name.
        DatasetError: If results are missing or do not belong to the benchmark.
    """
    clock_start = time.monotonic()
    if len(cfg.benchmarks) != 1:
        raise ConfigError(
            f"benchmark: expected one to compare trackers on, got {list(cfg.benchmarks)}"
        )
    benchmark: Benchmark = made(next(iter(cfg.benchmarks.values())))
    folders = named_folders(OmegaConf.to_container(cfg.results, resolve=True))
    compared = read_comparison(benchmark, folders, cfg.missing)
    scores = []
    for tracker, results in compared.results.items():
        scores.append(scored(compared.benchmark, tracker, results))
        line = ", ".join(f"{key} {value:.3f}" for key, value in scores[-1].scores.scalars.items())
        log.info("%s: %s: %s", benchmark.name, tracker, line)
    details = benchmark_details(
        compared.benchmark,
        scores,
        compared.results,
        colours={name: style.colour for name, style in styles(list(folders)).items()},
        worst=cfg.worst_frames,
        notes=[f"Left out for all trackers: {n}. {r}" for n, r in compared.excluded.items()],
    )
    config = OmegaConf.to_yaml(cfg, resolve=True)
    write_text(output_dir / "config.yaml", config)
    meta = {
        "exp": f"Trackers on {benchmark.name}",
        "trackers": len(scores),
        "sequences": len(compared.benchmark),
        "commit": git_commit(),
        "folder": output_dir,
        "duration": f"{time.monotonic() - clock_start:.1f} s",
    }
    report = write_report(output_dir, scores, config, meta, details={benchmark.name: details})
    log.info("report: %s", report)
    return scores


def scored(
    benchmark: Benchmark, tracker: str, results: Mapping[str, SequenceResult]
) -> BenchmarkScores:
    """Score the results of a tracker; speed over the sequences whose times are known."""
    protocol = protocol_of(benchmark)
    times_s = {s.name: results[s.name].times_s[1:] for s in benchmark}
    timed = [t for t in times_s.values() if np.isfinite(t).all()]
    return BenchmarkScores(
        benchmark=benchmark.name,
        tracker=tracker,
        protocol=protocol.name,
        headline=protocol.headline,
        scores=protocol.score(benchmark, results),
        frames={s.name: len(s) for s in benchmark},
        fps=_rate(np.concatenate(timed) if timed else np.empty(0)),
        sequence_fps={name: _rate(t) for name, t in times_s.items()},
    )


def _rate(times_s: np.ndarray) -> float:
    spent_s = float(times_s.sum())
    return len(times_s) / spent_s if spent_s > 0 else math.nan


def use_annotations(cfg: DictConfig) -> None:
    """Have the benchmarks read from annotations alone, where the configuration asks for it.

    Raises:
        ConfigError: If a benchmark's annotations cannot stand alone.
    """
    for node in cfg.benchmarks.values() if cfg.annotations is not None else ():
        if node["_target_"] not in FROM_ANNOTATIONS:
            raise ConfigError(
                f"annotations={cfg.annotations}: {node['_target_']} needs the frames too; leave "
                f"annotations out. Without frames: {', '.join(FROM_ANNOTATIONS)}"
            )
        with open_dict(node):
            node["_target_"], argument = FROM_ANNOTATIONS[node["_target_"]]
            del node["root"]
            node[argument] = cfg.annotations


def named_folders(results: Any) -> dict[str, Path]:
    """Return the folder of each tracker by its name.

    Args:
        results: Names and folders, or folders alone, which are named by their last part.

    Raises:
        ConfigError: If there is none, or two have one name.
    """
    if isinstance(results, str):
        results = [results]
    if isinstance(results, Mapping):
        return {str(name): Path(str(folder)) for name, folder in results.items()}
    if not isinstance(results, Sequence) or not results:
        raise ConfigError(
            "results: expected folders, results=[a,b], or names and folders, results={A:a,B:b}; "
            f"got {results!r}"
        )
    folders = [Path(str(folder)) for folder in results]
    names = [folder.resolve().name for folder in folders]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(
            f"results: several folders are named {repeated}; name the trackers: "
            "results={A:folder,B:folder}"
        )
    return dict(zip(names, folders, strict=True))


@hydra.main(version_base="1.3", config_path="conf", config_name="compare")
def main(cfg: DictConfig) -> float:
    """Compare trackers; return the best one's headline score."""
    with user_errors():
        try:
            use_annotations(cfg)
            check(cfg)
            scores = compare(cfg, Path(HydraConfig.get().runtime.output_dir))
        except DatasetError as error:
            raise ConfigError(str(error)) from error
    return max((row.headline_score for row in scores), default=math.nan)


if __name__ == "__main__":
    run_checked(main)
