"""Configurations as commands compose them."""

from contextlib import contextmanager

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from experiments.config import CONF, check


@contextmanager
def _composing(name, overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(name, overrides=list(overrides), return_hydra_config=True)
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = "out"
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        yield cfg


def composed(*overrides, name="run"):
    with _composing(name, overrides) as cfg:
        return cfg


def checked(*overrides, name="run"):
    """Compose a configuration, and refuse what the command would refuse."""
    with _composing(name, overrides) as cfg:
        check(cfg)
        return cfg


def flat(node, prefix=""):
    """Return the leaves of nested dictionaries by their dotted names."""
    if isinstance(node, dict):
        return {
            k: v for key, part in node.items() for k, v in flat(part, f"{prefix}{key}.").items()
        }
    return {prefix.rstrip("."): node}
