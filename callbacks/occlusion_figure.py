"""Occluded samples: what an agent hides of targets, beside random occlusion of the same area."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure

from lightning_trackers.batches import TargetBatch
from lightning_trackers.files import atomic_file
from lightning_trackers.methods.sintpp import HPTN, AgentOccluder, RandomOccluder


class OcclusionFigure(pl.Callback):
    """Draws ``occluded.png`` when an agent's training ends.

    Source: Wang et al., SINT++, CVPR 2018, Figure 2 (its hard positive samples).

    Args:
        output_dir: Folder of the figure.
        samples: Targets shown, of the first batch.
    """

    def __init__(self, output_dir: str | Path, samples: int = 10) -> None:
        self.path = Path(output_dir) / "occluded.png"
        self.samples = samples

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse another module before its training.

        Raises:
            TypeError: If it is not an agent that is trained.
        """
        if not isinstance(pl_module, HPTN):
            raise TypeError(f"occlusion figure: expected HPTN, got {type(pl_module).__name__}")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the figure."""
        assert isinstance(pl_module, HPTN)
        batch = next(iter(trainer.datamodule.train_dataloader()))  # type: ignore[attr-defined]
        generator = torch.Generator().manual_seed(0)
        figure = occlusion_figure(pl_module, batch.first(self.samples), generator)
        with atomic_file(self.path) as partial:
            figure.savefig(partial, dpi=130, format="png")


def occlusion_figure(agent: HPTN, batch: TargetBatch, generator: torch.Generator) -> Figure:
    """Draw exemplars, targets, the agent's occlusions and random ones, with the tracker's scores.

    Args:
        agent: The agent.
        batch: Targets, a column each.
        generator: Source of chance.
    """
    device = next(agent.network.parameters()).device
    batch = TargetBatch(
        batch.targets.to(device),
        batch.exemplars.to(device),
        batch.backgrounds.to(device),
        batch.source_id,
    )
    score = agent.scorer.against(batch.exemplars)
    hidden = AgentOccluder(agent).hidden(batch, generator)
    s = agent.settings
    at_random = RandomOccluder(min_side=s.min_side, max_side=s.max_side)
    covered = at_random.covered(batch, hidden.areas, generator)
    rows = {
        "exemplar": (batch.exemplars, None),
        "target": (batch.targets, score(batch.targets)),
        "agent": (hidden.images, hidden.scores),
        "random, same area": (covered, score(covered)),
    }
    count = len(batch.targets)
    figure = Figure(figsize=(0.9 * count + 0.6, 4.6), layout="constrained")
    all_axes = figure.subplots(len(rows), count, squeeze=False)
    for axes_row, (title, (pictures, scores)) in zip(all_axes, rows.items(), strict=True):
        for i, axes in enumerate(axes_row):
            axes.imshow(np.moveaxis(pictures[i].cpu().numpy(), 0, -1))
            axes.set_xticks([])
            axes.set_yticks([])
            if scores is not None:
                axes.set_title(f"{scores[i]:.2f}", fontsize=8)
        axes_row[0].set_ylabel(title, fontsize=7)
    return figure
