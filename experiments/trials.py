"""Scores of a tracker with other settings: replayed from what its network answered, or tracked."""

import dataclasses
import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from experiments.config import ConfigError, made
from lightning_trackers.evaluation.benchmarking import protocol_of
from lightning_trackers.evaluation.looking import is_looking
from lightning_trackers.evaluation.one_pass import TrackResult
from lightning_trackers.evaluation.ope_protocol import AverageOverlapOnePass, OnePass
from lightning_trackers.evaluation.output_memo import OutputMemo
from lightning_trackers.evaluation.replay import Lattice, OnLattice, Replay
from lightning_trackers.evaluation.sequence import Benchmark
from lightning_trackers.methods.loading import load_tracker

Settings = Mapping[str, float]


@dataclass(frozen=True)
class Work:
    """What every process that tries settings has to know.

    Args:
        benchmark: Description of the benchmark, with ``_target_``.
        memo: Folder of the network's answers.
        checkpoint: Weights; None for those that come with the package.
        settings: Settings that are the same in all trials.
        runtime: What runs the network.
        device: Where.
        lanes: Sequences tracked in lockstep where nothing is replayed.
        lattice: Windows of a replay.
    """

    benchmark: dict[str, Any]
    memo: Path
    checkpoint: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    runtime: str = "torch"
    device: str = "cpu"
    lanes: int = 8
    lattice: Lattice = field(default_factory=Lattice)

    def tracker(self, settings: Settings) -> Any:
        """Return the tracker with other settings.

        Raises:
            ConfigError: If a setting is unknown or out of range.
        """
        try:
            return load_tracker(
                self.checkpoint, {**self.settings, **settings}, self.device, self.runtime
            )
        except (ValueError, RuntimeError) as error:
            raise ConfigError(str(error)) from error


class Tracking:
    """Does the work in one process.

    Args:
        work: What is to be done.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self._replays: dict[int, Replay[Any]] = {}

    @cached_property
    def benchmark(self) -> Benchmark:
        """The benchmark."""
        benchmark: Benchmark = made(OmegaConf.create(self.work.benchmark))
        return benchmark

    @cached_property
    def tracker(self) -> Any:
        """The tracker with the settings that all trials share."""
        return self.work.tracker({})

    def replayed(self, index: int, settings: Sequence[Settings]) -> tuple[list[TrackResult], int]:
        """Follow one sequence with several settings; return also how often the network ran."""
        if index not in self._replays:
            sequence = self.benchmark.sequences[index]
            memo = OutputMemo(self.work.memo / sequence.name)
            self._replays[index] = Replay(self.tracker, sequence, memo, self.work.lattice)
        replay = self._replays[index]
        before = replay.looks
        own = self.tracker.settings
        results = replay.follow([dataclasses.replace(own, **values) for values in settings])
        return results, replay.looks - before

    def tracked(self, settings: Settings, on_lattice: bool = False) -> float:
        """Track the whole benchmark with other settings; return the headline score."""
        tracker = self.work.tracker(settings)
        if on_lattice:
            tracker = OnLattice(tracker, self.work.lattice)
        benchmark = self.benchmark
        protocol = protocol_of(benchmark)
        found = protocol.track(tracker, benchmark, lanes=self.work.lanes)
        results = {result.name: result for result in found}
        return protocol.score(benchmark, results).scalars[protocol.headline]


def _unheard(share: float) -> None:
    """Nobody wants to know."""


class Trials:
    """Tries settings with any number of processes; the scores do not depend on how many.

    Args:
        work: What is to be done.
        workers: Processes; 1 works in this one.
    """

    def __init__(self, work: Work, workers: int = 1) -> None:
        if workers < 1:
            raise ConfigError(f"workers={workers}: expected at least 1")
        self.work = work
        self.looks = 0
        """Windows that the network was shown for replays."""
        self.here = Tracking(work)
        """What this process does itself."""
        self._pool = None
        if workers > 1:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, spawn, _begin_worker, (work,))

    def __enter__(self) -> "Trials":
        """Return this."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes; what they have not begun is left."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def replayed(
        self, settings: Sequence[Settings], on_part: Callable[[float], object] = _unheard
    ) -> list[float]:
        """Return the headline score of each of several settings, from the network's answers.

        Args:
            settings: What differs from the settings that all trials share.
            on_part: Called with the share that is done.
        """
        benchmark = self.here.benchmark
        protocol = protocol_of(benchmark)
        # One task a sequence: a memo is written by one process at a time.
        tasks = (range(len(benchmark)), [settings] * len(benchmark))
        parts = (
            map(self.here.replayed, *tasks)
            if self._pool is None
            else self._pool.map(_replayed, *tasks)
        )
        done = []
        for part in parts:
            done.append(part)
            on_part(len(done) / len(benchmark))
        self.looks += sum(looks for _, looks in done)
        runs = [{r.name: r for r in trial} for trial in zip(*(r for r, _ in done), strict=True)]
        return [protocol.score(benchmark, run).scalars[protocol.headline] for run in runs]

    def tracked(
        self, settings: Sequence[Settings], on_part: Callable[[float], object] = _unheard
    ) -> list[float]:
        """Return the headline score of each of several settings, tracked anew; see above."""
        parts = (
            map(self.here.tracked, settings)
            if self._pool is None
            else self._pool.map(_tracked, settings)
        )
        done = []
        for part in parts:
            done.append(part)
            on_part(len(done) / len(settings))
        return done


def why_not_replayed(tracker: Any, benchmark: Benchmark) -> str | None:
    """Return why a tracker's network cannot be asked in advance; None if it can."""
    if not is_looking(tracker):
        return (
            f"{type(tracker).__name__} learns online or looks in its own way, so what its network "
            "answers depends on more than the window"
        )
    protocol = protocol_of(benchmark)
    if not isinstance(protocol, OnePass | AverageOverlapOnePass):
        return f"{benchmark.name} is evaluated with re-initialisation ({protocol.name})"
    return None


_worker: Tracking


def _begin_worker(work: Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends us
    torch.set_num_threads(1)
    global _worker
    _worker = Tracking(work)


def _replayed(index: int, settings: Sequence[Settings]) -> tuple[list[TrackResult], int]:
    return _worker.replayed(index, settings)


def _tracked(settings: Settings) -> float:
    return _worker.tracked(settings)
