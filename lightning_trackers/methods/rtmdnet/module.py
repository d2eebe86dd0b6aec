"""Multi-domain training on scenes, with targets of different videos told from each other.

Source: Jung et al., Real-Time MDNet, ECCV 2018, Section 3.3 and 3.4; Lu et al., Deep Object Tracking
with Shrinkage Loss, TPAMI 2020, Eq. 17 and 18 (losses).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_trackers.batches import SceneBatch
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.losses import instance_embedding_loss
from lightning_trackers.methods.mdnet import MDNetModule
from lightning_trackers.methods.rtmdnet.network import RTMDNet
from lightning_trackers.training import Optimisation


class RTMDNetModule(MDNetModule):
    """Trains RT-MDNet as MDNet is trained, with one pass over each scene and the embedding loss.

    Args:
        network: The network.
        tracker: Makes a tracker from an inference copy of the network.
        optimisation: Optimizer, schedule and stages.
        loss: Classification loss, ``loss(logits, labels)``.
        embedding_weight: Weight of the instance embedding loss.
    """

    network: RTMDNet

    def __init__(
        self,
        network: RTMDNet,
        tracker: Callable[..., Tracker[Any]],
        optimisation: Optimisation,
        loss: nn.Module | None = None,
        embedding_weight: float = 0.1,
    ) -> None:
        super().__init__(network, tracker, optimisation, loss)
        self.embedding_weight = embedding_weight

    def samples(self, batch: SceneBatch) -> tuple[Tensor, Tensor]:
        """Return the features of a batch's samples, ``(N, d)``, and their labels, 1 and 0, ``(N,)``."""
        per_frame = batch.positives_xyxy.shape[1]
        boxes = torch.cat([batch.positives_xyxy, batch.negatives_xyxy], dim=1)  # (T, n, 4)
        found = [
            self.network.features(self.network.maps(scene[None]), own[None])[0]
            for scene, own in zip(batch.scenes, boxes, strict=True)
        ]
        features = torch.stack(found)  # (T, n, d)
        positives, negatives = features[:, :per_frame], features[:, per_frame:]
        labels = torch.zeros(boxes.shape[:2].numel(), device=features.device)
        labels[: positives.shape[:2].numel()] = 1
        return torch.cat([positives.flatten(0, 1), negatives.flatten(0, 1)]), labels

    def _losses_of(self, embedded: Tensor, labels: Tensor, domain: Tensor) -> dict[str, Tensor]:
        found = super()._losses_of(embedded, labels, domain)
        assert self.branches is not None
        scores = self.branches.target_scores(embedded[labels == 1])  # (P, K)
        embedding = instance_embedding_loss(scores, domain)
        return {
            **found,
            "loss": found["loss"] + self.embedding_weight * embedding,
            "loss_cls": found["loss"],
            "loss_embedding": embedding,
        }
