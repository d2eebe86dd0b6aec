"""Training of GradNet: template generalization, on top of the frozen embedding of a SiamFC.

Source: Li et al., GradNet, ICCV 2019, Section 3.3, Eq. 8-10 and Algorithm 1.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_trackers.batches import PairBatch
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.methods.gradnet.network import GradNet
from lightning_trackers.methods.loading import load_weights, read_checkpoint
from lightning_trackers.methods.siamfc import SiamFC, response_labels
from lightning_trackers.siamese import SiameseModule, for_inference, normalise
from lightning_trackers.training import Optimisation


class GradNetModule(SiameseModule):
    """Learns to correct templates.

    A batch is cut into groups of ``videos`` pairs. The exemplar of a group's first pair makes one
    template for the search regions of all its pairs, both in L, whose gradient corrects the template,
    and in L*, which is minimised. With one pair a group this is training without template
    generalization (Eq. 9 on pairs).

    Deviation: L* is the mean over regions, not the sum, so that the step does not depend on the batch.
    Deviation: Algorithm 1 calls the labels Gaussian maps; the logistic loss of Eq. 5 takes SiamFC's
        binary ones.

    Args:
        network: The network.
        tracker: Makes a tracker from an inference copy of the network.
        optimisation: Optimizer, schedule and stages.
        videos: k, the search regions that share a template.
        label_radius: Distance from the target's centre up to which a cell is positive, crop px.

    Raises:
        ValueError: If ``videos`` is out of range.
    """

    network: GradNet

    def __init__(
        self,
        network: GradNet,
        tracker: Callable[..., Tracker[Any]],
        optimisation: Optimisation,
        videos: int = 4,
        label_radius: float = 16.0,
    ) -> None:
        super().__init__(network, tracker, optimisation)
        if videos < 1:
            raise ValueError(f"gradnet: expected videos >= 1, got videos={videos}")
        self.videos = videos
        self.label_radius = label_radius

    def load_initial_weights(self, path: str | Path) -> None:
        """Give the embedding the weights of a trained SiamFC; U1 begins from them.

        Args:
            path: A training's checkpoint, a file of ``save_weights`` or one that was converted.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a SiamFC of the same embedding.
        """
        recipe, weights = read_checkpoint(Path(path))
        trained = str(recipe["network"]["_target_"])
        if trained.rpartition(".")[2] != SiamFC.__name__:
            raise ValueError(f"{path}: expected the weights of a SiamFC, got those of {trained}")
        prefix = "backbone."
        embedding = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
        load_weights(self.network.backbone, embedding, f"SiamFC weights {path}")
        self.network.begin()

    def losses(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return L* as ``loss`` with its companions.

        ``initial_loss`` is L per region, ``map_error`` the mean distance between sigmoid(S*) and Y,
        ``gradient_share`` the norm of U2's output relative to the features it corrects.

        Raises:
            ValueError: If a batch cannot be cut into groups.
        """
        batch = self._whole_groups(batch)
        network = self.network
        with torch.no_grad():
            searches = network.search(normalise(batch.searches))  # (G * k, C, Hx, Wx)
        features = network.exemplar(normalise(batch.exemplars[:: self.videos]))  # (G, ...), Z_1
        labels = self._labels(batch, network.map_cells(features, searches))
        if network.u2 is None:
            scores = network.score_map(searches, network.u1(features))
            return self._measured(scores, labels)
        adapted = network.adapt(features, searches, labels, second_order=self.training)
        scores = network.score_map(searches, adapted.template)  # S*
        initial = adapted.initial_loss.mean()
        if network.region_reduction == "sum":
            initial = initial / self.videos
        share = (adapted.correction.norm() / features.norm().clamp_min(1e-12)).detach()
        return self._measured(scores, labels) | {"initial_loss": initial, "gradient_share": share}

    def tracker(self) -> Tracker[Any]:
        """Return a tracker that runs a copy of the network as it is now."""
        # Online updates need gradients: the copy must not consist of inference tensors.
        with torch.inference_mode(False):
            return self._make_tracker(for_inference(copy.deepcopy(self.network)))

    def _measured(self, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        error = (torch.sigmoid(scores.detach()) - labels).abs().mean()
        return {"loss": self.network.map_losses(scores, labels).mean(), "map_error": error}

    def _whole_groups(self, batch: PairBatch) -> PairBatch:
        count = len(batch.is_positive)
        whole = count - count % self.videos
        if whole == 0 or (self.training and whole != count):
            raise ValueError(
                f"gradnet: expected batches that divide into groups of videos={self.videos} pairs, "
                f"got {count} pairs; choose datamodule.batch_size a multiple of module.videos"
            )
        # The last batch of validation may be partial.
        return PairBatch._make(part[:whole] for part in batch)

    def _labels(self, batch: PairBatch, cells: int) -> Tensor:
        return response_labels(
            batch.search_boxes_xyxy,
            batch.is_positive,
            cells=cells,
            stride=self.network.stride,
            search_size=batch.searches.shape[-1],
            radius=self.label_radius,
        )
