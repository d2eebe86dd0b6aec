"""SINT's training: boxes of one frame against the target of another, in both directions.

Source: Tao et al., Siamese Instance Search for Tracking, CVPR 2016, Section 3.1.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_trackers.backbones.imagenet import load_imagenet
from lightning_trackers.batches import PairBatch
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.losses import ContrastiveLoss
from lightning_trackers.methods.sint.network import SINTNetwork
from lightning_trackers.methods.sint.sampling import BoxSampling
from lightning_trackers.siamese import SiameseModule
from lightning_trackers.training import Optimisation


class SINTModule(SiameseModule):
    """Margin contrastive loss of boxes sampled around the target in both frames of a pair.

    The target of each frame is compared with all boxes of the other one. In a pair of different
    targets all boxes are negative. Frames are shown at one size: exemplar and search crop are equal.

    Args:
        network: The network.
        tracker: Makes a tracker from an inference copy of the network.
        optimisation: Optimizer, schedule and stages.
        sampling: How boxes are drawn.
        margin: Margin of the squared distance.
    """

    network: SINTNetwork

    def __init__(
        self,
        network: SINTNetwork,
        tracker: Callable[..., Tracker[Any]],
        optimisation: Optimisation,
        sampling: BoxSampling,
        margin: float = 1.0,
    ) -> None:
        super().__init__(network, tracker, optimisation)
        self.sampling = sampling
        self.loss = ContrastiveLoss(margin, squared=True)

    def load_initial_weights(self, path: str | Path) -> None:
        """Begin from ImageNet's weights.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If its weights do not fit.
        """
        load_imagenet(self.network.backbone, path)

    def losses(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss`` and the mean cosines of ``positive`` and ``negative`` pairs of boxes.

        Raises:
            ValueError: If the crops of a pair are not of one size.
        """
        if batch.exemplars.shape != batch.searches.shape:
            raise ValueError(
                "sint: expected exemplar and search crops of one size, got "
                f"{tuple(batch.exemplars.shape[2:])} and {tuple(batch.searches.shape[2:])}; set "
                "geometry.exemplar_size to geometry.search_size"
            )
        targets = torch.cat([batch.exemplar_boxes_xyxy, batch.search_boxes_xyxy])  # (2B, 4)
        boxes, labels = self.sampling(targets, batch.searches.shape[-1], generator)
        images = torch.cat([batch.exemplars, batch.searches])
        vectors = self.network.embed(images, boxes)  # (2B, N, D)
        first, second = vectors.chunk(2)
        others = torch.cat([second, first])  # the boxes of the other frame
        labels = torch.cat(labels.chunk(2)[::-1])  # theirs, (2B, N)
        strangers = ~batch.is_positive.repeat(2)[:, None] & (labels == 1)
        labels = labels.masked_fill(strangers, 0)
        queries = vectors[:, :1]  # the target of this frame, (2B, 1, D)
        cosines = (others * queries).sum(-1).detach()
        return {
            "loss": self.loss(queries, others, labels),
            "positive": _mean(cosines, labels == 1),
            "negative": _mean(cosines, labels == 0),
        }


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    return (values * counted).sum() / counted.sum().clamp(min=1)
