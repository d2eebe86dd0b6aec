"""Instance embedding: the target of one video is told from the targets of all others.

Source: Jung et al., Real-Time MDNet, ECCV 2018, Section 3.3.
"""

from torch import Tensor
from torch.nn import functional


def instance_embedding_loss(target_scores: Tensor, domain: Tensor) -> Tensor:
    """Return cross-entropy of a softmax over domains of the scores that their branches give a target.

    A positive sample of one video should have its largest target score in the branch of that video,
    so that targets that look alike are kept apart; two classes alone, target and background, say
    nothing about targets of other videos. Negative samples take no part.

    Deviation: the mean is over positive samples, as in the released code; the paper writes 1 / N.

    Args:
        target_scores: Scores for *target* of P positive samples in K branches, shape ``(P, K)``.
        domain: Number of the branch that is theirs, int64, shape ``()``.

    Returns:
        Loss, a scalar; 0 with a single branch.

    Raises:
        ValueError: If the scores are not a matrix.
    """
    if target_scores.dim() != 2:
        raise ValueError(
            f"instance embedding: expected scores of shape (P, K), got {tuple(target_scores.shape)}"
        )
    return functional.cross_entropy(target_scores.float(), domain.expand(len(target_scores)))
