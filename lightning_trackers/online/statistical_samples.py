"""Positive samples drawn in feature space from the confidence box of the real ones' mean.

Source: Lin et al., SPGA, MMAsia 2019, Section 3.1, Eq. 1-4.
"""

import numpy as np
import torch
from scipy.special import stdtrit  # type: ignore[import-untyped]
from torch import Tensor


def confidence_interval(features: Tensor, alpha: float = 0.05) -> tuple[Tensor, Tensor]:
    """Return the interval that holds each component's mean with probability ``1 - alpha`` (Eq. 4).

    Deviation: the text calls S the sample variance; the t interval is that of the sample *standard
        deviation* (Gelman et al., which the paper cites), and so it is here.

    Args:
        features: Feature vectors, shape ``(..., n, d)``.
        alpha: Two-sided significance level.

    Returns:
        Lower and upper bound, shape ``(..., d)`` each.

    Raises:
        ValueError: If there are fewer than two vectors, or ``alpha`` is not in (0, 1).
    """
    n = features.shape[-2]
    if n < 2 or not 0 < alpha < 1:
        raise ValueError(
            f"statistical samples: expected at least 2 vectors and alpha in (0, 1), got n={n} "
            f"alpha={alpha}"
        )
    quantile = float(stdtrit(n - 1, 1 - alpha / 2))
    deviation, mean = torch.std_mean(features, dim=-2)
    margin = deviation * (quantile / n**0.5)
    return mean - margin, mean + margin


def statistical_samples(features: Tensor, uniform: Tensor, alpha: float = 0.05) -> Tensor:
    """Return new feature vectors, every component drawn evenly from its confidence interval.

    Args:
        features: Real feature vectors, shape ``(..., n, d)``.
        uniform: Numbers drawn evenly from [0, 1), shape ``(..., m, d)``.
        alpha: Two-sided significance level.

    Returns:
        Vectors, shape ``(..., m, d)``.
    """
    low, high = confidence_interval(features, alpha)
    return torch.lerp(low.unsqueeze(-2), high.unsqueeze(-2), uniform)


def uniform_draws(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Draw float32 numbers evenly from [0, 1), shape ``(count, width)``."""
    return rng.random((count, width), dtype=np.float32)
