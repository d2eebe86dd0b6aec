"""Loggers that need a decision when they are made."""

import netrc
import os
from urllib.parse import urlparse

from pytorch_lightning.loggers import WandbLogger


def wandb_logger(
    project: str, name: str, group: str | None = None, save_dir: str = "."
) -> WandbLogger:
    """Return a W&B logger: offline unless the user has logged in or has set ``WANDB_MODE``.

    An offline run needs no account and no network; ``wandb sync`` sends it later.

    Args:
        project: W&B project.
        name: Name of the run.
        group: Runs that belong together, e.g. the seeds of one experiment.
        save_dir: Folder of the run; W&B makes ``wandb/`` in it.
    """
    mode = os.environ.get("WANDB_MODE")
    offline = mode == "offline" if mode else not logged_in()
    return WandbLogger(project=project, name=name, group=group, save_dir=save_dir, offline=offline)


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
