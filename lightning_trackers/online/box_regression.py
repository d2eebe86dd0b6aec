"""Ridge regression from features to better boxes, learnt once, in the first frame.

Source: Nam & Han, MDNet, CVPR 2016, Section 4.2, "Bounding box regression"; Girshick et al., R-CNN,
CVPR 2014, Appendix C (targets).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_trackers.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh


@dataclass(frozen=True)
class BoxRegression:
    """A linear map from features to changes of a box.

    Args:
        weight: Shape ``(d, 4)``.
        bias: Shape ``(4,)``.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(
        cls,
        features: Tensor,
        boxes_xyxy: Tensor,
        target_xyxy: Tensor,
        alpha: float = 1000.0,
        intercept: bool = True,
    ) -> "BoxRegression":
        """Learn from samples how far they are from the target.

        Args:
            features: Features of the samples, shape ``(n, d)``.
            boxes_xyxy: The samples, shape ``(n, 4)``, px.
            target_xyxy: The target, shape ``(4,)``, px.
            alpha: Penalty of the squared weights; the bias is free.
            intercept: Whether there is a bias.
        """
        changes = box_changes(boxes_xyxy, target_xyxy).to(features.dtype)
        return cls(*ridge(features, changes, alpha, intercept))

    def __call__(self, features: Tensor, boxes_xyxy: Tensor) -> Tensor:
        """Return better boxes, float64 ``(n, 4)``, px.

        Args:
            features: Features of the boxes, shape ``(n, d)``.
            boxes_xyxy: The boxes, shape ``(n, 4)``, px.
        """
        changes = (features @ self.weight + self.bias).to(boxes_xyxy.dtype)
        box = xyxy_to_cxcywh(boxes_xyxy)
        centre = box[:, :2] + changes[:, :2] * box[:, 2:]
        # A box may not grow or shrink without limit where features are strange.
        wh = box[:, 2:] * changes[:, 2:].clamp(-2, 2).exp()
        return cxcywh_to_xyxy(torch.cat([centre, wh], dim=1))


def box_changes(boxes_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """Return what leads from boxes to a target: shifts in box sizes and logarithms of the growth."""
    box, target = xyxy_to_cxcywh(boxes_xyxy), xyxy_to_cxcywh(target_xyxy)
    shift = (target[:2] - box[:, :2]) / box[:, 2:]
    return torch.cat([shift, (target[2:] / box[:, 2:]).log()], dim=1)


def ridge(
    features: Tensor, wanted: Tensor, alpha: float, intercept: bool = True
) -> tuple[Tensor, Tensor]:
    """Solve least squares with a penalty of ``alpha`` times the squared weights, in closed form.

    With fewer samples than features the n × n system of the dual problem is solved instead.

    Args:
        features: Shape ``(n, d)``.
        wanted: Shape ``(n, k)``.
        alpha: Penalty, positive.
        intercept: Whether to learn a bias; it stays 0 otherwise.

    Returns:
        Weights, shape ``(d, k)``, and the bias, which is not penalised, shape ``(k,)``.

    Raises:
        ValueError: If ``alpha`` is not positive.
    """
    if alpha <= 0:
        raise ValueError(f"ridge: expected alpha > 0, got {alpha}")
    middle, level = features.mean(0), wanted.mean(0)
    if not intercept:
        middle, level = torch.zeros_like(middle), torch.zeros_like(level)
    x, y = features - middle, wanted - level
    n, d = x.shape
    if n < d:
        gram = x @ x.T
        gram.diagonal().add_(alpha)
        weight = x.T @ torch.cholesky_solve(y, torch.linalg.cholesky(gram))
    else:
        gram = x.T @ x
        gram.diagonal().add_(alpha)
        weight = torch.cholesky_solve(x.T @ y, torch.linalg.cholesky(gram))
    return weight, level - middle @ weight
