"""Cross-entropy whose samples weigh the less, the more of their class have the same gradient.

Source: Lin et al., Robust Visual Tracking via Statistical Positive Sample Generation and Gradient
Aware Learning (SPGA), MMAsia 2019, Section 3.2, Eq. 5-11.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class GradientSensitiveLoss(nn.Module):
    """Mean over samples of cross-entropy times class size over gradient density (Eq. 9-11).

    The signature is that of ``classification.py``: labels are 1, 0 and -1 (ignored), any shape. The
    density is a statistic of the mini-batch: no gradient flows through the weights.

    Deviation: ``unit_mean`` is not in the paper. As Eq. 10 and 11 stand, a class whose N samples all
        have one gradient weighs N / (N / epsilon) = epsilon, so the step depends on a width that the
        paper does not give.

    Args:
        epsilon: Width of the window in which gradients count as the same (Eq. 8). The paper gives
            none; 1/30 are the 30 bins of its model, GHM (Li et al., AAAI 2019).
        unit_mean: Divide the weights of each class by their mean, so that learning rates keep the
            meaning that they have for plain cross-entropy.

    Raises:
        ValueError: If ``epsilon`` is not positive.
    """

    def __init__(self, epsilon: float = 1 / 30, unit_mean: bool = False) -> None:
        super().__init__()
        if epsilon <= 0:
            raise ValueError(f"gradient sensitive loss: expected epsilon > 0, got {epsilon}")
        self.epsilon = epsilon
        self.unit_mean = unit_mean

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar; 0 where nothing is counted.

        Raises:
            ValueError: If the shapes differ.
        """
        return self.rows(logits.flatten()[None], labels.flatten()[None])[0]

    def rows(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each of several mini-batches, ``(T, N)`` to ``(T,)``.

        Raises:
            ValueError: If the shapes differ.
        """
        if logits.shape != labels.shape:
            raise ValueError(
                f"loss: expected logits and labels of one shape, got {tuple(logits.shape)} and "
                f"{tuple(labels.shape)}"
            )
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        agreement = torch.where(labels == 1, logits, -logits)
        losses = self.weights(logits, labels) * functional.softplus(-agreement)
        return losses.sum(-1) / (labels != -1).sum(-1).clamp_min(1)

    @torch.no_grad()
    def weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return lambda of each sample (Eq. 10, 11), 0 if it is ignored, ``(T, N)``."""
        gradients = torch.sigmoid(logits) - (labels == 1).to(logits.dtype)  # Eq. 6
        weights = torch.zeros_like(gradients)
        for label in (0, 1):
            own = labels == label
            density = gradient_density(gradients, own, self.epsilon)
            of_class = own.sum(-1, keepdim=True) / density  # Eq. 10, 11; inf beside the class
            of_class = torch.where(own, of_class.to(weights.dtype), 0)
            if self.unit_mean:
                mean = of_class.sum(-1, keepdim=True) / own.sum(-1, keepdim=True).clamp_min(1)
                of_class = of_class / mean.clamp_min(torch.finfo(mean.dtype).tiny)
            weights = weights + of_class
        return weights


def gradient_density(gradients: Tensor, counted: Tensor, epsilon: float) -> Tensor:
    """Return how many counted samples lie around each one's gradient, per unit length (Eq. 7, 8).

    Args:
        gradients: Gradients with regard to the logits, ``(T, N)``.
        counted: Which samples are counted, bool ``(T, N)``.
        epsilon: Width of the window, closed below and open above.

    Returns:
        Densities at every gradient, counted or not, float64 ``(T, N)``.
    """
    # Sorted, the window is a range: N log N instead of N x N comparisons.
    values = gradients.detach().double().contiguous()
    ordered = torch.where(counted, values, torch.inf).sort(-1).values
    below = torch.searchsorted(ordered, values - epsilon / 2)  # the first not below the window
    above = torch.searchsorted(ordered, values + epsilon / 2)
    return (above - below).double() / epsilon
