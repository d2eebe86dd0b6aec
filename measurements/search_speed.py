"""Measure how many trials a minute a penalty search makes, beside tracking in every trial.

    python -m measurements.search_speed
    python -m measurements.search_speed --trials 320 --count 12 --length 80

One process, one thread. The search runs as ``experiments.search`` runs it, from an empty cache, in
batches; after every batch one of its settings is tracked in the ordinary way, so both are timed side by
side and a score that the search predicted stands beside the one that tracking gives. Times are
processor time (the machine may be shared), with the wall time beside them. The ratio is that of the
time per trial: over the whole search, with all that the network was shown and what Optuna took, and
over its last batches, where most of what is asked for is there already. At the end the best setting
found is tracked as it is, and through the windows of the search, which must give the predicted score.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy.stats import spearmanr

from experiments.config import CONF, made
from experiments.search import TrialTable, chosen_benchmark, chosen_ranges, find, method_of
from experiments.trials import Settings, Trials, Work
from lightning_trackers.methods.loading import SHIPPED


class Timed:
    """Scores of batches, each followed by one setting that is tracked.

    Args:
        trials: What scores.
        every: Batches from one tracked setting to the next.
    """

    def __init__(self, trials: Trials, every: int) -> None:
        self.trials = trials
        self.every = every
        self.pairs: list[tuple[float, float]] = []
        self.tracking_s: list[float] = []
        self.batches: list[tuple[int, float, int]] = []
        self._start = time.process_time()

    def __call__(self, settings: list[Settings], _: object = None) -> list[float]:
        """Return the scores of a batch."""
        looks = self.trials.looks
        scores = self.trials.replayed(settings)
        # From the end of the last batch to here: Optuna's share included.
        spent = time.process_time() - self._start
        self.batches.append((len(settings), spent, self.trials.looks - looks))
        if len(self.batches) % self.every == 0:
            start = time.process_time()
            real = self.trials.here.tracked(settings[0])
            self.tracking_s.append(time.process_time() - start)
            self.pairs.append((scores[0], real))
            print(
                f"batch {len(self.batches):3d}: {1e3 * spent / len(settings):6.1f} ms a trial, "
                f"{self.batches[-1][2]:5d} looks, tracking {self.tracking_s[-1]:.2f} s, "
                f"predicted {scores[0]:.4f}, tracked {real:.4f}",
                flush=True,
            )
        self._start = time.process_time()
        return scores


def configuration(args: argparse.Namespace) -> Any:
    """Return the search's configuration."""
    overrides = [
        "exp_name=search", "run_name=search", "run_dir=search", "logger=csv", "device=cpu",
        f"trials={args.trials}", f"batch={args.batch}", f"checkpoint={args.checkpoint or 'null'}",
        f"lattice.shift={args.shift}", f"lattice.zoom={args.zoom}",
        f"validation_benchmark.count={args.count}", f"validation_benchmark.length={args.length}",
    ]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("search", overrides)


def main() -> None:
    """Run the search and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--length", type=int, default=80)
    parser.add_argument("--shift", type=float, default=16.0)
    parser.add_argument("--zoom", type=float, default=1.1)
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cfg = configuration(args)
    _, node, _ = chosen_benchmark(cfg)
    ranges = chosen_ranges(cfg, method_of(Path(args.checkpoint or SHIPPED), "torch"))
    wall = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work = Work(node, Path(folder) / "memo", args.checkpoint, lattice=made(cfg.lattice))
        trials = Trials(work)
        assert len(trials.here.benchmark) == args.count  # drawn and loaded before the clock starts
        assert trials.here.tracker is not None
        timed = Timed(trials, args.every)
        table = TrialTable(Path(folder), "", list(ranges))
        find(cfg, ranges, table, timed, [])
        size = sum(f.stat().st_size for f in Path(folder).rglob("records.f32")) / 2**20
        score, best = table.ranked()[0]
        again = trials.here.tracked(best)
        on_lattice = trials.here.tracked(best, on_lattice=True)
        own, own_again = trials.replayed([{}])[0], trials.here.tracked({})
    steps = args.count * (args.length - 1)
    tracking = median(timed.tracking_s)
    count = sum(n for n, _, _ in timed.batches)
    whole = sum(s for _, s, _ in timed.batches) / count
    last = timed.batches[-max(1, len(timed.batches) // 4) :]
    late = sum(s for _, s, _ in last) / sum(n for n, _, _ in last)
    predicted, real = np.array(timed.pairs).T
    print(OmegaConf.to_yaml(OmegaConf.create({"ranges": {k: list(v) for k, v in ranges.items()}})))
    print(f"{args.count} sequences of {args.length} frames, {steps} steps; {count} trials")
    print(f"tracking        {tracking:9.3f} s a trial, {60 / tracking:9.1f} trials a minute")
    print(
        f"whole search    {whole:9.3f} s a trial, {60 / whole:9.1f}, {tracking / whole:6.1f} times"
    )
    print(f"last quarter    {late:9.3f} s a trial, {60 / late:9.1f}, {tracking / late:6.1f} times")
    looks = sum(looks for _, _, looks in timed.batches)
    print(f"looks a step    {looks / steps:9.2f}; cache {size:.0f} MiB")
    print(
        f"predicted - tracked: mean {np.mean(predicted - real):+.4f}, mean absolute "
        f"{np.mean(np.abs(predicted - real)):.4f}, rank correlation "
        f"{spearmanr(predicted, real).statistic:.2f} over {len(real)} settings"
    )
    print(f"as it was       predicted {own:.4f}, tracked {own_again:.4f}")
    print(
        f"best            predicted {score:.4f}, tracked {again:.4f}, on lattice {on_lattice:.4f}"
    )
    print({key: round(value, 4) for key, value in best.items()})
    print(f"wall {time.monotonic() - wall:.0f} s, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
