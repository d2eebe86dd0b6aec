from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import MISSING

from experiments.config import ConfigError
from experiments.options import command_errors, read_options


@dataclass
class Options:
    out: Path = MISSING
    count: int = 3


def read(*arguments):
    return read_options(Options, arguments, "python -m program out=folder")


def test_values_have_the_types_of_the_options():
    assert read("out=a=b, c [1].pt") == Options(Path("a=b, c [1].pt"), 3)
    assert read("out=1", "count=4") == Options(Path("1"), 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "out: not given. Usage: python -m program"),
        (("folder",), "folder: expected key=value"),
        (("oat=folder",), "oat: no such option; nearest: 'out'"),
        (("out=a", "count=many"), "count=many: Value 'many'"),
    ],
)
def test_a_mistake_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        read(*arguments)


def test_a_command_ends_in_one_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["program"])
    with pytest.raises(SystemExit, match="error: no such file"), command_errors("program a=b"):
        raise FileNotFoundError("no such file")
    monkeypatch.setattr("sys.argv", ["program", "--help"])
    with pytest.raises(SystemExit, match="usage: program a=b"), command_errors("program a=b"):
        raise AssertionError("the body must not run")
