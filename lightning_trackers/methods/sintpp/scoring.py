"""What SINT says of a picture: how much it looks like an exemplar.

Source: Wang et al., SINT++, CVPR 2018, Section 3, Eq. 1 (m(x, y) = f(x)·f(y)).
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lightning_trackers.methods.loading import build, load_weights, read_checkpoint
from lightning_trackers.methods.sint import SINTNetwork
from lightning_trackers.methods.sintpp.environment import Score
from lightning_trackers.siamese import normalise


class SINTScorer:
    """Cosine similarity of SINT's vectors of two pictures, each filled by its target.

    Deviation: the tracker looks at boxes of a frame; here a picture is all that the network sees, so
    its borders are padded.

    Args:
        network: The trained network; it is put into evaluation mode, and no weight gets a gradient.
        target_size: Side to which pictures are resized, px: that of targets in what the tracker is
            shown. None leaves them as they are.
    """

    def __init__(self, network: SINTNetwork, target_size: int | None = None) -> None:
        self.network = network.eval().requires_grad_(False)
        self.target_size = target_size

    def against(self, exemplars: Tensor) -> Score:
        """Return the score of N pictures, each against its exemplar, uint8 ``(N, 3, S, S)``.

        The score takes uint8 or float pictures in [0, 255] and is differentiable in the latter.
        """
        self.network.to(exemplars.device)
        with torch.no_grad():
            wanted = self._vectors(exemplars)  # (N, D)

        def score(pictures: Tensor, rows: Tensor | None = None) -> Tensor:
            own = wanted if rows is None else wanted[rows]
            return (self._vectors(pictures) * own).sum(dim=1)

        return score

    def _vectors(self, pictures: Tensor) -> Tensor:
        if self.target_size is not None:
            sides = (self.target_size, self.target_size)
            pictures = interpolate(pictures.float(), sides, mode="bilinear", antialias=True)
        count, _, height, width = pictures.shape
        whole = torch.tensor([0.0, 0.0, width, height], device=pictures.device)
        boxes = whole.expand(count, 1, 4)
        return self.network.embed(normalise(pictures), boxes)[:, 0]  # (N, D)


def sint_scorer(checkpoint: str | Path, target_size: int | None = None) -> SINTScorer:
    """Return the scorer of a trained SINT.

    Args:
        checkpoint: A training's checkpoint, or a file of ``save_weights``.
        target_size: As of :class:`SINTScorer`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a SINT's checkpoint.
    """
    path = Path(checkpoint)
    recipe, weights = read_checkpoint(path)
    network = build(recipe["network"])
    if not isinstance(network, SINTNetwork):
        raise ValueError(f"{path}: expected the weights of SINT, got {type(network).__name__}")
    load_weights(network, weights, f"SINT weights {path}")
    return SINTScorer(network, target_size)
