"""Training of SiamFC.

Source: Bertinetto et al., Fully-Convolutional Siamese Networks, ECCVW 2016, Section 2.2; Lu et al.,
Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Eq. 10, 11, 14 for the losses.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_trackers.batches import PairBatch
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.methods.siamfc.network import SiamFC
from lightning_trackers.methods.siamfc.targets import response_labels
from lightning_trackers.siamese import SiameseModule, normalise
from lightning_trackers.training import Optimisation


class SiamFCModule(SiameseModule):
    """Classification of the cells of the response map.

    Args:
        network: The network.
        loss: Classification loss, ``loss(logits, labels)``.
        tracker: Makes a tracker from an inference copy of the network.
        optimisation: Optimizer, schedule and stages.
        label_radius: Distance from the target's centre up to which a cell is positive, crop px.
    """

    network: SiamFC

    def __init__(
        self,
        network: SiamFC,
        loss: nn.Module,
        tracker: Callable[..., Tracker[Any]],
        optimisation: Optimisation,
        label_radius: float = 16.0,
    ) -> None:
        super().__init__(network, tracker, optimisation)
        self.loss = loss
        self.label_radius = label_radius

    def losses(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss`` of a batch."""
        response = self.network(normalise(batch.exemplars), normalise(batch.searches))
        labels = response_labels(
            batch.search_boxes_xyxy,
            batch.is_positive,
            cells=response.shape[-1],
            stride=self.network.stride,
            search_size=batch.searches.shape[-1],
            radius=self.label_radius,
        )
        return {"loss": self.loss(response, labels)}
