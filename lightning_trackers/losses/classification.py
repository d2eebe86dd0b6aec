"""Classification losses under one signature, interchangeable in every tracker that scores proposals.

``loss(logits, labels) -> scalar``; labels are 1 (target), 0 (background) and -1 (ignored), any shape.

Source: Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Section 3.4, Eq. 9-14.
Deviation: the paper sums over samples; here each loss is the weighted *mean* (divided by the sum of
    the class weights), because a sum changes the step with the size of the response map and of the
    batch. Relative weights of the samples are the paper's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BinaryCrossEntropy(nn.Module):
    """Mean binary cross-entropy over the samples that are not ignored (Eq. 9).

    Args:
        balanced: Weight positives by the share of negatives in the batch and negatives by the share
            of positives (Eq. 10).
    """

    def __init__(self, balanced: bool = False) -> None:
        super().__init__()
        self.balanced = balanced

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; see the module docstring."""
        agreement, is_positive = _agreement(logits, labels)  # (K,), (K,)
        weights = class_shares(is_positive) if self.balanced else torch.ones_like(agreement)
        return _weighted_mean(functional.softplus(-agreement), weights)


class FocalLoss(nn.Module):
    """Balanced cross-entropy times ``(1 - p_t) ** gamma`` (Eq. 11).

    Args:
        gamma: Focusing exponent; 0 gives the balanced cross-entropy.
        alpha: Factor of the whole loss, the grid of the paper's Table 3. The classes are balanced by
            their shares in the batch, as the text under Eq. 11 says.

    Raises:
        ValueError: If ``gamma`` is negative or ``alpha`` is not positive.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 1.0) -> None:
        super().__init__()
        if gamma < 0 or alpha <= 0:
            raise ValueError(f"focal: expected gamma >= 0 < alpha, got gamma={gamma} alpha={alpha}")
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; see the module docstring."""
        agreement, is_positive = _agreement(logits, labels)  # (K,), (K,)
        # (1 - p_t) ** gamma through its logarithm: a power of 0 has no finite slope for gamma < 1.
        modulation = torch.exp(self.gamma * functional.logsigmoid(-agreement))
        losses = modulation * functional.softplus(-agreement)
        return self.alpha * _weighted_mean(losses, class_shares(is_positive))


class ShrinkageLoss(nn.Module):
    """Balanced cross-entropy times ``exp(p_t) / (1 + exp(a * (p_t - c)))`` (Eq. 12-14).

    Easy samples (large p_t) shrink, hard ones keep their loss.

    Source: Eq. 14. Its second line is printed as ``exp(a(1 - a)) - c)``, a scanning or typesetting
        error for ``exp(a * ((1 - p) - c))``, which is what Eq. 12 and p_t = 1 - p give.

    Args:
        a: Speed of the shrinkage.
        c: Probability around which it sets in.
        importance: Keep the factor exp(p_t) (Table 3, "w/o exp(p_t)" drops it).
        modulate: Keep the sigmoid factor (Table 3, "only exp(p_t)" drops it).
        balanced: Weight the classes by their shares in the batch (Eq. 14); RT-MDNet's loss does
            without (Eq. 18, with the same error in print) and is a plain mean over the samples.

    Raises:
        ValueError: If ``a`` is not positive.
    """

    def __init__(
        self,
        a: float = 10.0,
        c: float = 0.6,
        importance: bool = True,
        modulate: bool = True,
        balanced: bool = True,
    ) -> None:
        super().__init__()
        if a <= 0:
            raise ValueError(f"shrinkage: expected a > 0, got {a}")
        self.a = a
        self.c = c
        self.importance = importance
        self.modulate = modulate
        self.balanced = balanced

    def weight(self, p_t: Tensor) -> Tensor:
        """Return the factor of a sample whose own class has probability ``p_t`` (Eq. 13)."""
        weight = torch.ones_like(p_t)
        if self.importance:
            weight = weight * torch.exp(p_t)
        if self.modulate:
            weight = weight * torch.sigmoid(self.a * (self.c - p_t))
        return weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; see the module docstring."""
        agreement, is_positive = _agreement(logits, labels)  # (K,), (K,)
        losses = self.weight(torch.sigmoid(agreement)) * functional.softplus(-agreement)
        weights = class_shares(is_positive) if self.balanced else torch.ones_like(losses)
        return _weighted_mean(losses, weights)


def class_shares(is_positive: Tensor) -> Tensor:
    """Return beta for each sample: the share of the *other* class in the batch (Eq. 10).

    With one class alone the share is 0 and nothing would be learnt; then every sample weighs 1.
    """
    positive = is_positive.float().mean()
    weights = torch.where(is_positive, 1 - positive, positive)
    return torch.where((positive == 0) | (positive == 1), torch.ones_like(weights), weights)


def _agreement(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logit of p_t and whether each sample is positive, both ``(K,)``.

    Half precision is computed in float32: the weights span more than its range.
    """
    if logits.shape != labels.shape:
        raise ValueError(
            f"loss: expected logits and labels of one shape, got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}"
        )
    counted = labels != -1
    kept, is_positive = logits[counted], labels[counted] == 1
    if kept.dtype in (torch.float16, torch.bfloat16):
        kept = kept.float()
    return torch.where(is_positive, kept, -kept), is_positive


def _weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Return sum(w * l) / sum(w), and 0 (with a gradient of 0) where nothing is counted."""
    weights = weights.to(losses.dtype)
    return (weights * losses).sum() / weights.sum().clamp_min(torch.finfo(losses.dtype).tiny)
