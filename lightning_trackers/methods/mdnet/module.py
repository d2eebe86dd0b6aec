"""Multi-domain training: one last layer per video, everything below it shared.

Source: Nam & Han, MDNet, CVPR 2016, Section 3.2; py-MDNet ``pretrain/train_mdnet.py``.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from lightning_trackers.backbones.imagenet import load_imagenet
from lightning_trackers.backbones.vgg_m import read_matconvnet
from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.loading import load_weights
from lightning_trackers.methods.mdnet.held_out import last_layer
from lightning_trackers.siamese import for_inference
from lightning_trackers.state_dicts import read_tensor_file
from lightning_trackers.training import Optimisation


class Branches(nn.Module):
    """The last layers of K domains.

    Args:
        domains: K.
        hidden: Length of what they are given.
        weight_std: Standard deviation of the first weights.
    """

    def __init__(self, domains: int, hidden: int, weight_std: float = 0.01) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(domains, 2, hidden) * weight_std)
        self.bias = nn.Parameter(torch.zeros(domains, 2))

    def forward(self, embedded: Tensor, domain: Tensor) -> Tensor:
        """Return logits of background and target in a domain, ``(N, hidden)`` to ``(N, 2)``."""
        return nn.functional.linear(embedded, self.weight[domain], self.bias[domain])

    def target_scores(self, embedded: Tensor) -> Tensor:
        """Return the logits of *target* in every domain, ``(N, hidden)`` to ``(N, K)``."""
        return nn.functional.linear(embedded, self.weight[:, 1], self.bias[:, 1])


class MDNetModule(pl.LightningModule):
    """Trains the shared layers on domain batches and lends the tracker.

    The branches live beside the network, as many as the data module has domains, and are not part of
    what a tracker is made of. Parameters for stages are named ``network.backbone.``,
    ``network.head.fc4`` and so on, and ``branches.``.

    Attributes:
        recipe: As :class:`~lightning_trackers.siamese.SiameseModule`'s.

    Args:
        network: The network, with ``backbone``, ``head`` and what ``samples`` asks of it.
        tracker: Makes a tracker from an inference copy of the network.
        optimisation: Optimizer, schedule and stages.
        loss: ``loss(logits, labels)`` of a batch; cross-entropy by default.
    """

    def __init__(
        self,
        network: Any,
        tracker: Callable[..., Tracker[Any]],
        optimisation: Optimisation,
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.branches: Branches | None = None
        self.optimisation = optimisation
        self.loss = loss or BinaryCrossEntropy()
        self.recipe: Mapping[str, Any] | None = None
        self._make_tracker = tracker

    def setup(self, stage: str) -> None:
        """Make one branch per domain when training begins."""
        if stage == "fit" and self.branches is None:
            self.make_branches(self.trainer.datamodule.domains)  # type: ignore[attr-defined]

    def make_branches(self, domains: int) -> None:
        """Make a new branch for each of ``domains`` videos."""
        std = float(self.network.head.fc6.weight.detach().std())
        self.branches = Branches(domains, self.network.head.hidden, std).to(self.device)

    def load_initial_weights(self, path: str | Path) -> None:
        """Begin from VGG-M's convolutions, or from py-MDNet's shared layers.

        Args:
            path: MatConvNet's ``imagenet-vgg-m.mat``; a file of py-MDNet, whose fc4 and fc5 are taken
                too; or a file of the convolutions alone, see :meth:`VGGM.from_imagenet`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If its weights do not fit.
        """
        path = Path(path)
        if path.suffix == ".mat":
            load_weights(self.network.backbone, read_matconvnet(path), f"VGG-M weights {path}")
            return
        state = read_tensor_file(path, "MDNet weights")
        if not isinstance(state, dict) or "shared_layers" not in state:
            load_imagenet(self.network.backbone, path)
            return
        shared = state["shared_layers"]
        # py-MDNet's layers are Sequential: fc4 is (linear, relu), fc5 (dropout, linear, relu).
        renamed = {
            f"{own}.{part}": shared[f"{theirs}.{part}"]
            for own, theirs in (("fc4", "fc4.0"), ("fc5", "fc5.1"))
            for part in ("weight", "bias")
            if f"{theirs}.{part}" in shared
        }
        fc6 = {n: v for n, v in self.network.head.state_dict().items() if n.startswith("fc6")}
        load_weights(self.network.head, renamed | fc6, f"py-MDNet weights {path}")
        convolutions = {n: v for n, v in shared.items() if n.startswith("conv")}
        load_weights(self.network.backbone, convolutions, f"py-MDNet weights {path}")

    def tracker(self) -> Tracker[Any]:
        """Return a tracker that runs a copy of the network as it is now."""
        with torch.inference_mode(False):
            return self._make_tracker(for_inference(self.network))

    def samples(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the features of a batch's samples, ``(N, d)``, and their labels, 1 and 0, ``(N,)``.

        The positive samples are first; those of one frame follow each other in both classes.
        """
        features = self.network.features(torch.cat([batch.positives, batch.negatives]))
        labels = torch.zeros(len(features), device=features.device)
        labels[: len(batch.positives)] = 1
        return features, labels

    def losses(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the loss as ``loss`` and the share of positives among the best as ``precision``.

        Args:
            batch: Samples of one domain.
            generator: Source of the dropout, on the same device.
        """
        features, labels = self.samples(batch)
        embedded = self.network.head.embed(features, self._kept(len(features), generator))
        return self._losses_of(embedded, labels, batch.domain)

    def _losses_of(self, embedded: Tensor, labels: Tensor, domain: Tensor) -> dict[str, Tensor]:
        assert self.branches is not None, "training needs branches: setup or make_branches"
        logits = self.branches(embedded, domain)
        # The softmax of two logits is the sigmoid of their difference.
        return {
            "loss": self.loss(logits[:, 1] - logits[:, 0], labels),
            "precision": precision(logits[:, 1], labels),
        }

    def held_out(self, batch: Any) -> dict[str, Tensor]:
        """Return ``loss``, ``accuracy`` and ``precision`` on a domain that has no branch.

        A last layer is learnt from the samples of half of the frames, as for a target that is new to
        a tracker, and judged on the others.

        Args:
            batch: Samples of one domain.

        Raises:
            ValueError: If a class has fewer than two samples.
        """
        features, labels = self.samples(batch)
        positives = int(labels.sum())
        if min(positives, len(labels) - positives) < 2:
            raise ValueError(
                f"validation: expected at least two samples of each class, got {positives} and "
                f"{len(labels) - positives}"
            )
        embedded = self.network.head.embed(features)
        known = torch.zeros_like(labels, dtype=torch.bool)
        for label in (1, 0):
            own = (labels == label).nonzero()[:, 0]
            known[own[: len(own) // 2]] = True
        weight, bias = last_layer(embedded[known], labels[known])
        margin, wanted = embedded[~known] @ weight + bias, labels[~known]
        right = ((margin > 0) == (wanted == 1)).float()
        return {
            "loss": self.loss(margin, wanted),
            # Of both classes alike: a batch shows more background.
            "accuracy": (right[wanted == 1].mean() + right[wanted == 0].mean()) / 2,
            "precision": precision(margin, wanted),
        }

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch and log it."""
        # By batch, not by step: with accumulation several batches belong to one step.
        seed = self.current_epoch * 1_000_003 + batch_idx
        losses = self.losses(batch, torch.Generator(self.device).manual_seed(seed))
        self.log_dict({f"train/{n}": v.detach() for n, v in losses.items()}, batch_size=1)
        return losses["loss"]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log loss, accuracy and precision on a video that is not trained on."""
        found = {f"val/{name}": value for name, value in self.held_out(batch).items()}
        self.log_dict(found, batch_size=1, sync_dist=True)

    def on_train_epoch_start(self) -> None:
        """Let the stages whose epoch has come learn, and keep the others still."""
        self.optimisation.begin_epoch(self, self.current_epoch)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return optimizer and schedule."""
        return self.optimisation.configure(self, self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the recipe beside the weights."""
        if self.recipe is not None:
            checkpoint["recipe"] = dict(self.recipe)

    def _kept(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
        head = self.network.head
        if not (self.training and head.dropout):
            return None
        keep = 1 - head.dropout
        shape = (2, count, head.hidden)
        drawn = torch.rand(shape, generator=generator, device=generator.device)
        first, second = (drawn < keep).to(head.fc4.weight.dtype) / keep
        return first, second


def precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the share of positives among as many of the best samples as there are positives."""
    best = scores.topk(int(labels.sum())).indices
    return labels[best].mean()
