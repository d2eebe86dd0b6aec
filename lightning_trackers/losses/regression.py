"""Losses of response maps under one signature, interchangeable in every tracker that regresses them.

``loss(response, target) -> scalar``, the mean over all values; any shape. ``rows`` gives the mean of
each row, for targets that learn side by side.

Source: Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Section 3.2, Eq. 3-7.
Deviation: the paper sums over cells; here each loss is the mean, because a sum changes the step with
    the size of the map. The weight decay of Eq. 7 belongs to whoever learns the weights.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class RegressionLoss(nn.Module, ABC):
    """What the losses share: subclasses say what each cell costs."""

    @abstractmethod
    def cells(self, response: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every cell, in the common shape of response map and soft labels."""

    def forward(self, response: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of all cells, a scalar.

        Raises:
            ValueError: If the shapes differ.
        """
        return self.rows(response.flatten()[None], target.flatten()[None])[0]

    def rows(self, response: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of each row, ``(T, ...)`` to ``(T,)``.

        Half precision is computed in float32.

        Raises:
            ValueError: If the shapes differ.
        """
        if response.shape != target.shape:
            raise ValueError(
                f"loss: expected response and target of one shape, got {tuple(response.shape)} and "
                f"{tuple(target.shape)}"
            )
        if response.dtype in (torch.float16, torch.bfloat16):
            response = response.float()
        return self.cells(response, target.to(response.dtype)).flatten(1).mean(1)


class PowerLoss(RegressionLoss):
    """``l ** (2 + gamma)`` of the absolute difference l: L2 with 0 (Eq. 3), L3 with 1 (Eq. 4).

    Args:
        gamma: Focusing exponent.

    Raises:
        ValueError: If ``gamma`` is negative.
    """

    def __init__(self, gamma: float = 0.0) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"power loss: expected gamma >= 0, got {gamma}")
        self.gamma = gamma

    def cells(self, response: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every cell."""
        return (response - target).abs() ** (2 + self.gamma)


class HardMiningLoss(RegressionLoss):
    """L2 without the easy cells: those of a difference below a threshold cost nothing (OHNM).

    Source: Section 5.4, "Loss Function Analysis". The mean is over all cells, easy ones too, as the
        other losses have it.

    Args:
        threshold: Smallest absolute difference that counts.

    Raises:
        ValueError: If ``threshold`` is negative.
    """

    def __init__(self, threshold: float = 0.01) -> None:
        super().__init__()
        if threshold < 0:
            raise ValueError(f"hard mining: expected threshold >= 0, got {threshold}")
        self.threshold = threshold

    def cells(self, response: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every cell."""
        difference = (response - target).abs()
        return torch.where(difference < self.threshold, 0.0, difference**2)


class ShrinkageRegressionLoss(RegressionLoss):
    """``exp(Y) * l ** 2 / (1 + exp(a * (c - l)))`` of the absolute difference l (Eq. 6, 7).

    Easy cells (small l, most of them background) shrink; hard ones keep their loss.

    Args:
        a: Speed of the shrinkage.
        c: Difference around which it sets in.
        importance: Keep the factor exp(Y) (Table 3, "w/o exp(Y)" drops it: Eq. 6).
        modulate: Keep the sigmoid factor (Table 3, "only exp(Y)" drops it).

    Raises:
        ValueError: If ``a`` is not positive.
    """

    def __init__(
        self, a: float = 10.0, c: float = 0.2, importance: bool = True, modulate: bool = True
    ) -> None:
        super().__init__()
        if a <= 0:
            raise ValueError(f"shrinkage: expected a > 0, got {a}")
        self.a = a
        self.c = c
        self.importance = importance
        self.modulate = modulate

    def cells(self, response: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every cell."""
        difference = (response - target).abs()
        losses = difference**2
        if self.importance:
            losses = losses * torch.exp(target)
        if self.modulate:  # 1 / (1 + exp(-x)) is the sigmoid, which does not overflow
            losses = losses * torch.sigmoid(self.a * (difference - self.c))
        return losses
