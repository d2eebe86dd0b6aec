"""Measure whether a trained agent hides targets better than chance does.

    python -m experiments.run +exp=sintpp stages=[sint,vaes,agent]
    python -m measurements.occlusion outputs/sintpp_laptop_seed0/stages/agent
    python -m measurements.occlusion .../stages/agent --videos 60 --figure occluded.png

The agent was trained on videos of the split "train"; it hides targets of drawn videos of another split,
which neither it nor its tracker has seen. Each of its results is compared with random occlusion of the
same area by patches of the same background. A video is one observation (the mean over its targets and
over repetitions), the interval is the paired bootstrap's over videos.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf

from callbacks.occlusion_figure import occlusion_figure
from datamodules.domains import ProceduralDomains
from datamodules.procedural import ProceduralSource
from datamodules.targets import TargetPool, together
from experiments.config import made
from lightning_trackers.methods.sintpp import HPTN, AgentOccluder, RandomOccluder
from lightning_trackers.metrics.functional.statistics import PairedDifference, paired_difference


@dataclass(frozen=True)
class Scores:
    """Mean scores of the tracker in each video, shape ``(V,)`` each.

    Args:
        bare: Of targets as they are.
        agent: Of targets that the agent has hidden.
        random: Of targets hidden at random, the same share of each.
        areas: Share that is hidden.
        hidden: Share of the agent's results at or below its threshold.
        hidden_at_random: The same of random occlusion.
    """

    bare: np.ndarray
    agent: np.ndarray
    random: np.ndarray
    areas: np.ndarray
    hidden: np.ndarray
    hidden_at_random: np.ndarray

    @property
    def difference(self) -> PairedDifference:
        """Agent less random: negative where the agent hides better."""
        return paired_difference(self.agent, self.random)


def measure(agent: HPTN, pool: TargetPool, *, targets: int, repetitions: int, seed: int) -> Scores:
    """Hide targets of every video.

    Args:
        agent: The agent.
        pool: The videos.
        targets: Targets of each video.
        repetitions: Random occlusions of each.
        seed: Seed of all draws.
    """
    occluder = AgentOccluder(agent)
    s = agent.settings
    at_random = RandomOccluder(min_side=s.min_side, max_side=s.max_side)
    rows = []
    for video in pool.videos:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + video.number)
        batch = pool.draw(video, np.random.default_rng([seed, video.number]), targets)
        score = agent.scorer.against(batch.exemplars)
        with torch.no_grad():
            found = occluder.hidden(batch, generator)
            random = torch.stack(
                [
                    score(at_random.covered(batch, found.areas, generator))
                    for _ in range(repetitions)
                ]
            )
            values = (
                score(batch.targets),
                found.scores,
                random,
                found.areas,
                (found.scores <= s.threshold).float(),
                (random <= s.threshold).float(),
            )
        rows.append([float(value.mean()) for value in values])
    return Scores(*np.array(rows).T)


def load(folder: Path) -> HPTN:
    """Return the agent of a stage's folder."""
    described = folder / "config.yaml"
    if not described.is_file():
        raise SystemExit(f"{folder}: expected the folder of a stage 'agent' with a config.yaml")
    agent: HPTN = made(OmegaConf.load(described).module)
    return AgentOccluder(agent, folder / "last.ckpt").agent


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("stage", type=Path, help="folder of the stage 'agent'")
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--targets", type=int, default=8, help="of each video")
    parser.add_argument("--repetitions", type=int, default=8, help="random occlusions of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args(arguments)
    agent = load(options.stage)
    source = ProceduralDomains(ProceduralSource(options.seed, "test"), options.videos)
    pool = TargetPool({"test": source}, frames=4, seed=options.seed)
    found = measure(
        agent, pool, targets=options.targets, repetitions=options.repetitions, seed=options.seed
    )
    d = found.difference
    print(f"videos                     {len(pool.videos)}, {options.targets} targets of each")
    print(f"score of the bare targets  {found.bare.mean():.3f}")
    print(f"hidden by the agent        {found.agent.mean():.3f}, area {found.areas.mean():.3f}")
    print(f"hidden at random           {found.random.mean():.3f}, the same area")
    print(f"agent less random          {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")
    print(f"at or below {agent.settings.threshold:.2f}            "
          f"agent {found.hidden.mean():.1%}, random {found.hidden_at_random.mean():.1%}")  # fmt: skip
    if options.figure is not None:
        videos = pool.videos[:10]
        rng = np.random.default_rng(options.seed)
        batch = together([pool.draw(video, rng, 1) for video in videos])
        generator = torch.Generator().manual_seed(options.seed)
        occlusion_figure(agent, batch, generator).savefig(options.figure, dpi=130)


if __name__ == "__main__":
    main()
