"""A spatial transformer that learns to warp targets so that a tracker is least sure of them.

The adversary that SINT++ is compared with (its Section 5.4): A-Fast-RCNN's.

Source: Wang, Shrivastava and Gupta, A-Fast-RCNN, CVPR 2017, Section 4.2 (adversarial spatial
transformer network); Jaderberg et al., Spatial Transformer Networks, NIPS 2015.
"""

import math
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_trackers.batches import TargetBatch
from lightning_trackers.methods.sintpp.hptn import Scorer
from lightning_trackers.siamese import normalise


class SpatialTransformer(nn.Module):
    """Warps a target: rotation, scale and translation, each within limits.

    At first it changes nothing. Deviation: A-Fast-RCNN warps blocks of features; here the picture is
    warped, because the Siamese tracker is trained on pictures.

    Args:
        rotation: Largest rotation, degrees (A-Fast-RCNN: 10).
        scale: Largest relative change of the size. Like the translation's, this limit is not
            published; a positive box of SINT (overlap above 0.7) stays one within both.
        translation: Largest displacement along each axis, share of the picture.
        width: Channels of the first convolution.
    """

    def __init__(
        self,
        rotation: float = 10.0,
        scale: float = 0.1,
        translation: float = 0.05,
        width: int = 16,
    ) -> None:
        super().__init__()
        limits = torch.tensor([math.radians(rotation), scale, 2 * translation, 2 * translation])
        self.register_buffer("limits", limits)
        self.localisation = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(32 * width, 32),
            nn.ReLU(inplace=True),
        )
        self.last = nn.Linear(32, 4)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def parameters_of(self, images: Tensor) -> Tensor:
        """Return angle (rad), relative change of size, and displacement, shape ``(N, 4)``.

        Displacements are in units of half the picture.
        """
        limits: Tensor = self.limits  # type: ignore[assignment]
        raw: Tensor = self.last(self.localisation(normalise(images)))
        return limits * torch.tanh(raw)

    def forward(self, images: Tensor) -> Tensor:
        """Return warped pictures, float in [0, 255], ``(N, 3, S, S)`` to the same shape."""
        angle, growth, dx, dy = self.parameters_of(images).unbind(dim=1)
        cos, sin = angle.cos() / (1 + growth), angle.sin() / (1 + growth)
        theta = torch.stack([cos, -sin, dx, sin, cos, dy], dim=1).view(-1, 2, 3)
        grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
        return nn.functional.grid_sample(
            images.float(), grid, padding_mode="border", align_corners=False
        )


class AdversaryModule(pl.LightningModule):
    """Trains the spatial transformer on the tracker's score, which it lowers.

    Args:
        network: The spatial transformer.
        scorer: The tracker; its score must be differentiable in the pictures.
        optimizer: Makes the optimizer from parameters.
    """

    def __init__(
        self,
        network: SpatialTransformer,
        scorer: Scorer,
        optimizer: Callable[..., Optimizer],
    ) -> None:
        super().__init__()
        self.network = network
        self.scorer = scorer
        self._make_optimizer = optimizer

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Return the tracker's mean score of the warped targets."""
        score = self.scorer.against(batch.exemplars)
        loss = score(self.network(batch.targets.float())).mean()
        self.log("train/score", loss.detach(), batch_size=len(batch.targets))
        return loss

    def configure_optimizers(self) -> Optimizer:
        """Return the optimizer."""
        return self._make_optimizer(self.network.parameters())
