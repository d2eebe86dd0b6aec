"""A checkout of pysot, to be measured beside this project."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def pysot_config(checkout: Path, config: Path, *modules: str) -> tuple[Any, list[ModuleType]]:
    """Return pysot's configuration, made from one of its files, and modules of it.

    Args:
        checkout: Folder of https://github.com/STVIR/pysot.
        config: The file, relative to it.
        modules: Names of the modules.

    Raises:
        FileNotFoundError: If the folder is not a checkout.
        RuntimeError: If a package that pysot needs is missing.
    """
    for path in (config, Path("pysot/core/config.py")):
        if not (checkout / path).is_file():
            raise FileNotFoundError(
                f"--pysot {checkout}: no {path}; expected a checkout of "
                "https://github.com/STVIR/pysot"
            )
    sys.path.insert(0, str(checkout))
    try:
        cfg = import_module("pysot.core.config").cfg
        found = [import_module(name) for name in modules]
    except ModuleNotFoundError as error:
        raise RuntimeError(f"pysot needs a package: pip install {error.name}") from error
    finally:
        sys.path.remove(str(checkout))
    cfg.merge_from_file(str(checkout / config))
    return cfg, found
