"""The focal loss of detectors.

Not the one of ``classification.py``, which the shrinkage paper balances by the classes' shares in the
batch: here the balance is a constant and the sum is divided by the number of positives.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class DetectionFocalLoss(nn.Module):
    """``-alpha_t (1 - p_t) ** gamma log p_t``, summed over samples, per positive sample.

    Labels are 1 (target), 0 (background) and -1 (ignored), any shape; without a positive sample the
    sum is divided by 1.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, Eq. 5 and Section 4.1.

    Args:
        alpha: Weight of positives; negatives weigh ``1 - alpha``.
        gamma: Focusing exponent.

    Raises:
        ValueError: If ``alpha`` is not in (0, 1) or ``gamma`` is negative.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        if not 0 < alpha < 1 or gamma < 0:
            raise ValueError(
                f"focal: expected alpha in (0, 1) and gamma >= 0, got alpha={alpha} gamma={gamma}"
            )
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Raises:
            ValueError: If the shapes differ.
        """
        if logits.shape != labels.shape:
            raise ValueError(
                f"loss: expected logits and labels of one shape, got {tuple(logits.shape)} and "
                f"{tuple(labels.shape)}"
            )
        positive = labels == 1
        agreement = torch.where(positive, logits, -logits).float()  # logit of p_t
        weights = torch.where(positive, self.alpha, 1 - self.alpha) * (labels != -1)
        # (1 - p_t) ** gamma through its logarithm, which is finite where p_t rounds to 1.
        modulation = torch.exp(self.gamma * functional.logsigmoid(-agreement))
        losses = weights * modulation * functional.softplus(-agreement)
        return losses.sum() / positive.sum().clamp(min=1)
