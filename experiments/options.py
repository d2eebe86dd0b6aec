"""Options of the commands that need no configuration: ``key=value``, checked against a dataclass."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config import ConfigError, nearest

Options = TypeVar("Options")


def read_options(schema: type[Options], arguments: Sequence[str], usage: str) -> Options:
    """Return the options that a command line gives.

    Args:
        schema: A dataclass; what has no default is ``MISSING``.
        arguments: ``key=value`` each.
        usage: The whole command, shown where something is missing.

    Raises:
        ConfigError: If an argument is not of that form, its key unknown, its value of another type, or
            a value is missing.
    """
    options: Any = OmegaConf.structured(schema)
    known = [str(key) for key in options]  # `in options` leaves out what has no value yet
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"{argument}: expected key=value. Usage: {usage}")
        if key not in known:
            raise ConfigError(
                f"{key}: no such option; nearest: {nearest(key, known)!r}. Usage: {usage}"
            )
        try:
            options[key] = value  # a path is taken as it stands, whatever is in it
        except OmegaConfBaseException as error:
            raise ConfigError(f"{argument}: {str(error).partition(chr(10))[0]}") from error
    if missing := sorted(OmegaConf.missing_keys(options)):
        raise ConfigError(f"{' and '.join(missing)}: not given. Usage: {usage}")
    return cast(Options, OmegaConf.to_object(options))


@contextmanager
def command_errors(usage: str) -> Iterator[None]:
    """Run a command's body: ``--help`` shows the usage; what the user can mend ends in one line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if {"-h", "--help"} & set(sys.argv[1:]):
        raise SystemExit(f"usage: {usage}")
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error
