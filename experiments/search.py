"""Tune a tracker's penalties on a validation benchmark, from what its network answered.

    python -m experiments.search checkpoint=outputs/.../checkpoints/last.ckpt trials=300 workers=4
    python -m experiments.evaluate checkpoint=... settings=outputs/.../search/best.yaml

Optuna proposes settings (tree-structured Parzen estimator); a trial follows the benchmark through
cached network outputs (``lightning_trackers/evaluation/replay.py``) and the best few are tracked in the
ordinary way at the end. ``cache=false`` tracks in every trial, for trackers that learn online. The same
command goes on where an interrupted search stopped.
"""

import csv
import hashlib
import io
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import optuna
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from callbacks.progress import FrameProgress
from experiments.config import ConfigError, check, chosen_device, made, run_checked, user_errors
from experiments.evaluate import fingerprint
from experiments.run import begin
from experiments.search_figure import write_figure
from experiments.settings import given_settings
from experiments.trials import Tracking, Trials, Work, why_not_replayed
from lightning_trackers.evaluation.benchmarking import protocol_of
from lightning_trackers.files import write_text
from lightning_trackers.methods.loading import SHIPPED, read_recipe

log = logging.getLogger(__name__)

Ranges = dict[str, tuple[float, float]]


def run_of(checkpoint: str | None, otherwise: str) -> str:
    """Return the folder of the run that wrote a checkpoint, ``run/checkpoints/name.ckpt``."""
    path = Path(str(checkpoint))
    return str(path.parents[1]) if path.parent.name == "checkpoints" else otherwise


OmegaConf.register_new_resolver("run_of", run_of, replace=True)


def search(cfg: DictConfig, output_dir: Path) -> dict[str, Any]:
    """Search, track the best settings again, and write ``search/`` in the run's folder.

    Args:
        cfg: Composed configuration, see ``conf/search.yaml``.
        output_dir: Folder of the run.

    Returns:
        What ``best.yaml`` says.

    Raises:
        ConfigError: If the configuration asks for what is not there or not allowed.
        FileExistsError: If the folder holds trials of another search.
    """
    folder = output_dir / "search"
    name, node, is_test = chosen_benchmark(cfg)
    checkpoint = SHIPPED if cfg.checkpoint is None else Path(cfg.checkpoint)
    ranges = chosen_ranges(cfg, method_of(checkpoint, cfg.runtime))
    fixed = given_settings(cfg.settings)
    lattice = made(cfg.lattice)
    basis = {
        "weights": fingerprint(checkpoint, fixed),
        "runtime": cfg.runtime,
        "benchmark": node,
        "lattice": [lattice.shift, lattice.zoom],
    }
    work = Work(
        benchmark=node,
        memo=folder / "cache" / _digest(basis)[:16],
        checkpoint=cfg.checkpoint,
        settings=fixed,
        runtime=cfg.runtime,
        device=str(chosen_device(cfg.device)),
        lanes=cfg.evaluation.lanes,
        lattice=lattice,
    )
    trials = Trials(work, cfg.workers)
    own = _own_values(trials.here, ranges, use_cache=cfg.cache)
    of = _digest({**basis, "ranges": ranges, "seed": cfg.seed, "cache": cfg.cache})
    table = TrialTable(folder, of, list(ranges), overwrite=cfg.overwrite)
    loggers = list(made(cfg.logger).values())
    clock_start = time.monotonic()
    with trials:
        score = trials.replayed if cfg.cache else trials.tracked
        [baseline] = score([{}])
        log.info("%s: %.4f with the settings as they are", name, baseline)
        study = find(cfg, ranges, table, score, loggers)
        rows = table.ranked()
        best: dict[str, Any] = {
            "settings": rows[0][1],
            "score": rows[0][0],
            "retracked_score": None,
        }
        again = None
        if cfg.retrack:
            candidates = rows[: cfg.retrack] if cfg.cache else rows[:1]
            # The settings as they are take part: a search never makes a tracker worse here.
            tried = [(baseline, own), *candidates]
            found = trials.tracked([values for _, values in tried])
            again = found[0]
            place = max(range(len(tried)), key=lambda i: (found[i], tried[i][0]))
            best = {
                "settings": tried[place][1],
                "score": tried[place][0],
                "retracked_score": found[place],
            }
        looks = trials.looks
    summary: dict[str, Any] = {
        **best,
        "benchmark": name,
        "is_test_benchmark": is_test,
        "headline": protocol_of(trials.here.benchmark).headline,
        "trials": len(rows),
        "baseline": {"settings": dict(own), "score": baseline, "retracked_score": again},
        "cache": bool(cfg.cache),
        "lattice": {"shift": lattice.shift, "zoom": lattice.zoom} if cfg.cache else None,
        "checkpoint": str(checkpoint),
        "seed": cfg.seed,
    }
    write_text(folder / "best.yaml", yaml.safe_dump(summary, sort_keys=False))
    write_figure(study, baseline, folder / "search.html")
    for logger in loggers:
        logger.log_metrics({"search/best": best["retracked_score"] or best["score"]})
        logger.finalize("success")
    log.info(
        "%s: %.4f predicted, %s tracked again, %.4f (%s) before; %s; %d trials, %d looks, %.0f s",
        name, best["score"], _shown(best["retracked_score"]), baseline, _shown(again),
        ", ".join(f"{key} {value:.4g}" for key, value in best["settings"].items()),
        len(rows), looks, time.monotonic() - clock_start,
    )  # fmt: skip
    log.info("settings: %s", folder / "best.yaml")
    return summary


def find(
    cfg: DictConfig, ranges: Ranges, table: "TrialTable", score: Any, loggers: Sequence[Any]
) -> optuna.Study:
    """Try settings until there are ``cfg.trials``; return the study."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        key: optuna.distributions.FloatDistribution(*bounds) for key, bounds in ranges.items()
    }
    study = optuna.create_study(direction="maximize")
    for value, values in table.rows:
        study.add_trial(
            optuna.trial.create_trial(params=dict(values), distributions=space, value=value)
        )
    if table.rows:
        log.info("going on after %d trials", len(table.rows))
    with FrameProgress("search", cfg.trials, unit="trials") as progress:
        progress.show(len(table.rows))
        while (count := len(table.rows)) < cfg.trials:
            # Seeded anew for each batch, so that a search that goes on draws what it would have drawn.
            study.sampler = optuna.samplers.TPESampler(
                seed=cfg.seed + count, n_startup_trials=2 * cfg.batch, constant_liar=True
            )
            asked = [study.ask(space) for _ in range(min(cfg.batch, cfg.trials - count))]
            size = len(asked)
            scores = score(
                [trial.params for trial in asked],
                lambda share, done=count, size=size: progress.show(done + int(share * size)),
            )
            for trial, value in zip(asked, scores, strict=True):
                study.tell(trial, value)
            table.add([(v, t.params) for v, t in zip(scores, asked, strict=True)])
            for number, (value, values) in enumerate(table.rows[count:], count):
                for logger in loggers:
                    logger.log_metrics({"search/score": value, **values}, step=number)
            progress.show(len(table.rows))
    return study


class TrialTable:
    """The trials so far, kept in ``trials.csv``; with it a search goes on.

    Args:
        folder: Folder of the search.
        fingerprint: Names what a trial's score depends on.
        names: The settings that are searched.
        overwrite: Remove trials of another fingerprint instead of refusing to go on.

    Raises:
        FileExistsError: If the folder holds trials of another fingerprint, and is to be kept.
    """

    def __init__(
        self, folder: Path, fingerprint: str, names: Sequence[str], *, overwrite: bool = False
    ) -> None:
        self.path = folder / "trials.csv"
        self.names = list(names)
        self.rows: list[tuple[float, dict[str, float]]] = []
        mark = folder / "fingerprint.txt"
        if mark.is_file() and mark.read_text("utf-8") != fingerprint:
            if not overwrite:
                raise FileExistsError(
                    f"{folder} holds a search of another checkpoint, benchmark or space; choose "
                    "another run_dir, or overwrite=true"
                )
            for old in (self.path, folder / "best.yaml", folder / "search.html"):
                old.unlink(missing_ok=True)
            shutil.rmtree(folder / "cache", ignore_errors=True)
        write_text(mark, fingerprint)
        if self.path.is_file():
            for row in csv.DictReader(io.StringIO(self.path.read_text("utf-8"))):
                self.rows.append((float(row["score"]), {n: float(row[n]) for n in self.names}))

    def add(self, rows: Sequence[tuple[float, Mapping[str, float]]]) -> None:
        """Keep trials: score and settings."""
        self.rows += [(score, dict(values)) for score, values in rows]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", "score", *self.names])
        for number, (score, values) in enumerate(self.rows):
            writer.writerow([number, score, *(values[name] for name in self.names)])
        write_text(self.path, text.getvalue())

    def ranked(self) -> list[tuple[float, dict[str, float]]]:
        """Return the trials, the best first and earlier ones before others of the same score."""
        return sorted(self.rows, key=lambda row: -row[0])


def chosen_benchmark(cfg: DictConfig) -> tuple[str, dict[str, Any], bool]:
    """Return name and description of the benchmark to search on, and whether it is a test.

    Raises:
        ConfigError: If there is none of that name, or it is a test benchmark and not forced.
    """
    wanted = cfg.search_benchmark
    if wanted is None:
        node = cfg.validation_benchmark
        if node is None:
            raise ConfigError(
                "no validation benchmark: choose benchmark=procedural, or "
                f"search_benchmark=<one of {list(cfg.benchmarks)}>"
            )
    elif wanted in cfg.benchmarks:
        node = cfg.benchmarks[wanted]
    else:
        raise ConfigError(f"search_benchmark={wanted}: there are {list(cfg.benchmarks)}")
    content: Any = OmegaConf.to_container(node, resolve=True)
    name = str(content.get("name", wanted or "validation"))
    is_test = not {content.get("split"), content.get("subset")} & {"val", "train"}
    if is_test and not cfg.allow_test:
        raise ConfigError(
            f"{name} is a test benchmark (its description has neither split nor subset val): "
            "penalties chosen on it make its scores worthless as a test; search on a validation "
            "benchmark, or force it with allow_test=true, which best.yaml records"
        )
    if is_test:
        log.warning("searching on the test benchmark %s: do not report its scores as a test", name)
    return name, content, is_test


def chosen_ranges(cfg: DictConfig, method: str) -> Ranges:
    """Return the range of each setting that is searched.

    Raises:
        ConfigError: If there is none, or one is not [low, high] with low < high.
    """
    spaces: Any = OmegaConf.to_container(cfg.spaces, resolve=True)
    given: Any = OmegaConf.to_container(cfg.space, resolve=True)
    asked = {k: v for k, v in {**spaces.get(method, {}), **given}.items() if v is not None}
    if not asked:
        raise ConfigError(
            f"no ranges for {method}: conf/search.yaml has some for {', '.join(spaces)}; give "
            "+space.<setting>=[low,high]"
        )
    for key, bounds in asked.items():
        is_pair = isinstance(bounds, list) and len(bounds) == 2
        if not is_pair or not all(isinstance(b, int | float) for b in bounds):
            raise ConfigError(f"space.{key}: expected [low, high], got {bounds}")
        if not bounds[0] < bounds[1]:
            raise ConfigError(f"space.{key}: expected low < high, got {bounds}: the range is empty")
    return {key: (float(low), float(high)) for key, (low, high) in asked.items()}


def method_of(checkpoint: Path, runtime: str) -> str:
    """Return the method whose tracker a checkpoint describes."""
    try:
        recipe = read_recipe(checkpoint, runtime)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    # lightning_trackers.methods.<method>.<Tracker>
    return str(recipe["tracker"]["_target_"]).split(".")[2]


def _own_values(here: Tracking, ranges: Ranges, *, use_cache: bool) -> dict[str, float]:
    """Return the searched settings as they are, after a look at whether they can be searched."""
    tracker = here.tracker
    reason = why_not_replayed(tracker, here.benchmark) if use_cache else None
    if reason is not None:
        raise ConfigError(f"{reason}; search by tracking every time: cache=false")
    known = {
        key: float(value)
        for key, value in vars(tracker.settings).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    for key in ranges:
        if key not in known:
            raise ConfigError(f"space.{key}: no such setting of the tracker; known: {list(known)}")
        if use_cache and key not in tracker.PENALTIES:
            raise ConfigError(
                f"space.{key}: the network's answers depend on it, so they cannot be cached; "
                f"without cache=false only {', '.join(tracker.PENALTIES)} can be searched"
            )
    for end in (0, 1):
        here.work.tracker({key: bounds[end] for key, bounds in ranges.items()})
    return {key: known[key] for key in ranges}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _shown(score: float | None) -> str:
    return "not" if score is None else f"{score:.4f}"


@hydra.main(version_base="1.3", config_path="conf", config_name="search")
def main(cfg: DictConfig) -> float:
    """Search the penalties of one checkpoint; return the best score."""
    output_dir = Path(HydraConfig.get().runtime.output_dir)
    with user_errors():
        check(cfg)
        try:
            begin(cfg, output_dir / "search")
            summary = search(cfg, output_dir)
        except KeyboardInterrupt:
            raise SystemExit("interrupted; the same command goes on") from None
    return float(summary["score"])


if __name__ == "__main__":
    run_checked(main)
