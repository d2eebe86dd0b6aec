"""GradNet's Table 1: how many steps of gradient descent SiamFC's template needs at which rate."""

import csv
import io
import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

import pytorch_lightning as pl
import torch

from callbacks.benchmark_evaluation import evaluation_mode
from lightning_trackers.batches import PairBatch
from lightning_trackers.files import write_text
from lightning_trackers.methods.gradnet import iterations_to_converge
from lightning_trackers.methods.siamfc import SiamFCModule, response_labels
from lightning_trackers.siamese import normalise

log = logging.getLogger(__name__)


class TemplateDescent(pl.Callback):
    """Descends on the templates of validation pairs when SiamFC is trained, and writes ``table1.csv``.

    Source: Li et al., GradNet, ICCV 2019, Table 1.

    Args:
        output_dir: Folder of the table.
        multipliers: Learning rates as multiples of ``basic_lr``, each with the iterations that the
            paper prints for it, or None.
        basic_lr: The basic learning rate. It belongs to the mean over cells and to SiamFC's response
            scale; the paper does not print its own.
        pairs: Validation pairs.
        remaining: A template has converged when its loss has fallen to this share.
        max_iterations: Steps after which a template counts as never converging.
    """

    def __init__(
        self,
        output_dir: str | Path,
        multipliers: Mapping[int | str, float | None],
        basic_lr: float = 10.0,
        pairs: int = 16,
        remaining: float = 0.1,
        max_iterations: int = 2000,
    ) -> None:
        self.path = Path(output_dir) / "table1.csv"
        self.multipliers = {int(m): paper for m, paper in multipliers.items()}
        self.basic_lr = basic_lr
        self.pairs = pairs
        self.remaining = remaining
        self.max_iterations = max_iterations

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table.

        Raises:
            TypeError: If it is not SiamFC that was trained.
        """
        if not isinstance(pl_module, SiamFCModule):
            raise TypeError(f"template descent: expected SiamFC, got {type(pl_module).__name__}")
        if not trainer.is_global_zero:
            return
        batches: Iterable[PairBatch] = trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
        with evaluation_mode(pl_module):
            rows = self.table(pl_module, batches)
        lines = io.StringIO()
        csv.writer(lines).writerows([HEADER, *rows])
        write_text(self.path, lines.getvalue())
        for row in [HEADER, *rows]:
            log.info("%12s %18s %10s %8s", *row)
        log.info("template descent: %s", self.path)

    def table(self, module: SiamFCModule, batches: Iterable[PairBatch]) -> list[list[str]]:
        """Return a row for each learning rate: multiple, median iterations, share converged, paper's.

        Args:
            module: A trained SiamFC.
            batches: Batches of pairs, of which the first ``pairs`` pairs are used.
        """
        network = module.network
        templates, searches, labels = [], [], []
        with torch.no_grad():
            for batch in batches:
                templates.append(network.exemplar(normalise(batch.exemplars.to(module.device))))
                searches.append(network.backbone(normalise(batch.searches.to(module.device))))
                cells = searches[-1].shape[-1] - templates[-1].shape[-1] + 1
                found = response_labels(
                    batch.search_boxes_xyxy.to(module.device),
                    batch.is_positive.to(module.device),
                    cells=cells,
                    stride=network.stride,
                    search_size=batch.searches.shape[-1],
                    radius=module.label_radius,
                )
                labels.append(found)
                if sum(map(len, labels)) >= self.pairs:
                    break
        rows = []
        for multiplier, paper in self.multipliers.items():
            iterations = iterations_to_converge(
                torch.cat(templates)[: self.pairs],
                torch.cat(searches)[: self.pairs],
                torch.cat(labels)[: self.pairs],
                loss=module.loss,
                lr=self.basic_lr * multiplier,
                response_scale=network.response_scale,
                bias=network.bias.item(),
                remaining=self.remaining,
                max_iterations=self.max_iterations,
            )
            converged = sum(n < math.inf for n in iterations) / len(iterations)
            middle = f"{median(iterations):g}"
            printed = "" if paper is None else f"{paper:g}"
            rows.append([f"{multiplier}x", middle, f"{converged:.0%}", printed])
        return rows


HEADER = ["lr", "median iterations", "converged", "paper"]
