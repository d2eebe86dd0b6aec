"""Pictures that stand in for targets, made once and kept in a file, and training pairs that show them.

Source: Wang et al., SINT++, CVPR 2018, Sections 3 and 4: the tracker is trained on targets that a
network generated, and on targets that an agent has hidden in part.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from datamodules.domains import DomainSource
from datamodules.targets import HardPositives, KeptView, TargetPool, target_pool
from lightning_trackers.methods.sintpp import Occluder

__all__ = ["HardPositivePairs", "HardPositives", "make_hard_positives"]


def make_hard_positives(
    folder: str | Path,
    sources: Mapping[str, DomainSource],
    occluder: Occluder | None = None,
    generated: str | Path | None = None,
    occluded_share: float = 0.5,
    per_video: int = 32,
    frames: int = 8,
    size: int = 64,
    seed: int = 0,
) -> HardPositives:
    """Make hard positives of the targets of videos and write them to ``positives.npz``.

    Each begins as a generated picture of its video, where there are any, else as a target; a share of
    them is then handed to an occluder, with backgrounds of its video.

    Args:
        folder: Where the file goes.
        sources: Videos by name.
        occluder: What hides targets; without it none is hidden.
        generated: File of generated pictures.
        occluded_share: Share that is hidden; the paper does not say how many.
        per_video: Hard positives of each video.
        frames: Frames of each video.
        size: Side of a picture, px.
        seed: Seed of all draws.

    Raises:
        ValueError: If a number is out of range, or nothing is to be done to the targets.
    """
    if not 0 <= occluded_share <= 1 or per_video < 1:
        raise ValueError(
            "hard positives: expected occluded_share in [0, 1] and per_video >= 1, got "
            f"{occluded_share} and {per_video}"
        )
    if occluder is None and generated is None:
        raise ValueError("hard positives: expected an occluder, generated pictures, or both")
    made = None if generated is None else HardPositives.read(generated)
    pool = target_pool(sources, frames, size, seed)
    occluded = round(per_video * occluded_share) if occluder is not None else 0
    pictures = []
    for video in pool.videos:
        rng = np.random.default_rng([seed, video.number])
        batch = pool.draw(video, rng, per_video, made)
        if occluder is not None and occluded:
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            hidden = occluder(batch.first(occluded), generator)
            batch = batch._replace(targets=torch.cat([hidden, batch.targets[occluded:]]))
        pictures.append(batch.targets.numpy())
    provenance = {
        "occluder": type(occluder).__name__ if occluder is not None else None,
        "occluded_of_each_video": occluded,
        "generated": str(generated) if generated is not None else None,
        "made_from": dict(made.provenance) if made is not None else None,
        "seed": seed,
        "videos": [video.source_id for video in pool.videos],
    }
    numbers = np.repeat([video.number for video in pool.videos], per_video)
    found = HardPositives(np.concatenate(pictures), numbers, provenance)
    found.write(Path(folder) / "positives.npz")
    return found


class HardPositivePairs:
    """Pairs out of a pool of videos, in a share of which the second view shows a hard positive.

    The frames of a video are equally likely, whatever their distance (``max_gap`` is not looked at:
    few frames of each video are kept).

    Args:
        sources: Videos by name, the same ones for which the positives were made.
        positives: Their file; without it no target is replaced.
        share: Share of the positive pairs that show one; the paper does not say how many.
        frames: Frames of each video.
        seed: Seed of the pool.

    Raises:
        ValueError: If the share is out of range.
    """

    name = "hard_positives"

    def __init__(
        self,
        sources: Mapping[str, DomainSource],
        positives: str | Path | None = None,
        share: float = 0.5,
        frames: int = 8,
        seed: int = 0,
    ) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"hard positives: expected a share in [0, 1], got {share}")
        self.sources, self.positives = sources, positives
        self.share, self.frames, self.seed = share, frames, seed
        self._pool: TargetPool | None = None
        self._made: HardPositives | None = None

    def draw(
        self, rng: np.random.Generator, *, max_gap: int, positive: bool
    ) -> tuple[KeptView, KeptView, str]:
        """Draw a pair of views, and say where they come from."""
        videos = self.pool.videos
        i = int(rng.integers(len(videos)))
        j = (
            i
            if positive or len(videos) == 1
            else (i + int(rng.integers(1, len(videos)))) % len(videos)
        )
        first, second = videos[i], videos[j]
        a = int(rng.integers(len(first.views)))
        b = int(rng.integers(len(second.views)))
        view, source_id = second.views[b], f"{first.source_id}/{a}-{second.source_id}/{b}"
        if positive and self._made is not None and rng.random() < self.share:
            own = np.flatnonzero(self._made.videos == second.number)
            if len(own):
                k = int(rng.choice(own))
                picture = self._made.pictures[k].transpose(1, 2, 0)
                view, source_id = replace(view, positive=picture), f"{source_id}/positive {k}"
        return first.views[a], view, source_id

    @property
    def pool(self) -> TargetPool:
        """The videos; drawn or read when the first pair is asked for."""
        if self._pool is None:
            self._pool = target_pool(self.sources, self.frames, seed=self.seed)
            self._made = None if self.positives is None else HardPositives.read(self.positives)
        return self._pool
