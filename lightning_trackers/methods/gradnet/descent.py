"""Plain gradient descent on SiamFC's template: what GradNet's one step takes the place of.

Source: Li et al., GradNet, ICCV 2019, Section 1, Table 1.
"""

import math

import torch
from torch import Tensor, nn

from lightning_trackers.ops import xcorr


def iterations_to_converge(
    templates: Tensor,
    searches: Tensor,
    labels: Tensor,
    *,
    loss: nn.Module,
    lr: float,
    response_scale: float = 1e-3,
    bias: float = 0.0,
    remaining: float = 0.1,
    max_iterations: int = 2000,
) -> list[float]:
    """Count the steps of gradient descent that each template needs on its search region.

    Deviation: the paper says neither its basic rate nor when a template has converged. Here it has
        converged when its loss has fallen to ``remaining`` of the loss it began with.

    Args:
        templates: SiamFC's templates f_z(Z), shape ``(B, C, Hz, Wz)``.
        searches: f_x(X), shape ``(B, C, Hx, Wx)``.
        labels: Y, shape ``(B, H', W')``.
        loss: Classification loss of one map.
        lr: Learning rate.
        response_scale: Factor of the raw correlation.
        bias: Bias of the score map, which is not changed.
        remaining: Share of the first loss at which a template counts as converged.
        max_iterations: Steps after which it counts as never converging.

    Returns:
        Steps of each template, ``inf`` for those that do not converge.

    Raises:
        ValueError: If a number is out of range.
    """
    if not (lr > 0 and 0 < remaining < 1 <= max_iterations):
        raise ValueError(
            "descent: expected lr > 0, remaining in (0, 1) and max_iterations >= 1, got "
            f"lr={lr} remaining={remaining} max_iterations={max_iterations}"
        )
    found = [math.inf] * len(templates)
    goals = [0.0] * len(templates)
    with torch.enable_grad():
        current = templates.detach().clone().requires_grad_()
        for iteration in range(max_iterations + 1):
            scores = xcorr(searches, current)[:, 0] * response_scale + bias  # (B, H', W')
            losses = torch.stack([loss(s, y) for s, y in zip(scores, labels, strict=True)])
            for i, value in enumerate(losses.tolist()):
                if iteration == 0:
                    goals[i] = remaining * value
                elif found[i] == math.inf and value <= goals[i]:
                    found[i] = iteration
            if math.inf not in found:
                break
            (gradient,) = torch.autograd.grad(losses.sum(), current)
            current = (current.detach() - lr * gradient).requires_grad_()
    return found
