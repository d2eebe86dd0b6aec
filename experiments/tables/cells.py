"""What a cell of a table is made of, said so that a finished run can be told to be the right one.

A run is known by its *configuration*, not by its folder or name: by what was trained (network, loss,
data, schedule, seed), by how it tracks, and by the benchmark. So rows of several tables that are one
experiment share its run, and a run that was begun with other options is never taken for it.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.config import CONF, ConfigError
from experiments.tables.definition import SCORES, Row, Table

TRAINER = (
    "max_epochs",
    "max_steps",
    "limit_train_batches",
    "gradient_clip_val",
    "accumulate_grad_batches",
)
"""Options of the trainer that change what is learnt; devices, precision and logging do not count."""
OUTPUT = "<output>"
"""Stands for the folder of a run in its description."""


@dataclass(frozen=True)
class Budget:
    """How much is spent, and on which recipe.

    Args:
        profile: ``laptop``, ``overnight`` or ``paper``.
        seeds: Seeds of the trainings.
        epochs: Replaces the recipe's.
        sequences: Sequences of the procedural benchmark.
        frames: Length of each.
        overrides: Further words for every training.
        paths: Words that give machine paths; they do not change what is made.
    """

    profile: str = "laptop"
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int | None = None
    sequences: int | None = None
    frames: int | None = None
    overrides: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ConfigError: If there is no such profile, no seed, or a number is not positive.
        """
        known = sorted(p.stem for p in (CONF / "profile").glob("*.yaml"))
        if self.profile not in known:
            raise ConfigError(f"profile={self.profile}: expected one of {known}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds={list(self.seeds)}: expected different numbers from 0 on")
        for key in ("epochs", "sequences", "frames"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"{key}={value}: expected a positive number")
        if self.on_paper_data and (self.sequences or self.frames):
            raise ConfigError(
                "sequences and frames shorten procedural benchmarks; with profile=paper the "
                "benchmarks are the papers', leave them out"
            )

    @property
    def on_paper_data(self) -> bool:
        """Whether the papers' data and benchmarks are used."""
        return self.profile == "paper"


@dataclass(frozen=True)
class Cell:
    """What makes the scores of a row with one seed.

    Args:
        row: Name of the row.
        seed: Seed of the training.
        exp: Experiment.
        words: Words of the command line that compose it, without seed and folder.
        profile: Profile.
        training: What is trained: module without its tracker, data, schedule.
        tracker: How it tracks.
        benchmarks: Nodes of the benchmarks by name.
        recipe: The tracker as a checkpoint describes it.
        trained_as: The experiment that trains its weights, and the words that compose it.
        files: Files that the run has to have written.
    """

    row: str
    seed: int
    exp: str
    words: tuple[str, ...]
    profile: str
    training: Mapping[str, Any]
    tracker: Mapping[str, Any]
    benchmarks: Mapping[str, Any]
    recipe: Mapping[str, Any]
    trained_as: tuple[str, tuple[str, ...]]
    files: tuple[str, ...] = ()

    @cached_property
    def training_name(self) -> str:
        """Name of the training, the same for all seeds."""
        return f"{self.trained_as[0].replace('/', '_')}_{digest(_without_seed(self.training))}"

    @cached_property
    def evaluation_name(self) -> str:
        """Name of the training with this way to track on these benchmarks."""
        parts = (_without_seed(self.training), self.tracker, self.benchmarks)
        return f"{self.exp.replace('/', '_')}_{digest(parts)}"


def columns(table: Table, budget: Budget) -> dict[str, list[str]]:
    """Return the choices of ``conf/benchmark`` by the paper's benchmark that stands beside them."""
    if budget.on_paper_data:
        return table.benchmarks
    return {table.stand_in.stands_for: [table.stand_in.benchmark]}


def scores_of(table: Table, budget: Budget) -> dict[str, str]:
    """Return our score by the paper's metric."""
    if budget.on_paper_data:
        return {m: SCORES[m] for m in table.metrics}
    return table.stand_in.metrics


def row_cells(table: Table, row: Row, budget: Budget) -> list[Cell]:
    """Return a cell for each seed; none for a row that nobody makes here.

    Raises:
        ConfigError: If the row's experiment does not compose, or what it says to share with another
            row is not the same.
    """
    if row.exp is None or row.unknown_exp:
        return []
    cells = _cells(table, row, budget)
    if row.weights_of is not None:
        source = table.rows[row.weights_of]
        if source.unknown_exp:
            return cells
        others = _cells(table, source, budget)
        for own, other in zip(cells, others, strict=True):
            if changed := differences(other.training, own.training):
                raise ConfigError(
                    f"table {table.name}, row {row.name}: weights_of={row.weights_of}, but its "
                    f"training is another one: {changed[0]}"
                )
        cells = [
            replace(own, trained_as=other.trained_as)
            for own, other in zip(cells, others, strict=True)
        ]
    return cells


def _cells(table: Table, row: Row, budget: Budget) -> list[Cell]:
    assert row.exp is not None
    choices = list(dict.fromkeys(c for chosen in columns(table, budget).values() for c in chosen))
    words = [f"+exp={row.exp}", f"profile={budget.profile}", f"benchmark=[{','.join(choices)}]"]
    words += row.overrides
    words += row.paper_overrides if budget.on_paper_data else ()
    if budget.epochs is not None:
        words.append(f"trainer.max_epochs={budget.epochs}")
    words += [*budget.overrides, *budget.paths]
    cfg = composed(words)
    words += _shorten(cfg, budget)
    cells = []
    for seed in budget.seeds:
        cfg.seed = seed
        config = resolved(cfg)
        described = description(config)
        recipe = config["module"]["tracker"]
        exp, line = row.exp, tuple(words)
        made = (recipe, (exp, line), row.files)
        cells.append(Cell(row.name, seed, exp, line, budget.profile, *described, *made))
    return cells


def benchmark_nodes(choice: str, budget: Budget) -> dict[str, Any]:
    """Return what a choice of ``conf/benchmark`` says is built, by the benchmark's name."""
    cfg = composed([f"benchmark=[{choice}]", *budget.paths])
    _shorten(cfg, budget)
    nodes = resolved(cfg)["benchmarks"]
    assert isinstance(nodes, dict)
    return nodes


def _shorten(cfg: DictConfig, budget: Budget) -> list[str]:
    """Give the benchmarks the budget's size; return the words that do so."""
    words = []
    for name in cfg.benchmarks:
        for key, value in (("count", budget.sequences), ("length", budget.frames)):
            if value is not None:
                words.append(f"benchmarks.{name}.{key}={value}")
                cfg.benchmarks[name][key] = value
    return words


def composed(words: Sequence[str], name: str = "run") -> DictConfig:
    """Return what a command line composes, whether or not Hydra has started."""
    try:
        with _hydra():
            cfg = compose(name, overrides=list(words), return_hydra_config=True)
    except Exception as error:  # Hydra's own errors have many types
        raise ConfigError(f"{' '.join(words)}: {error}") from error
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = OUTPUT
    return cfg


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return a composition as a run writes it into its ``config.yaml``."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        with open_dict(cfg):
            own = cfg.copy()
            del own["hydra"]
        content = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(own, resolve=True)))
    finally:
        HydraConfig.instance().cfg = before
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


@contextmanager
def _hydra() -> Iterator[None]:
    if GlobalHydra.instance().is_initialized():
        yield
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def description(
    config: Mapping[str, Any], output: str = OUTPUT
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return what a configuration trains, how that tracks, and the benchmarks.

    Folders differ between machines, so of a path only its last part counts.

    Args:
        config: A run's resolved configuration.
        output: The run's folder.
    """
    module = dict(config["module"])
    tracker = module.pop("tracker")
    trainer = {key: config["trainer"].get(key) for key in TRAINER}
    datamodule = dict(config["datamodule"])
    datamodule.pop("num_workers", None)
    training = {
        "seed": config["seed"],
        "initial_weights": config.get("initial_weights", "random"),
        "module": module,
        "datamodule": datamodule,
        "trainer": {key: value for key, value in trainer.items() if value is not None},
        "pipeline": config.get("pipeline") or {},
    }
    described: list[Any] = [
        _plain(part, output) for part in (training, tracker, config.get("benchmarks") or {})
    ]
    for node in described[2].values():
        node.pop("name", None)
    return described[0], described[1], described[2]


def _plain(value: Any, output: str) -> Any:
    """Return a description without folders, and with what constructors assume where nothing is said.

    So a run stays recognisable when a constructor gets a further argument whose default is what the
    run did.
    """
    if isinstance(value, Mapping):
        given = {str(key): _plain(v, output) for key, v in value.items()}
        return {**_defaults(given["_target_"]), **given} if "_target_" in given else given
    if isinstance(value, list | tuple):
        return [_plain(v, output) for v in value]
    if isinstance(value, str) and value == output:
        return OUTPUT
    if isinstance(value, str) and "/" in value:
        return Path(value).name
    return value


@cache
def _defaults(target: str) -> dict[str, Any]:
    """Return what a constructor assumes of the arguments that it is not given, as JSON has it."""
    module, _, name = target.rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters.values()
    assumed = {p.name: p.default for p in parameters if p.default is not p.empty}
    plain: dict[str, Any] = json.loads(json.dumps(assumed, default=str))
    return plain


def differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Return what differs between two descriptions, in words."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        words = []
        for key in dict.fromkeys([*wanted, *found]):
            where = f"{path}.{key}" if path else str(key)
            if key not in found:
                words.append(f"{where} is not there, expected {wanted[key]}")
            elif key not in wanted:
                words.append(f"{where} is {found[key]}, and no longer known")
            else:
                words += differences(found[key], wanted[key], where)
        return words
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [w for i, (f, e) in pairs for w in differences(f, e, f"{path}[{i}]")]
    return [] if found == wanted else [f"{path} is {found}, expected {wanted}"]


def digest(content: Any) -> str:
    """Return eight hexadecimal digits that name a description."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _without_seed(training: Any) -> Any:
    """Return what is trained without any seed, the validation data's included."""
    if isinstance(training, Mapping):
        return {k: _without_seed(v) for k, v in training.items() if k != "seed"}
    if isinstance(training, list):
        return [_without_seed(v) for v in training]
    return training
