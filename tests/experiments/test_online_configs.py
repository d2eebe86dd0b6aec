"""What distinguishes the variants of the online family, and their callbacks."""

import pytest
from omegaconf import OmegaConf

from callbacks.online_learning import OnlineLearning
from experiments.config import made
from tests.experiments.composing import checked


@pytest.mark.parametrize(
    "choices", [["+exp=spga/figures"], ["+exp=mdnet", "callbacks=online"]], ids=str
)
def test_the_figures_come_with_all_other_callbacks(choices):
    callbacks = made(checked(*choices).callbacks)
    assert isinstance(callbacks["online_learning"], OnlineLearning)
    assert set(checked("+exp=spga").callbacks) == set(callbacks) - {"online_learning"}


def test_the_figures_are_those_of_spga():
    figures, spga = (
        OmegaConf.to_container(checked(f"+exp={exp}").module, resolve=True)
        for exp in ("spga/figures", "spga")
    )
    assert figures == spga
