"""What distinguishes the variants of the online family, and their callbacks."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from callbacks.online_learning import OnlineLearning
from experiments.config import CONF, check, made


@pytest.fixture(scope="module", autouse=True)
def hydra():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides):
    cfg = compose("run", overrides=list(overrides), return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = "out"
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    check(cfg)
    return cfg


@pytest.mark.parametrize(
    "choices", [["+exp=spga/figures"], ["+exp=mdnet", "callbacks=online"]], ids=str
)
def test_the_figures_come_with_all_other_callbacks(choices):
    callbacks = made(composed(*choices).callbacks)
    assert isinstance(callbacks["online_learning"], OnlineLearning)
    assert set(composed("+exp=spga").callbacks) == set(callbacks) - {"online_learning"}


def test_the_figures_are_those_of_spga():
    figures, spga = (
        OmegaConf.to_container(composed(f"+exp={exp}").module, resolve=True)
        for exp in ("spga/figures", "spga")
    )
    assert figures == spga
