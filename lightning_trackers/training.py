"""Learning-rate schedules and staged learning, both exact under a resume.

Every parameter that ever learns is in the optimizer from step 0, so the optimizer's state has the
same shape before and after a stage begins. Until then its parameters get no gradient, which the
optimizer passes over, and the logged learning rate is 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


@dataclass(frozen=True)
class Stage:
    """A part of a network that learns from some epoch on.

    Args:
        prefix: Beginning of the parameters' names, e.g. ``backbone.layers.8``.
        start_epoch: First epoch in which it learns; None keeps it still for ever.
        lr_multiplier: Its learning rate relative to the rest.
    """

    prefix: str
    start_epoch: int | None
    lr_multiplier: float = 1.0


class WarmedUpSchedule(LambdaLR, ABC):
    """Warm-up, straight on a logarithmic axis, and a decay that a subclass gives.

    A group whose ``start_epoch`` has not come has learning rate 0.

    Args:
        optimizer: Its groups' learning rates are the peak.
        total_steps: Optimizer steps of the whole training.
        steps_per_epoch: Optimizer steps of an epoch.
        end_factor: Last learning rate relative to the peak.
        warmup_factor: First learning rate relative to the peak.
        warmup_epochs: Epochs of the warm-up.
        stairs: Change once an epoch, as the published recipes do, instead of every step.
        warmup_rises: Rise during the warm-up; otherwise keep its first rate until it ends.

    Raises:
        ValueError: If a factor is not positive.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        steps_per_epoch: int,
        end_factor: float = 1.0,
        warmup_factor: float = 1.0,
        warmup_epochs: float = 0.0,
        stairs: bool = True,
        warmup_rises: bool = True,
    ) -> None:
        if end_factor <= 0 or warmup_factor <= 0:
            raise ValueError(
                f"schedule: expected positive factors, got end_factor={end_factor} "
                f"warmup_factor={warmup_factor}"
            )
        unit = steps_per_epoch if stairs else 1
        warmup = round(warmup_epochs * steps_per_epoch / unit)
        last = max(warmup + 1, total_steps // unit - 1)

        def factor(step: int) -> float:
            position = step // unit
            if position < warmup:
                return float(warmup_factor ** (1 - warmup_rises * position / warmup))
            return self.decay(min(1.0, (position - warmup) / (last - warmup)), end_factor)

        def from_epoch(start: int) -> Callable[[int], float]:
            return lambda step: factor(step) if step >= start * steps_per_epoch else 0.0

        groups = optimizer.param_groups
        super().__init__(optimizer, [from_epoch(g.get("start_epoch", 0)) for g in groups])

    @staticmethod
    @abstractmethod
    def decay(progress: float, end_factor: float) -> float:
        """Return the learning rate relative to the peak; ``progress`` goes from 0 to 1."""


class GeometricSchedule(WarmedUpSchedule):
    """Decay that is straight on a logarithmic axis.

    Source: pysot ``lr_spaces`` "log" (SiamRPN, SiamRPN++) and SiamFC's exponential decay.
    """

    @staticmethod
    def decay(progress: float, end_factor: float) -> float:
        """Return ``end_factor`` to the power of ``progress``."""
        return float(end_factor**progress)


class CosineSchedule(WarmedUpSchedule):
    """Decay along half a cosine: the rate stays high for longer, which short trainings need.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017, Eq. 5, without restarts.
    """

    @staticmethod
    def decay(progress: float, end_factor: float) -> float:
        """Return half a cosine from 1 to ``end_factor``."""
        return end_factor + (1 - end_factor) * (1 + cos(pi * progress)) / 2


@dataclass(frozen=True)
class Optimisation:
    """How a network is trained.

    The optimizer's learning rate belongs to a total batch of ``reference_batch`` samples and is scaled
    linearly with the batch that is really used (batch × devices × accumulation): Lightning averages
    gradients over devices, where the published Siamese recipes sum them.

    Args:
        optimizer: Makes the optimizer from parameter groups.
        scheduler: Makes the schedule from the optimizer, ``total_steps`` and ``steps_per_epoch``.
        reference_batch: Samples a step for which the learning rate is meant.
        stages: Parts of the network that begin to learn later or at another rate.
    """

    optimizer: Callable[..., Optimizer]
    scheduler: Callable[..., LRScheduler]
    reference_batch: int
    stages: Sequence[Stage] = ()

    def configure(self, network: nn.Module, trainer: pl.Trainer) -> OptimizerLRSchedulerConfig:
        """Return optimizer and per-step schedule in Lightning's form."""
        optimizer = self.optimizer(parameter_groups(network, self.stages))
        factor = total_batch(trainer) / self.reference_batch
        for group in optimizer.param_groups:
            group["lr"] *= factor * group["lr_multiplier"]
        total_steps = int(trainer.estimated_stepping_batches)
        steps_per_epoch = max(1, total_steps // max(1, trainer.max_epochs or 1))
        scheduler = self.scheduler(
            optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def begin_epoch(self, network: nn.Module, epoch: int) -> None:
        """Make the network ready for an epoch.

        A stage that has not begun keeps weights and statistics: its parameters get no gradient, so the
        optimizer passes over them, and its batch norms use their running statistics.
        """
        for stage in self.stages:
            learns = stage.start_epoch is not None and epoch >= stage.start_epoch
            for name, parameter in network.named_parameters():
                if name.startswith(stage.prefix):
                    parameter.requires_grad_(learns)
            for name, module in network.named_modules():
                # A prefix may end in a dot, which a parameter's name has behind its module's.
                if f"{name}.".startswith(stage.prefix) and isinstance(module, nn.BatchNorm2d):
                    module.train(learns and network.training)


def parameter_groups(network: nn.Module, stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Return one optimizer group for each stage that ever learns and one for the rest.

    Groups carry ``lr_multiplier`` and ``start_epoch``; parameters that never learn, by a stage or because
    the network has frozen them itself, are in none.

    Raises:
        ValueError: If a stage's prefix matches no parameter, or two prefixes match the same one.
    """
    owners: dict[str, Stage] = {}
    for stage in stages:
        names = [n for n, _ in network.named_parameters() if n.startswith(stage.prefix)]
        if not names:
            known = sorted({n.rsplit(".", 1)[0] for n, _ in network.named_parameters()})
            raise ValueError(f"stage {stage.prefix!r} matches no parameter; known: {known}")
        for name in names:
            if name in owners:
                raise ValueError(f"parameter {name} belongs to two stages")
            owners[name] = stage
    groups: list[dict[str, Any]] = []
    rest = [p for n, p in network.named_parameters() if n not in owners and p.requires_grad]
    if rest:
        groups.append({"params": rest, "lr_multiplier": 1.0, "start_epoch": 0})
    for stage in stages:
        if stage.start_epoch is not None:
            members = [p for n, p in network.named_parameters() if owners.get(n) is stage]
            groups.append(
                {
                    "params": members,
                    "lr_multiplier": stage.lr_multiplier,
                    "start_epoch": stage.start_epoch,
                }
            )
    return groups


def total_batch(trainer: pl.Trainer) -> int:
    """Return how many samples one optimizer step sees over all devices."""
    batch_size = trainer.datamodule.batch_size  # type: ignore[attr-defined]
    return int(batch_size * trainer.world_size * trainer.accumulate_grad_batches)
