"""A last layer for a video that training did not see, so that shared layers can be validated."""

import torch
from torch import Tensor

_STEPS = 20


def last_layer(embedded: Tensor, labels: Tensor, decay: float = 1e-2) -> tuple[Tensor, Tensor]:
    """Learn to tell target and background by what the shared layers say, to convergence.

    Regularised logistic regression has one solution, so unlike a few steps of gradient descent it
    measures the shared layers alone. It is found with Newton's method, on vectors divided by their
    root mean square length.

    Args:
        embedded: Outputs of the last shared layer, shape ``(N, d)``.
        labels: 1 for the target and 0 for background, shape ``(N,)``.
        decay: Half the penalty of the squared weights; the bias has a hundredth of it.

    Returns:
        Weight, shape ``(d,)``, and bias, shape ``()``, of the logit of *target*.
    """
    x, wanted = embedded.detach().double(), labels.double()
    length = x.square().sum(1).mean().sqrt().clamp_min(torch.finfo(x.dtype).tiny)
    x = torch.cat([x / length, torch.ones_like(x[:, :1])], dim=1)  # (N, d + 1)
    penalty = torch.full_like(x[0], decay)
    penalty[-1] = decay / 100
    weights = torch.zeros_like(x[0])
    for _ in range(_STEPS):
        p = torch.sigmoid(x @ weights)
        gradient = x.T @ (p - wanted) / len(x) + penalty * weights
        curvature = (x.T * (p * (1 - p))) @ x / len(x) + torch.diag(penalty)
        weights = weights - torch.linalg.solve(curvature, gradient)
    return (weights[:-1] / length).to(embedded.dtype), weights[-1].to(embedded.dtype)
