"""Training of SiamRPN.

Source: Li et al., SiamRPN, CVPR 2018, Eq. 4-6; Lu et al., Deep Object Tracking with Shrinkage Loss,
TPAMI 2020, Eq. 16.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_trackers.batches import PairBatch
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.methods.siamrpn.network import SiamRPN
from lightning_trackers.methods.siamrpn.targets import AnchorLabelling
from lightning_trackers.siamese import SiameseModule, normalise
from lightning_trackers.training import Optimisation


class SiamRPNModule(SiameseModule):
    """Classification of the labelled anchors plus smooth-L1 regression of the positive ones.

    Args:
        network: The network.
        loss: Classification loss, ``loss(logits, labels)``.
        labelling: Which anchors are positive, negative or ignored.
        tracker: Makes a tracker from an inference copy of the network.
        optimisation: Optimizer, schedule and stages.
        box_weight: Weight of the box loss (eta of Eq. 16).
        smooth_l1_beta: Offset at which the box loss turns from square to linear.
    """

    network: SiamRPN

    def __init__(
        self,
        network: SiamRPN,
        loss: nn.Module,
        labelling: AnchorLabelling,
        tracker: Callable[..., Tracker[Any]],
        optimisation: Optimisation,
        box_weight: float = 1.2,
        smooth_l1_beta: float = 1.0,
    ) -> None:
        super().__init__(network, tracker, optimisation)
        self.loss = loss
        self.labelling = labelling
        self.box_weight = box_weight
        self.smooth_l1_beta = smooth_l1_beta

    def losses(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss``, ``loss_cls`` and ``loss_box`` of a batch."""
        proposals = self.network(normalise(batch.exemplars), normalise(batch.searches))
        logits = proposals.cls_logits  # (B, A, H, W)
        anchors = self.network.anchors_cxcywh(logits.shape[-1], batch.searches.shape[-1])
        targets = self.labelling(
            anchors.to(logits.device), batch.search_boxes_xyxy, batch.is_positive, generator
        )
        loss_cls = self.loss(logits, targets.labels)
        positive = targets.labels == 1  # (B, A, H, W)
        deltas = functional.smooth_l1_loss(
            proposals.box_deltas[positive].float(),
            targets.box_deltas[positive],
            beta=self.smooth_l1_beta,
            reduction="sum",
        )
        loss_box = deltas / torch.clamp(positive.sum(), min=1)
        return {
            "loss": loss_cls + self.box_weight * loss_box,
            "loss_cls": loss_cls,
            "loss_box": loss_box,
        }
