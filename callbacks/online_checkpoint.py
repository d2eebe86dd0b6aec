"""A checkpoint of a tracker that is not trained, so that the other commands can take it up."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from torch import nn

from lightning_trackers.methods.loading import write_checkpoint

log = logging.getLogger(__name__)


class OnlineCheckpoint(pl.Callback):
    """Says that there is nothing to train, and writes ``last.ckpt``: recipe and frozen weights.

    Args:
        output_dir: Folder of the run's checkpoints.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.path = Path(output_dir) / "last.ckpt"

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint.

        Raises:
            ValueError: If some weight of the module is trained offline after all.
        """
        trained = [name for name, p in pl_module.named_parameters() if p.requires_grad]
        if trained:
            raise ValueError(f"online checkpoint: expected nothing to train, got {trained[:3]}")
        if not trainer.is_global_zero:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        network = cast("nn.Module", pl_module.network)
        recipe = cast("Mapping[str, Any]", pl_module.recipe)
        write_checkpoint(self.path, recipe, network.state_dict())
        log.info(
            "%s learns online alone: nothing was trained; features and recipe: %s",
            type(network).__name__,
            self.path,
        )
