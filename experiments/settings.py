"""Tracker constants given on a command line: one by one, or as a file of ``experiments.search``."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from experiments.config import ConfigError


def given_settings(node: DictConfig | str) -> dict[str, Any]:
    """Return settings by name.

    Args:
        node: Names and values, or a YAML file that has them under ``settings``.

    Raises:
        ConfigError: If the file is missing or has no settings.
    """
    if not isinstance(node, str):
        values: Any = OmegaConf.to_container(node, resolve=True)
        return dict(values)
    path = Path(node)
    if not path.is_file():
        raise ConfigError(
            f"settings={path}: no such file; give a best.yaml of experiments.search, or "
            "+settings.<name>=<value>"
        )
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"settings={path}: not YAML: {error}") from error
    settings = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        raise ConfigError(f"settings={path}: expected the key 'settings' with names and values")
    return settings
