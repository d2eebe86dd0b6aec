"""Training of the anchor-free tracker, with or without hard negative samples emphasis.

Source: Zhang and Zhang, Hard Negative Samples Emphasis Tracker without Anchors, MM 2020, Section 3.4,
Eq. 6-8.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_trackers.batches import PairBatch
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.heads import PointMaps
from lightning_trackers.losses import ContrastiveLoss, iou_loss
from lightning_trackers.methods.hnse.emphasis import HardNegativeSelection
from lightning_trackers.methods.hnse.network import HNSE, LevelFeatures
from lightning_trackers.methods.hnse.targets import grid_points, point_targets
from lightning_trackers.siamese import SiameseModule, normalise
from lightning_trackers.training import Optimisation


class HNSEModule(SiameseModule):
    """Score, centre-ness, box and, with emphasis, contrastive loss (Eq. 8).

    Args:
        network: The network.
        loss: Classification loss of the score, ``loss(logits, labels)``.
        tracker: Makes a tracker from an inference copy of the network.
        optimisation: Optimizer, schedule and stages.
        selection: Which boxes are compared with the exemplar; None for no emphasis, and then the
            network has no embedding.
        margin: Margin m of the contrastive loss.
        cls_weight: lambda_1.
        centerness_weight: lambda_2.
        box_weight: lambda_3.
        contrastive_weight: lambda_4.

    Raises:
        ValueError: If one of network and module is made for the emphasis and the other is not.
    """

    network: HNSE

    def __init__(
        self,
        network: HNSE,
        loss: nn.Module,
        tracker: Callable[..., Tracker[Any]],
        optimisation: Optimisation,
        selection: HardNegativeSelection | None = None,
        margin: float = 2.0,
        cls_weight: float = 1.0,
        centerness_weight: float = 1.0,
        box_weight: float = 1.0,
        contrastive_weight: float = 0.1,
    ) -> None:
        super().__init__(network, tracker, optimisation)
        if (selection is None) != (network.embedding is None):
            raise ValueError(
                "hnse: expected both selection and network.embedding, or neither of them, got "
                f"{selection} and {network.embedding}"
            )
        self.loss = loss
        self.selection = selection
        self.contrastive = ContrastiveLoss(margin)
        self.cls_weight = cls_weight
        self.centerness_weight = centerness_weight
        self.box_weight = box_weight
        self.contrastive_weight = contrastive_weight

    def losses(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss`` and its parts, and the mean number of hard negatives a pair."""
        exemplar = self.network.features(normalise(batch.exemplars))
        search = self.network.features(normalise(batch.searches))
        maps = self.network.compare(search, self.network.kernels(exemplar))
        size = batch.searches.shape[-1]
        boxes = self.network.boxes_xyxy(maps.log_ltrb, size)  # (B, H, W, 4)
        found = self._maps_losses(maps, boxes, batch)
        total = (
            self.cls_weight * found["loss_cls"]
            + self.centerness_weight * found["loss_centerness"]
            + self.box_weight * found["loss_box"]
        )
        if self.selection is not None:
            found |= self._emphasis(self.selection, maps, boxes, exemplar, search, batch, generator)
            total = total + self.contrastive_weight * found["loss_contrastive"]
        return {"loss": total, **found}

    def _maps_losses(self, maps: PointMaps, boxes: Tensor, batch: PairBatch) -> dict[str, Tensor]:
        cells = maps.cls_logits.shape[-1]
        points = grid_points(cells, self.network.stride, batch.searches.shape[-1])
        targets = point_targets(points.to(boxes.device), batch.search_boxes_xyxy, batch.is_positive)
        inside = targets.labels == 1  # (B, H, W)
        truth = batch.search_boxes_xyxy[:, None, None].expand_as(boxes)  # (B, H, W, 4)
        return {
            "loss_cls": self.loss(maps.cls_logits, targets.labels),
            # Over all places: the paper sets the target of negative ones to 0 (Eq. 4).
            "loss_centerness": functional.binary_cross_entropy_with_logits(
                maps.centerness_logits.float(), targets.centerness
            ),
            "loss_box": iou_loss(boxes[inside], truth[inside]),
        }

    def _emphasis(
        self,
        selection: HardNegativeSelection,
        maps: PointMaps,
        boxes: Tensor,
        exemplar: LevelFeatures,
        search: LevelFeatures,
        batch: PairBatch,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the contrastive loss between the exemplar's vector and those of the RoIs (Eq. 6)."""
        rois = selection(
            boxes.flatten(1, 2),
            maps.cls_logits.sigmoid().flatten(1),
            batch.search_boxes_xyxy,
            generator,
        )
        # Pairs whose targets differ teach the score alone: what is the exemplar's is not there.
        labels = rois.labels.masked_fill(~batch.is_positive[:, None], -1)  # (B, 2k + 1)
        vectors = self.network.vectors(search, rois.boxes_xyxy, batch.searches.shape[-1])
        wanted = self.network.vectors(
            exemplar, batch.exemplar_boxes_xyxy[:, None], batch.exemplars.shape[-1]
        )  # (B, 1, D)
        return {
            "loss_contrastive": self.contrastive(vectors, wanted, labels),
            "hard_negatives": (labels == 0).sum() / len(labels),
        }
