"""What a network begins from."""

import pytorch_lightning as pl

from experiments.config import ConfigError
from lightning_trackers.backbones.imagenet import load_imagenet


def initialise(module: pl.LightningModule, initial_weights: str) -> None:
    """Give the backbone its first weights, as the recipe says: ``random``, ``download`` or a file.

    A module with ``load_initial_weights`` begins from something else than ImageNet and reads it itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If the weights are not this backbone's.
    """
    if initial_weights != "random":
        try:
            if hasattr(module, "load_initial_weights"):
                module.load_initial_weights(initial_weights)  # type: ignore[operator]
            else:
                load_imagenet(module.network.backbone, initial_weights)  # type: ignore[union-attr, arg-type]
        except ValueError as error:
            raise ConfigError(f"initial_weights: {error}") from error
