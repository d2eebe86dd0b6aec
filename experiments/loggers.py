"""Loggers that need a decision when they are made."""

import logging
import netrc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlparse

import wandb
from pytorch_lightning.loggers import WandbLogger

log = logging.getLogger(__name__)


def wandb_logger(
    project: str, name: str, group: str | None = None, save_dir: str = "."
) -> WandbLogger:
    """Return a W&B logger: offline unless the user has logged in or has set ``WANDB_MODE``.

    An offline run needs no account and no network; ``wandb sync`` sends it later. A server that does
    not answer within ``WANDB_INIT_TIMEOUT`` seconds (90 by default) makes the run an offline one; if it
    fails later, W&B keeps what it could not send.

    Args:
        project: W&B project.
        name: Name of the run.
        group: Runs that belong together, e.g. the seeds of one experiment.
        save_dir: Folder of the run; W&B makes ``wandb/`` in it.
    """
    mode = os.environ.get("WANDB_MODE")
    offline = mode == "offline" if mode else not logged_in()
    make = partial(WandbLogger, project=project, name=name, group=group, save_dir=save_dir)
    logger = make(offline=offline)
    if offline:
        return logger
    try:
        _ = logger.experiment  # begins the run: a server that is down should be noticed now
    except wandb.errors.CommError as error:
        log.warning("W&B: no connection (%s); the run goes on offline, see wandb sync", error)
        wandb.teardown()
        logger = make(offline=True)
    return logger


@contextmanager
def closed_wandb_run() -> Iterator[None]:
    """Close the W&B run of a block, so that the next job of a multirun begins one of its own."""
    try:
        yield
    except BaseException:
        wandb.finish(exit_code=1)
        raise
    wandb.finish()


def logged_in() -> bool:
    """Return whether W&B would find credentials: ``WANDB_API_KEY`` or a line in ``~/.netrc``.

    Asked here and not of wandb, whose own call for it may prompt and changes between releases.
    """
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
