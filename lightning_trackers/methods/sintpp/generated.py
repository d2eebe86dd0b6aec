"""Generated positives on disk: one file a video, with what they were made from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_trackers.files import atomic_file

_SHOWN = 8  # of the video's own targets, beside its manifold


def sample_file(folder: Path, video: str) -> Path:
    """Return the file of a video's samples; a video's name may hold slashes."""
    return folder / f"{video}.npz"


def write_samples(
    folder: Path,
    video: str,
    pictures: Tensor,
    latents: Tensor,
    provenance: Mapping[str, Any],
) -> Path:
    """Write a video's samples, whole or not at all.

    Args:
        folder: Where all videos' samples are.
        video: Name of the video.
        pictures: Uint8 RGB, shape ``(K, 3, 64, 64)``.
        latents: Where they lie in the latent space, shape ``(K, J)``.
        provenance: What they were made from: plain values by name.

    Returns:
        The file.
    """
    path = sample_file(folder, video)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            pictures=pictures.numpy(),
            latents=latents.numpy(),
            provenance=np.array(json.dumps(dict(provenance), sort_keys=True)),
        )
    return path


def read_samples(
    folder: Path, video: str, provenance: Mapping[str, Any] | None = None
) -> Tensor | None:
    """Return a video's samples, uint8 ``(K, 3, 64, 64)``; None where there are none.

    Args:
        folder: Where all videos' samples are.
        video: Name of the video.
        provenance: If given, samples made from something else count as none.

    Raises:
        ValueError: If the file is not one of :func:`write_samples`.
    """
    path = sample_file(folder, video)
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            if provenance is not None and json.loads(str(content["provenance"])) != dict(
                provenance
            ):
                return None
            return torch.from_numpy(content["pictures"])
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: not a file of generated positives ({error}); remove it and generate them again"
        ) from error


def latent_figure(folder: Path, video: str, pictures: Tensor, targets: Tensor) -> Path:
    """Draw a video's manifold, as the paper's Fig. 3: own targets in a column, samples in a grid.

    Args:
        folder: Where all videos' samples are.
        video: Name of the video.
        pictures: Of a walk over the latent plane, uint8 RGB ``(K, 3, S, S)``.
        targets: The video's own, uint8 RGB ``(N, 3, S, S)``.

    Returns:
        The file, a PNG.
    """
    side = int(np.ceil(len(pictures) ** 0.5))
    own = targets[torch.linspace(0, len(targets) - 1, min(_SHOWN, len(targets))).long()]
    figure = Figure(figsize=(7.2, 6.0), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 7))
    left.imshow(_tiled(own, 1))
    left.set_title("targets", fontsize=8, color="tab:blue")
    right.imshow(_tiled(pictures, side))
    right.set_title(f"manifold of {video}", fontsize=8)
    for axis in (left, right):
        axis.set_axis_off()
    path = folder / f"{video}.png"
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path


def _tiled(pictures: Tensor, columns: int) -> np.ndarray:
    """Return pictures side by side, row after row, uint8 ``(rows * S, columns * S, 3)``."""
    rows = -(-len(pictures) // columns)
    size = pictures.shape[-1]
    tiles = pictures.new_full((rows * columns, 3, size, size), 255)
    tiles[: len(pictures)] = pictures
    tiled = tiles.view(rows, columns, 3, size, size).permute(0, 3, 1, 4, 2)
    return tiled.reshape(rows * size, columns * size, 3).numpy()
