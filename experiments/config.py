"""What a configuration must be before any work begins, and what it says of a run."""

import difflib
import errno
import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from callbacks.nan_guard import NonFiniteLossError
from datamodules.errors import DatasetError

CONF = Path(__file__).parent / "conf"

# ${first:a,b}: the first value that is not null.
OmegaConf.register_new_resolver(
    "first", lambda *values: next(v for v in values if v is not None), replace=True
)


def fast_precision() -> str:
    """Return Lightning's name of the fastest precision that trains as well as float32.

    bfloat16 where the processor or the GPU computes in it (about twice as fast), else float32.
    """
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Absent before torch 2.13.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return "bf16-mixed" if native else "32-true"


OmegaConf.register_new_resolver("fast_precision", fast_precision, replace=True)


def strategy(devices: int | str, nodes: int, stages: Sequence[object] | None) -> str:
    """Return Lightning's name of the way to train on several devices.

    Where a part of the network waits for its epoch, the exchange of gradients has to look which
    parameters take part in a step.
    """
    alone = devices == nodes == 1
    return "auto" if alone or not stages else "ddp_find_unused_parameters_true"


OmegaConf.register_new_resolver("strategy", strategy, replace=True)

# Keys that `experiments.run` takes out of a node before it builds it.
_TAKEN_OUT = {"pytorch_lightning.Trainer": ("dry_run",)}


class ConfigError(ValueError):
    """The configuration names something that does not exist."""


def check(cfg: DictConfig) -> None:
    """Refuse keys that nobody reads.

    Hydra adds a misspelt key of an exp file without a word. A key is known if the configuration has
    it without the exp, or if the constructor named by ``_target_`` takes it.

    Raises:
        ConfigError: If a key is unknown; the message names the nearest known one.
    """
    choices = HydraConfig.get().runtime.choices
    groups = [
        f"{group}=[{','.join(choice)}]" if isinstance(choice, list) else f"{group}={choice}"
        for group, choice in choices.items()
        # What a stage brings along is of the exp too; its keys are compared with constructors alone.
        if not group.startswith("hydra/") and group != "exp" and "@pipeline." not in group
    ]
    base = compose(HydraConfig.get().job.config_name, overrides=_base_overrides(groups))
    content = OmegaConf.to_container(cfg, resolve=False)
    known = OmegaConf.to_container(base, resolve=False)
    assert isinstance(content, dict)
    assert isinstance(known, dict)
    for key in content.keys() - known.keys():
        raise ConfigError(_unknown(str(key), "", map(str, known)))
    _check_targets(content, "")
    missing = OmegaConf.missing_keys(cfg)
    if missing:
        raise ConfigError(f"no value for {sorted(missing)}; give one on the command line")
    _check_paths(content, cfg, "")


def check_choices(arguments: Sequence[str]) -> None:
    """Refuse a choice that no file of the configuration makes, before Hydra does so less helpfully.

    Raises:
        ConfigError: If ``group=choice`` names a group that exists and a choice that does not; the
            message names the nearest one.
    """
    for argument in arguments:
        group, equals, value = argument.lstrip("+~").partition("=")
        folder = CONF / group.partition("@")[0]
        if not equals or not folder.is_dir():
            continue
        known = sorted(
            p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml")
        )
        for choice in filter(None, value.strip("[]").split(",")):
            if choice not in known and choice != "null":
                raise ConfigError(
                    f"{argument}: no such {group}; nearest: {nearest(choice, known)!r}; "
                    f"there are {', '.join(known)}"
                )


def made(node: DictConfig, **arguments: Any) -> Any:
    """Build what a node describes out of plain values: lists and dicts, no OmegaConf containers."""
    return instantiate(node, _convert_="all", **arguments)


def chosen_device(name: str) -> torch.device:
    """Return the device of the ``device`` key.

    Raises:
        ValueError: If it is a GPU and this torch sees none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name}: torch {torch.__version__} sees no GPU; use device=cpu")
    return device


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program in one line on what the user can mend; anything else keeps its trace."""
    try:
        yield
    except (
        ConfigError,
        DatasetError,
        NonFiniteLossError,
        FileNotFoundError,
        FileExistsError,
    ) as error:
        raise SystemExit(f"error: {error}") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise SystemExit(
            f"error: the disk is full ({error}); make room and go on with resume=auto or resume=..."
        ) from error
    except InstantiationException as error:
        # Hydra wraps what a constructor says of its arguments; its own words are the useful ones.
        if not isinstance(error.__cause__, ValueError | TypeError | OSError):
            raise
        raise SystemExit(f"error: {error.__cause__}") from error


def run_checked(main: Any) -> None:
    """Run a Hydra main function; end on an error of the user's in one line, without a trace."""
    # Hydra hands errors on instead of printing its own shortened trace.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        check_choices(sys.argv[1:])
        main()
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        hint = ""
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node:
            known = [str(key) for key in cause.parent_node]
            hint = f"\nnearest key: {nearest(str(cause.key), known)!r}" if known else ""
        sys.exit(f"error: {error}{hint}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that looks most like ``name``."""
    return difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)[0]


def _base_overrides(groups: Sequence[str]) -> list[str]:
    return [g for g in groups if not g.endswith("=null")]


def _check_targets(node: Any, path: str) -> None:
    """Compare the keys of every node that is built with its constructor's parameters."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            _check_targets(item, f"{path}[{i}]")
    if not isinstance(node, Mapping):
        return
    target = node.get("_target_")
    if isinstance(target, str):
        parameters = _parameters(target, path)
        if parameters is not None:
            known = [*parameters, *_TAKEN_OUT.get(target, ())]
            for key in node:
                if not str(key).startswith("_") and key not in known:
                    raise ConfigError(_unknown(str(key), path, known))
    for key, value in node.items():
        _check_targets(value, f"{path}.{key}" if path else str(key))


def _check_paths(node: Any, cfg: DictConfig, path: str) -> None:
    """Refuse a key that takes a machine path from ``paths`` where that one is not given."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if path or key != "paths":
                _check_paths(value, cfg, f"{path}.{key}" if path else str(key))
    elif isinstance(node, str) and (found := re.fullmatch(r"\$\{paths\.(\w+)\}", node)):
        name = found[1]
        if cfg.paths[name] is None:
            raise ConfigError(
                f"{path}: needs paths.{name}; give paths.{name}=/... on the command line, or set "
                f"TRACKERS_{name.upper()}"
            )


def _parameters(target: str, path: str) -> Mapping[str, inspect.Parameter] | None:
    """Return what a constructor takes; None where it takes anything."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path}._target_: cannot import {target}: {error}") from error
    parameters = inspect.signature(found).parameters
    if any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        return None
    return parameters


def _unknown(key: str, path: str, known: Iterable[str]) -> str:
    where = f" in {path}" if path else ""
    return f"unknown key {key!r}{where}; nearest: {nearest(key, map(str, known))!r}"
