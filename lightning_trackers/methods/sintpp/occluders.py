"""Ways to make a target hard to recognise: at random, by an agent, by a learnt warp.

Source: Wang et al., SINT++, CVPR 2018, Sections 4.2, 5.3 and 5.4.
"""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lightning_trackers.batches import TargetBatch
from lightning_trackers.methods.loading import load_weights
from lightning_trackers.methods.sintpp.adversary import AdversaryModule
from lightning_trackers.methods.sintpp.hptn import HPTN
from lightning_trackers.methods.sintpp.occlusion import cover, draw_boxes
from lightning_trackers.state_dicts import read_tensor_file


class Occluder(Protocol):
    """Makes hard positives of positives."""

    def __call__(self, batch: TargetBatch, generator: torch.Generator) -> Tensor:
        """Return a picture for each target, uint8 ``(N, 3, S, S)``.

        Args:
            batch: Targets, and what they may be covered with.
            generator: Source of chance, on the CPU.
        """
        ...


class Hidden(NamedTuple):
    """What an agent made of targets.

    Args:
        images: Occluded targets, uint8, shape ``(N, 3, S, S)``.
        scores: What the tracker says of them, shape ``(N,)``.
        areas: Share of the target that is covered, shape ``(N,)``.
    """

    images: Tensor
    scores: Tensor
    areas: Tensor


class RandomOccluder:
    """Covers any region with any patch of the background (the paper's SINT_VOT_VAE_RO).

    Args:
        least: Smallest share of the target that is covered. By default an agent's first box.
        most: Largest share. By default an agent's largest box.
        min_side: Smallest side, share of the picture.
        max_side: Largest side, share of the picture.

    Raises:
        ValueError: If no box of such an area has such sides.
    """

    def __init__(
        self,
        least: float = 0.09,
        most: float = 0.36,
        min_side: float = 0.15,
        max_side: float = 0.6,
    ) -> None:
        if not 0 < min_side**2 <= least <= most <= max_side**2 + 1e-9 <= 1 + 1e-9:
            raise ValueError(
                "random occlusion: expected min_side² <= least <= most <= max_side² <= 1, got "
                f"min_side={min_side} least={least} most={most} max_side={max_side}"
            )
        self.least, self.most = least, most
        self.min_side, self.max_side = min_side, max_side

    def __call__(self, batch: TargetBatch, generator: torch.Generator) -> Tensor:
        """Return targets covered at random, every area equally likely."""
        chance = torch.rand(len(batch.targets), generator=generator)
        areas = self.least + chance * (self.most - self.least)
        return self.covered(batch, areas, generator)

    def covered(self, batch: TargetBatch, areas: Tensor, generator: torch.Generator) -> Tensor:
        """Return targets of which given shares ``(N,)`` are covered."""
        areas = areas.cpu()
        regions = draw_boxes(areas, generator, self.min_side, self.max_side)
        sides = regions[:, 2:] - regions[:, :2]
        corner = torch.rand(len(areas), 2, generator=generator) * (1 - sides)
        patches = torch.cat([corner, corner + sides], dim=1)
        device = batch.targets.device
        return cover(batch.targets, regions.to(device), batch.backgrounds, patches.to(device))


class AgentOccluder:
    """Covers targets as a trained agent does (HPTN).

    Args:
        agent: The agent; its policy is greedy here.
        checkpoint: Checkpoint of its training; without it the agent is taken as it is.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of this agent.
    """

    def __init__(self, agent: HPTN, checkpoint: str | Path | None = None) -> None:
        if checkpoint is not None:
            _load_network(agent.network, checkpoint)
        self.agent = agent.eval()

    def __call__(self, batch: TargetBatch, generator: torch.Generator) -> Tensor:
        """Return the targets at the end of their episodes."""
        return self.hidden(batch, generator).images

    @torch.no_grad()
    def hidden(self, batch: TargetBatch, generator: torch.Generator) -> Hidden:
        """Return the occluded targets with the tracker's scores and the covered areas."""
        environment = self.agent.environment(batch, generator)
        count = len(batch.targets)
        waits = torch.ones(count, dtype=torch.bool, device=batch.targets.device)
        images = torch.zeros_like(batch.targets)
        scores = torch.zeros_like(environment.scores)
        areas = torch.zeros_like(environment.scores)
        # The step limit ends an episode even of an agent that never terminates.
        while bool(waits.any()):
            step = environment.step(self.agent.act(environment.states, generator))
            ends = waits & step.finished
            images = torch.where(ends[:, None, None, None], step.images, images)
            scores = torch.where(ends, step.scores, scores)
            areas = torch.where(ends, step.areas, areas)
            waits = waits & ~ends
        return Hidden(images, scores, areas)


class AdversaryOccluder:
    """Warps targets as a trained spatial transformer does, then covers them at random (Section 5.4).

    Args:
        adversary: The trained adversary.
        random: The occlusion.
        checkpoint: Checkpoint of its training; without it the adversary is taken as it is.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of this adversary.
    """

    def __init__(
        self,
        adversary: AdversaryModule,
        random: RandomOccluder,
        checkpoint: str | Path | None = None,
    ) -> None:
        if checkpoint is not None:
            _load_network(adversary.network, checkpoint)
        self.warp = adversary.network.eval()
        self.random = random

    @torch.no_grad()
    def __call__(self, batch: TargetBatch, generator: torch.Generator) -> Tensor:
        """Return targets warped and covered."""
        warped = self.warp(batch.targets.float()).round().clamp(0, 255).to(torch.uint8)
        return self.random(batch._replace(targets=warped), generator)


def _load_network(network: nn.Module, checkpoint: str | Path) -> None:
    content: Any = read_tensor_file(Path(checkpoint), "checkpoint")
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ValueError(f"checkpoint {checkpoint}: expected the key 'state_dict'")
    prefix = "network."
    state = {
        name.removeprefix(prefix): value
        for name, value in content["state_dict"].items()
        if name.startswith(prefix)
    }
    load_weights(network, state, f"checkpoint {checkpoint}")
