"""Measures what a training will need before it begins."""

import ctypes
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_trackers.training import Optimisation

STEPS = 2
"""Optimizer steps per stage; the second one finds the optimizer's own tensors already made."""


class DryRun(pl.Callback):
    """Takes a few training steps as they are at the beginning and at each epoch that begins a stage.

    Memory grows where a part of the network begins to learn, which may be hours after the start. The
    weights are trained on the way, so the module is of no use afterwards.

    Attributes:
        epoch: Epoch whose step is being taken.
        peaks: Largest memory of a step by epoch, bytes; see :func:`peak_memory`.
        learning: Number of parameters that learn by epoch.

    Args:
        epochs: Epochs whose steps are taken, see :func:`stage_epochs`.
    """

    def __init__(self, epochs: Sequence[int]) -> None:
        self.epochs = tuple(epochs)
        self.epoch = self.epochs[0]
        self.peaks: dict[int, int] = {}
        self.learning: dict[int, int] = {}

    def steps(self) -> int:
        """Return how many optimizer steps the trainer must be given."""
        return STEPS * len(self.epochs)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Make the network as it is at the epoch in question."""
        epoch = self.epochs[min(trainer.global_step // STEPS, len(self.epochs) - 1)]
        if epoch not in self.peaks:
            reset_peak_memory(pl_module.device)
            self.epoch, self.peaks[epoch] = epoch, 0
        optimisation = getattr(pl_module, "optimisation", None)
        if isinstance(optimisation, Optimisation):
            optimisation.begin_epoch(pl_module.network, self.epoch)  # type: ignore[arg-type]
        self.learning[self.epoch] = sum(
            p.numel() for p in pl_module.parameters() if p.requires_grad
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the largest memory since the epoch's first step."""
        self.peaks[self.epoch] = peak_memory(pl_module.device)


def stage_epochs(module: pl.LightningModule, max_epochs: int) -> list[int]:
    """Return 0 and the epochs in which parts of a module's network begin to learn."""
    optimisation = getattr(module, "optimisation", None)
    stages = optimisation.stages if isinstance(optimisation, Optimisation) else ()
    begins = {stage.start_epoch for stage in stages if stage.start_epoch is not None}
    return sorted({0} | {epoch for epoch in begins if epoch < max_epochs})


def peak_memory(device: torch.device) -> int:
    """Return the largest memory since the last reset, bytes.

    On a GPU that of the tensors, on the CPU all that the process holds in memory.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():
        [line] = [x for x in status.read_text().splitlines() if x.startswith("VmHWM:")]
        return 1024 * int(line.split()[1])
    # macOS counts in bytes; the value only rises, like the stages' memory.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def reset_peak_memory(device: torch.device) -> None:
    """Begin to look for the largest memory anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):  # glibc; what was freed does not count as held
            libc.malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # 5: the peak becomes the present value
        except OSError:
            return  # not allowed here; then the peak is that of all stages so far


def available_memory(device: torch.device) -> int | None:
    """Return what the device has in all, bytes; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    [line] = [x for x in info.read_text().splitlines() if x.startswith("MemTotal:")]
    return 1024 * int(line.split()[1])
