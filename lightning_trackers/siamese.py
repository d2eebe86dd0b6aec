"""What the Siamese trackers share: image batches, windows, an inference copy, a training module."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightning_trackers.batches import PairBatch
from lightning_trackers.crops import crop, exemplar_window, mean_colour
from lightning_trackers.evaluation.tracker import Tracker, checked_frame, checked_start_box
from lightning_trackers.ops.winograd import WinogradConv2d, is_plain
from lightning_trackers.training import Optimisation

# ImageNet's channel statistics. No network here pads its first convolution, so an affine input map
# can be folded into its weights exactly and any reference's own normalisation converts.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)

Module = TypeVar("Module", bound=nn.Module)


def normalise(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uint8 RGB images ``(B, 3, H, W)`` as floats of zero mean and unit deviation."""
    mean = torch.tensor(_MEAN, dtype=dtype, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(_STD, dtype=dtype, device=images.device).view(1, 3, 1, 1)
    return (images.to(dtype) - mean) / std


def to_images(crops: Sequence[np.ndarray], like: Tensor) -> Tensor:
    """Return crops ``(S, S, 3)`` as one normalised batch on the device and in the type of ``like``.

    Returns:
        Images, shape ``(B, 3, S, S)``, in channels-last memory: the crops' own layout.
    """
    stacked = torch.from_numpy(np.stack(crops)).to(like.device)  # (B, S, S, 3)
    return normalise(stacked.permute(0, 3, 1, 2), like.dtype)  # (B, 3, S, S)


def exemplar_images(
    frame: np.ndarray, box_xyxy: np.ndarray, size: int, context_amount: float, like: Tensor
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Look at a target for the first time.

    Args:
        frame: First frame, uint8 RGB ``(H, W, 3)``.
        box_xyxy: The target in it, ``(4,)``, px.
        size: Side of the exemplar crop, px.
        context_amount: Margin around the target, relative to width plus height.
        like: A tensor on the network's device and of its type.

    Returns:
        The checked box, float64 ``(4,)``; the colour outside the frame, ``(3,)``; and the exemplar
        crop as a batch of one, ``(1, 3, size, size)``.

    Raises:
        ValueError: If a tracker cannot start from this frame and box.
    """
    box = checked_start_box(box_xyxy, checked_frame(frame).shape[:2]).astype(np.float64)
    fill = mean_colour(frame)
    window = exemplar_window(box, size, context_amount)
    return box, fill, to_images([crop(frame, window, fill)], like)


def cosine_window(size: int, shifts: np.ndarray | None = None) -> Tensor:
    """Return the outer product of two Hann windows, peak 1 in the middle or moved from there.

    Like numpy's, its border is 0; so is what lies beyond the border of one that was moved.

    Args:
        size: Cells on a side.
        shifts: Moves (x, y), cells, shape ``(B, 2)``.

    Returns:
        Shape ``(size, size)``, or ``(B, size, size)`` if moved.
    """
    if shifts is None:
        hann = torch.hann_window(size, periodic=False)
        return torch.outer(hann, hann)
    from_middle = torch.arange(size) - (size - 1) / 2
    from_peak = from_middle - torch.from_numpy(shifts)[..., None]  # (B, 2, size)
    turns = (from_peak / (size - 1)).clamp(-0.5, 0.5)
    columns, rows = (0.5 + 0.5 * torch.cos(2 * torch.pi * turns)).float().unbind(1)
    return rows[:, :, None] * columns[:, None, :]


def for_inference(network: Module) -> Module:
    """Return a copy for tracking: evaluation mode, batch norms folded, channels-last weights.

    On the CPU wide convolutions are computed with fewer multiplications; the outputs are the same
    up to rounding. The original keeps its mode and its weights, so a tracker can be lent in the
    middle of training.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(network.modules()):
        _fold_batch_norms(parent)
        _save_multiplications(parent)
    # torch's stubs know the argument for tensors alone.
    prepared: Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return prepared


def _fold_batch_norms(parent: nn.Module) -> None:
    """Fold each norm into the convolution before it: by order in a Sequential, else ``bn1`` in ``conv1``."""
    names = list(parent._modules)
    pairs = (
        list(pairwise(names))
        if isinstance(parent, nn.Sequential)
        else [(name, name.replace("conv", "bn")) for name in names if name.startswith("conv")]
    )
    for first, second in pairs:
        conv, norm = parent._modules[first], parent._modules.get(second)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            parent._modules[first] = fuse_conv_bn_eval(conv, norm)
            parent._modules[second] = nn.Identity()


def _save_multiplications(parent: nn.Module) -> None:
    for name, child in parent._modules.items():
        if isinstance(child, nn.Conv2d) and _gains_by_winograd(child):
            parent._modules[name] = WinogradConv2d(child)


def _gains_by_winograd(conv: nn.Conv2d) -> bool:
    """Return whether it pays: 1.5 to 2.3 times as fast from 256 channels on, no gain below 200."""
    on_cpu = conv.weight.device.type == "cpu" and conv.weight.dtype == torch.float32
    return on_cpu and is_plain(conv) and conv.kernel_size[0] in (3, 5) and conv.out_channels > 200


class SiameseModule(pl.LightningModule, ABC):
    """Trains a Siamese network on pairs and lends its tracker; subclasses say what the loss is.

    Attributes:
        recipe: Plain description of network and tracker, set by whoever composed the run and kept in
            checkpoints so that ``methods.load_tracker`` can build them again.

    Args:
        network: Network with ``exemplar`` and ``track``.
        tracker: Makes a tracker from an inference copy of the network.
        optimisation: Optimizer, schedule and stages.
    """

    def __init__(
        self,
        network: nn.Module,
        tracker: Callable[..., Tracker[Any]],
        optimisation: Optimisation,
    ) -> None:
        super().__init__()
        self.network = network
        self.optimisation = optimisation
        self.recipe: Mapping[str, Any] | None = None
        self._make_tracker = tracker

    @abstractmethod
    def losses(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the parts of the loss by name; the key ``loss`` holds their weighted sum.

        Args:
            batch: Pairs on the module's device.
            generator: Source of every random draw, on the same device.
        """

    def tracker(self) -> Tracker[Any]:
        """Return a tracker that runs a copy of the network as it is now."""
        return self._make_tracker(for_inference(self.network))

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch and log its parts."""
        losses = self.losses(batch, self._generator(self.global_step))
        self._log_losses(losses, "train", len(batch.is_positive))
        return losses["loss"]

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Log the loss of a batch of pairs that are not trained on."""
        losses = self.losses(batch, self._generator(batch_idx))
        self._log_losses(losses, "val", len(batch.is_positive))

    def _generator(self, step: int) -> torch.Generator:
        """Return a generator that depends on the step alone, so that a resumed run draws the same."""
        return torch.Generator(self.device).manual_seed(step)

    def _log_losses(self, losses: Mapping[str, Tensor], stage: str, batch_size: int) -> None:
        self.log_dict(
            {f"{stage}/{name}": value.detach() for name, value in losses.items()},
            batch_size=batch_size,
            sync_dist=stage == "val",
        )

    def on_train_epoch_start(self) -> None:
        """Let the stages whose epoch has come learn, and keep the others still."""
        self.optimisation.begin_epoch(self.network, self.current_epoch)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return optimizer and schedule."""
        return self.optimisation.configure(self.network, self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the recipe beside the weights."""
        if self.recipe is not None:
            checkpoint["recipe"] = dict(self.recipe)
