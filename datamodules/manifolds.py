"""What autoencoders generate of the targets of videos, as hard positives: the stage of PSGN.

Source: Wang et al., SINT++, CVPR 2018, Section 4.1.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from datamodules.domains import DomainSource
from datamodules.errors import DatasetError
from datamodules.hard_positives import HardPositives
from datamodules.targets import target_pool
from lightning_trackers.methods.sintpp.generated import read_samples
from lightning_trackers.methods.sintpp.psgn import PSGNSettings, train_manifolds


def make_generated_positives(
    folder: str | Path,
    sources: Mapping[str, DomainSource],
    settings: PSGNSettings,
    frames: int = 12,
    seed: int = 0,
    accelerator: str = "auto",
) -> HardPositives:
    """Train an autoencoder for every video and write what they generate to ``positives.npz``.

    Beside it, ``manifolds/`` holds each video's samples and its figure (Fig. 3). Videos that are there
    already are not trained again.

    Args:
        folder: Where the files go.
        sources: Videos by name.
        settings: How autoencoders are trained and walked on.
        frames: Frames of each video whose targets are learnt.
        seed: Seed of the choice of frames.
        accelerator: Lightning's name of the device.

    Raises:
        DatasetError: If no video has two different targets.
    """
    folder = Path(folder)
    videos, numbers = {}, {}
    for video in target_pool(sources, frames, seed=seed).videos:
        name = f"{video.source_id.rpartition('/')[0]}".replace("/", "_")
        # A video of few frames may have been drawn twice: what is the same teaches nothing.
        different = np.unique(video.targets, axis=0)
        videos[name], numbers[name] = torch.from_numpy(different), video.number
    manifolds = folder / "manifolds"
    made = train_manifolds(videos, manifolds, settings, accelerator)
    samples = {name: read_samples(manifolds, name) for name in made}
    pictures = [found for found in samples.values() if found is not None]
    if not pictures:
        raise DatasetError(
            f"generated positives: expected a video with two different targets, got none in "
            f"{len(videos)} videos of {', '.join(sources)}"
        )
    positives = HardPositives(
        torch.cat(pictures).numpy(),
        np.repeat([numbers[name] for name in samples], [len(found) for found in pictures]),
        {"generator": "PSGN", "settings": str(settings), "frames": frames, "seed": seed}
        | {"videos": list(made)},
    )
    positives.write(folder / "positives.npz")
    return positives
