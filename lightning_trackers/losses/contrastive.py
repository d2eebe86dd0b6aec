"""Contrastive loss on pairs of vectors.

Source: Hadsell et al., Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, Eq. 4;
Eq. 6 of Zhang and Zhang, Hard Negative Samples Emphasis Tracker without Anchors, MM 2020.
"""

import torch
from torch import Tensor, nn


class ContrastiveLoss(nn.Module):
    """Mean of ``d ** 2`` where vectors belong together and ``max(0, margin - d) ** 2`` elsewhere.

    d is the Euclidean distance. Eq. 6 has no factor of 1/2, which Hadsell's has.

    Args:
        margin: Distance beyond which vectors that do not belong together are left alone.
        squared: Take ``max(0, margin - d ** 2)`` elsewhere, as Tao et al., Siamese Instance Search for
            Tracking, CVPR 2016, Section 3.1, do: the margin is then one of the squared distance.

    Raises:
        ValueError: If the margin is not positive.
    """

    def __init__(self, margin: float = 2.0, squared: bool = False) -> None:
        super().__init__()
        if margin <= 0:
            raise ValueError(f"contrastive: expected margin > 0, got {margin}")
        self.margin = margin
        self.squared = squared

    def forward(self, a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, 0 if no pair is counted.

        Args:
            a: Vectors, shape ``(..., D)``.
            b: Their partners, broadcast against ``a``.
            labels: 1 the same, 0 different, -1 not counted, shape ``(...)``.
        """
        difference = a.float() - b.float()  # (..., D)
        # The slope of this norm is 0 at 0, where the plain square root's is infinite.
        distance = torch.linalg.vector_norm(difference, dim=-1)  # (...)
        together = difference.square().sum(-1)
        apart = (
            (self.margin - together).clamp(min=0)
            if self.squared
            else (self.margin - distance).clamp(min=0) ** 2
        )
        losses = torch.where(labels == 1, together, apart)
        counted = labels != -1
        return (losses * counted).sum() / counted.sum().clamp(min=1)
