"""What a difference between trackers is worth: intervals, significance, means by attribute.

The unit that is drawn at random is the sequence: the frames of one are far from independent, so
intervals over frames would be much too narrow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
_EXACT_UP_TO = 14
"""Sequences up to which all sign patterns are counted, 2^14 of them."""


@dataclass(frozen=True)
class PairedDifference:
    """How much better one tracker is than another on the same sequences.

    Args:
        mean: Mean difference, first minus second.
        low: Lower end of its confidence interval.
        high: Upper end.
        p_value: Probability of a mean difference at least as large, whatever its sign, if the two
            were interchangeable on every sequence.
    """

    mean: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(
    scores: np.ndarray, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile bootstrap interval of the mean over sequences.

    Source: Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 1979;
    percentile interval: Efron, Tibshirani, An Introduction to the Bootstrap, 1993, Chapter 13.

    Args:
        scores: A score per sequence, ``(..., S)``; leading axes are trackers, which share the same
            resamples.
        level: Probability that the interval is meant to hold.
        resamples: How often S sequences are drawn with replacement.
        seed: Seed of the draws.

    Returns:
        Lower and upper end, each ``(...)``.

    Raises:
        ValueError: If there is no sequence, a score is not finite, or ``level`` is not within 0 and
            1.
    """
    scores = _checked(scores)
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
    count = scores.shape[-1]
    rng = np.random.default_rng(seed)
    times_drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    means = scores @ times_drawn.T / count  # (..., resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return low, high


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare two trackers on the same sequences.

    The interval is the bootstrap's; significance is that of the sign-flip permutation test, exact
    for up to 14 sequences and from random flips above.

    Source: Fisher, The Design of Experiments, 1935, Section 21; the added one of the random test:
    Phipson, Smyth, Permutation p-values should never be zero, 2010.

    Args:
        first: A score per sequence of one tracker, ``(S,)``.
        second: Of the other, on the same sequences in the same order.
        level: Probability that the interval is meant to hold.
        resamples: Draws of the bootstrap, and flips of the test.
        seed: Seed of both.

    Raises:
        ValueError: If there is no sequence, a score is not finite, or the counts differ.
    """
    if np.shape(first) != np.shape(second) or np.ndim(first) != 1:
        raise ValueError(
            "scores: expected one per sequence for both trackers, on the same sequences, got shapes "
            f"{np.shape(first)} and {np.shape(second)}"
        )
    difference = _checked(np.asarray(first, dtype=np.float64) - second)
    low, high = bootstrap_interval(difference, level=level, resamples=resamples, seed=seed)
    return PairedDifference(
        float(difference.mean()),
        float(low),
        float(high),
        _sign_flip_p_value(difference, resamples, seed),
    )


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for having made all these comparisons, in the given order.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    Args:
        p_values: P-values, ``(M,)``.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


def attribute_means(
    scores: Mapping[str, Mapping[str, float]], attributes: Mapping[str, Iterable[str]]
) -> dict[str, dict[str, float]]:
    """Return the mean of each score over the sequences that carry an attribute.

    Args:
        scores: Scores of each sequence, by its name.
        attributes: Attribute codes of each sequence, by its name.

    Returns:
        Mean scores by attribute, the attributes in alphabetical order.

    Raises:
        KeyError: If a sequence has no attributes entry.
    """
    names: dict[str, list[str]] = {}
    for name in scores:
        for code in attributes[name]:
            names.setdefault(code, []).append(name)
    return {
        code: {
            key: float(np.mean([scores[name][key] for name in names[code]]))
            for key in scores[names[code][0]]
        }
        for code in sorted(names)
    }


def _sign_flip_p_value(difference: np.ndarray, resamples: int, seed: int) -> float:
    count = len(difference)
    # Rounding must not tell a pattern from its mirror image: sums that agree to 1e-12 are equal.
    reached = abs(difference.sum()) - 1e-12 * np.abs(difference).sum()
    if count <= _EXACT_UP_TO:
        patterns = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float((np.abs((1 - 2 * patterns) @ difference) >= reached).mean())
    flips = np.random.default_rng(seed).integers(0, 2, size=(resamples, count), dtype=np.int8)
    as_large = (np.abs((1 - 2 * flips) @ difference) >= reached).sum()
    return float((as_large + 1) / (resamples + 1))


def _checked(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim == 0 or scores.shape[-1] == 0 or not np.isfinite(scores).all():
        raise ValueError(
            f"scores: expected at least one sequence and finite numbers, got shape {scores.shape} "
            f"with {int((~np.isfinite(scores)).sum())} that are not finite"
        )
    return scores
