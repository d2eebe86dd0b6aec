"""DSLT's place in the training commands: nothing is trained offline, so it only lends its tracker."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim import Optimizer

from lightning_trackers.backbones.imagenet import DOWNLOAD, load_imagenet
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.methods.dslt.network import DSLT
from lightning_trackers.methods.loading import SHIPPED, load_weights, read_checkpoint
from lightning_trackers.siamese import for_inference
from lightning_trackers.state_dicts import read_tensor_file

SHIPPED_BACKBONE = "shipped"
"""What ``initial_weights`` is called where the package's own weights give the features."""


class DSLTModule(pl.LightningModule):
    """Holds the frozen features and makes the tracker, which learns online alone.

    Lightning fits it with ``trainer.limit_train_batches=0``: no batch is drawn and no weight moves.

    Attributes:
        recipe: Plain description of network and tracker, set by whoever composed the run.

    Args:
        network: The network.
        tracker: Makes a tracker from an inference copy of the network.
    """

    def __init__(self, network: DSLT, tracker: Callable[..., Tracker[Any]]) -> None:
        super().__init__()
        self.network = network
        self.recipe: Mapping[str, Any] | None = None
        self._make_tracker = tracker

    def load_initial_weights(self, source: str) -> None:
        """Give the backbone the weights of a network that learnt from images or video.

        Args:
            source: ``shipped`` for the weights that come with the package; a checkpoint of any method
                with the same backbone; or a file of ImageNet weights, ``download`` to fetch it.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it does not hold this backbone's weights.
        """
        path = SHIPPED if source == SHIPPED_BACKBONE else Path(source)
        backbone = self.network.backbone
        if source == DOWNLOAD or "recipe" not in read_tensor_file(path, "initial weights"):
            load_imagenet(backbone, source)
            return
        prefix = "backbone."
        _, weights = read_checkpoint(path)
        own = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
        load_weights(backbone, own, f"backbone of {path}")

    def tracker(self) -> Tracker[Any]:
        """Return a tracker that runs a copy of the network."""
        with torch.inference_mode(False):  # what learns online begins as a part of the copy
            return self._make_tracker(for_inference(self.network))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Refuse to train; Lightning asks for this method even where it is never called.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            "dslt: nothing is trained offline; expected trainer.limit_train_batches=0"
        )

    def configure_optimizers(self) -> list[Optimizer]:
        """Return no optimizer."""
        return []
