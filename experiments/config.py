"""What a configuration must be before any work begins, and what it says of a run."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parent / "conf"

# The first value that is not null, e.g. ${first:${hydra:runtime.choices.exp},${method}}.
OmegaConf.register_new_resolver(
    "first", lambda *values: next(v for v in values if v is not None), replace=True
)


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
        if not group.startswith("hydra/") and group != "exp"
    ]
    base = compose(HydraConfig.get().job.config_name, overrides=_base_overrides(groups))
    content = OmegaConf.to_container(cfg, resolve=False)
    known = OmegaConf.to_container(base, resolve=False)
    assert isinstance(content, dict)
    assert isinstance(known, dict)
    for key in content.keys() - known.keys():
        raise ConfigError(_unknown(str(key), "", known))
    _check_targets(content, "")
    missing = OmegaConf.missing_keys(cfg)
    if missing:
        raise ConfigError(f"no value for {sorted(missing)}; give one on the command line")


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
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        for choice in filter(None, value.strip("[]").split(",")):
            if choice not in known and choice != "null":
                raise ConfigError(
                    f"{argument}: no such {group}; nearest: {nearest(choice, known)!r}; "
                    f"there are {', '.join(known)}"
                )


def made(node: DictConfig, **arguments: Any) -> Any:
    """Build what a node describes out of plain values: lists and dicts, no OmegaConf containers."""
    return instantiate(node, _convert_="all", **arguments)


def run_checked(main: Any) -> None:
    """Run a Hydra main function; end on an error of the user's in one line, without a trace."""
    try:
        check_choices(sys.argv[1:])
        main()
    except ConfigError as error:
        sys.exit(f"error: {error}")


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
            for key in node:
                if not str(key).startswith("_") and key not in parameters:
                    raise ConfigError(_unknown(str(key), path, parameters))
    for key, value in node.items():
        _check_targets(value, f"{path}.{key}" if path else str(key))


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
