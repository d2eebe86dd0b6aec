"""Stops a training whose loss is no number, and says which samples did it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from lightning_trackers.files import write_text


class NonFiniteLossError(RuntimeError):
    """The loss is NaN or infinite."""


class NaNGuard(pl.Callback):
    """Stops before a NaN or infinite loss reaches the weights.

    The check comes before the backward pass: weights and optimizer are as after the last good step,
    and the last checkpoint stays the last. What to look at is in ``nan_batch.json``.

    Args:
        output_dir: Folder of the run.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self._batch: Any = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch."""
        self._batch = batch

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Check the loss.

        Raises:
            NonFiniteLossError: If it is NaN or infinite.
        """
        value = float(loss.detach())
        if math.isfinite(value):
            return
        suffix = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        file = self.output_dir / f"nan_batch{suffix}.json"
        record = {
            "loss": str(value),
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "rank": trainer.global_rank,
            "source_id": source_ids(self._batch),
        }
        write_text(file, json.dumps(record, indent=2) + "\n")
        raise NonFiniteLossError(
            f"loss is {value} in epoch {trainer.current_epoch}, step {trainer.global_step}; the "
            f"samples of this batch are listed in {file}. The weights are those of the step "
            "before. Look at these samples, lower the learning rate, or leave half precision "
            "(trainer.precision=32-true); then resume from the last checkpoint"
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Let the batch go."""
        self._batch = None


def source_ids(batch: Any) -> list[str] | None:
    """Return where a batch's samples come from; None if it does not say."""
    ids = (
        batch.get("source_id") if isinstance(batch, Mapping) else getattr(batch, "source_id", None)
    )
    return None if ids is None else [str(i) for i in ids]
