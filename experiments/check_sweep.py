"""Refuse a W&B sweep that would fail, before it is started.

python -m experiments.check_sweep experiments/sweeps/siamrpn_sl.yaml
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from experiments.config import ConfigError, nearest
from experiments.options import command_errors
from experiments.tables.cells import composed, resolved

USAGE = "python -m experiments.check_sweep experiments/sweeps/siamrpn_sl.yaml ..."
MACROS = ("${env}", "${interpreter}", "${args_no_hyphens}")


def check_sweep(file: Path) -> list[str]:
    """Check that a sweep's command and every parameter are ones that ``experiments.run`` accepts.

    Returns:
        The words of Hydra's command line that the first run may get.

    Raises:
        ConfigError: If the file is not a sweep of this project, or a parameter is unknown; the message
            names the nearest one.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    try:
        sweep = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {error}") from error
    missing = {"method", "metric", "parameters", "command"} - set(sweep or ())
    if missing:
        raise ConfigError(f"{file}: no {sorted(missing)}")
    command = [str(word) for word in sweep["command"]]
    if "experiments.run" not in command or command[-1] != "${args_no_hyphens}":
        raise ConfigError(
            f"{file}, command: expected '-m experiments.run ... ${{args_no_hyphens}}', a line each"
        )
    fixed = [w for w in command if "=" in w and w not in MACROS]
    cfg = composed(fixed)
    content = resolved(cfg)
    words = []
    for key, node in sweep["parameters"].items():
        if OmegaConf.select(cfg, key, throw_on_missing=False) is None and key not in flat(content):
            raise ConfigError(
                f"{file}: unknown parameter {key!r}; nearest: {nearest(key, flat(content))!r}"
            )
        words.append(f"{key}={_first(file, key, node)}")
    composed([*fixed, *words])
    return [*fixed, *words]


def flat(node: Any, path: str = "") -> list[str]:
    """Return the dotted names of all values."""
    if not isinstance(node, Mapping):
        return [path]
    return [name for k, v in node.items() for name in flat(v, f"{path}.{k}" if path else str(k))]


def _first(file: Path, key: str, node: Mapping[str, Any]) -> Any:
    """Return a value that a parameter may take."""
    if "value" in node:
        return node["value"]
    if node.get("values"):
        return node["values"][0]
    if {"min", "max"} <= node.keys():
        return node["min"]
    raise ConfigError(f"{file}, {key}: expected value, values, or min and max")


def main() -> None:
    """Check the sweeps named on the command line."""
    with command_errors(USAGE):
        if len(sys.argv) < 2:
            raise ConfigError(f"no sweep named. Usage: {USAGE}")
        for name in sys.argv[1:]:
            words = check_sweep(Path(name))
            sys.stdout.write(f"{name}: {len(words)} words, e.g. {' '.join(words)}\n")


if __name__ == "__main__":
    main()
