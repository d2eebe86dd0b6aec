"""Finished runs on disk: which are there, and which one a cell of a table may take."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from experiments.config import ConfigError
from experiments.tables.cells import Cell, description, differences

log = logging.getLogger(__name__)

ORIGIN = "origin.yaml"
"""Beside weights that were given another tracker: which run trained them."""
CHECKPOINT = Path("checkpoints") / "last.ckpt"


@dataclass(frozen=True)
class Run:
    """A folder that a training or an evaluation left.

    Args:
        folder: Where it is.
        exp: Experiment.
        profile: Profile.
        commit: Commit of the code that evaluated it.
        training: See :class:`~experiments.tables.cells.Cell`.
        tracker: How it tracked.
        benchmarks: Nodes of its benchmarks by name.
        finished: Whether it was evaluated.
        precision: Lightning's name of the precision that it was trained with.
        trained_in: Folder of the training; its own, if it is one.
        device: What evaluated it.
    """

    folder: Path
    exp: str
    profile: str
    commit: str
    training: Mapping[str, Any]
    tracker: Mapping[str, Any]
    benchmarks: Mapping[str, Any]
    finished: bool
    precision: str
    trained_in: Path
    device: str

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return int(self.training["seed"])

    @property
    def short(self) -> str:
        """The end of its path, as others have other folders before it."""
        return "/".join(self.folder.parts[-2:])

    @property
    def is_training(self) -> bool:
        """Whether it trained, and did not only evaluate."""
        return self.folder == self.trained_in

    def has(self, files: Iterable[str]) -> bool:
        """Return whether it wrote all of these files."""
        return all((self.folder / file).is_file() for file in files)

    def results(self, benchmark: str) -> Path:
        """Return the folder of the tracker's result files on a benchmark."""
        from callbacks.benchmark_logging import slug

        return self.folder / "results" / benchmark / slug(self.exp)


@dataclass
class Runs:
    """The runs in some folders.

    Args:
        found: The runs.
        unreadable: Why a folder that looks like a run's is left out, by folder.
    """

    found: list[Run] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def below(cls, folders: Iterable[Path]) -> "Runs":
        """Read every run at any depth of some folders.

        Raises:
            ConfigError: If a folder is not there.
        """
        runs = cls()
        read: set[Path] = set()
        for folder in folders:
            if not folder.is_dir():
                raise ConfigError(f"runs: {folder}: no such folder")
            for file in sorted(folder.rglob("config.yaml")):
                place = file.parent.resolve()
                if place in read or "stages" in place.parts or "wandb" in place.parts:
                    continue
                read.add(place)
                try:
                    if run := _read_once(place, _stamp(place)):
                        runs.found.append(run)
                except (
                    KeyError,
                    TypeError,
                    ValueError,
                    OSError,
                    AttributeError,
                    ImportError,
                ) as error:
                    reason = f"{type(error).__name__}: {error}"
                    runs.unreadable[place] = reason
                    log.warning("%s: not a run of this version (%s)", place, reason)
        return runs

    def trained(self, cell: Cell) -> Run | None:
        """Return the finished training whose weights a cell needs, the newest; None if none is there."""
        fitting = [
            run
            for run in self.found
            if run.is_training
            and run.finished
            and run.profile == cell.profile
            and run.training == cell.training
            and run.has(cell.files)
        ]
        return max(fitting, key=_age, default=None)

    def evaluated(self, cell: Cell, benchmark: str) -> tuple[Run, str] | None:
        """Return the run that tracked a benchmark as a cell wants it, and the benchmark's name there."""
        wanted = cell.benchmarks[benchmark]
        fitting = [
            (run, name)
            for run in self.found
            if run.finished
            and run.profile == cell.profile
            and run.training == cell.training
            and run.tracker == cell.tracker
            and run.has(cell.files)
            for name, node in run.benchmarks.items()
            if node == wanted
        ]
        return max(fitting, key=lambda found: _age(found[0]), default=None)

    def why_missing(self, cell: Cell, benchmark: str) -> str:
        """Say why a cell has no scores."""
        failure = self._failure(cell)
        if failure:
            return failure
        if trained := self.trained(cell):
            return f"trained ({trained.short}), but not evaluated{self._nearly(cell, benchmark)}"
        begun = [
            run
            for run in self.found
            if run.is_training and run.training == cell.training and run.profile == cell.profile
        ]
        if begun:
            what = f"without {', '.join(cell.files)}" if begun[0].finished else "not finished"
            return f"{what}: {begun[0].short}"
        near = [
            (differences(run.training, cell.training), run)
            for run in self.found
            if run.is_training
            and run.exp == cell.exp
            and run.seed == cell.seed
            and run.profile == cell.profile
        ]
        if near:
            changed, run = min(near, key=lambda pair: len(pair[0]))
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            return f"only a run of another configuration: {changed[0]}{more} ({run.short})"
        return f"not run: {cell.exp}, seed {cell.seed}, profile {cell.profile}"

    def _nearly(self, cell: Cell, benchmark: str) -> str:
        """Say what is wrong with the evaluations of a cell's weights."""
        wanted = cell.benchmarks[benchmark]
        changes = [
            differences(node, wanted)
            for run in self.found
            if run.finished
            and run.training == cell.training
            and run.tracker == cell.tracker
            and run.profile == cell.profile
            for node in run.benchmarks.values()
        ]
        if not changes:
            return f" on {benchmark} as this row tracks"
        return f" on this {benchmark}: {min(changes, key=len)[0]}"

    def _failure(self, cell: Cell) -> str:
        for run in self.found:
            file = run.folder / "failed.txt"
            own = run.is_training or run.tracker == cell.tracker
            same = run.training == cell.training and run.profile == cell.profile
            if same and own and not run.finished and file.is_file():
                return f"failed: {file.read_text(encoding='utf-8').strip()}"
        return ""


@cache
def _read_once(folder: Path, stamp: tuple[float, ...]) -> Run | None:
    """Return the run in a folder; read again only where a file of it changed."""
    return read_run(folder)


def _stamp(folder: Path) -> tuple[float, ...]:
    files = (folder / name for name in ("config.yaml", "scores.csv", ORIGIN))
    return tuple(file.stat().st_mtime if file.is_file() else 0.0 for file in files)


def read_run(folder: Path) -> Run | None:
    """Return the run in a folder; None where it is a folder of something else.

    Raises:
        KeyError: If its configuration lacks what this version writes.
        ValueError: If it cannot be read.
    """
    config = _read(folder / "config.yaml")
    if "checkpoint" not in config:
        if not {"module", "datamodule", "trainer", "seed"} <= config.keys():
            return None  # a comparison, a preparation, a stage
        return _run(folder, config, folder, config)
    if config["checkpoint"] is None:
        return None  # the shipped weights; nobody trained them here
    checkpoint = Path(config["checkpoint"])
    origin = checkpoint.parent / ORIGIN
    if origin.is_file():
        kept = _read(origin)
        trained_in = Path(kept["run"])
        tracker = kept["tracker"]
    else:
        trained_in, tracker = checkpoint.parent.parent, None
    if not (trained_in / "config.yaml").is_file():
        return None
    return _run(folder, config, trained_in.resolve(), _read(trained_in / "config.yaml"), tracker)


def _run(
    folder: Path,
    config: Mapping[str, Any],
    trained_in: Path,
    trained: Mapping[str, Any],
    tracker: Mapping[str, Any] | None = None,
) -> Run:
    used = dict(tracker or trained["module"]["tracker"])
    used["settings"] = {**used["settings"], **_settings(config.get("settings"))}
    module = {**trained["module"], "tracker": used}
    described = description(
        {**trained, "module": module, "benchmarks": config["benchmarks"]}, str(trained_in)
    )
    return Run(
        folder,
        config["exp_name"],
        trained["profile_name"],
        _noted(folder / "git.txt"),
        *described,
        (folder / "scores.csv").is_file(),
        str(trained["trainer"].get("precision", "not known")),
        trained_in,
        _noted(folder / "device.txt"),
    )


def _noted(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip() if file.is_file() else "not known"


def _settings(given: Any) -> dict[str, Any]:
    """Return the settings that an evaluation was given, by name or as the file of a search."""
    if isinstance(given, str):
        given = _read(Path(given)).get("settings")
    return dict(given or {})


def _read(file: Path) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not readable ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected keys and values")
    return {str(key): value for key, value in content.items()}


def _age(run: Run) -> float:
    return (run.folder / "scores.csv").stat().st_mtime
