"""What several trainings say of a method: intervals over seeds and sequences, and how many it takes.

Two things are drawn at random: the seed of a training and the sequences that it is judged by. The
sequences are the same for all trackers (paired); the seeds of two methods are not, as a seed does not
make two different trainings alike.

Source: Efron, Tibshirani, An Introduction to the Bootstrap, 1993; resampling on both levels: Davison,
Hinkley, Bootstrap Methods and their Application, 1997, Section 3.8; components of variance: Searle,
Casella, McCulloch, Variance Components, 1992, Section 4.3.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

MOST_NEEDED = 100_000
"""Sequences or seeds beyond which nobody will look."""


@dataclass(frozen=True)
class SeededInterval:
    """A mean over seeds, or a difference of two.

    Args:
        mean: The mean.
        low: Lower end of its confidence interval; NaN where none can be given.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


def times_drawn(sequences: int, resamples: int, seed: int = 0) -> np.ndarray:
    """Return how often each sequence is drawn, int ``(R, S)``; share it to compare in pairs."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(sequences, np.full(sequences, 1 / sequences), size=resamples)


def over_seeds(draws: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the mean over seeds, drawn anew with every draw of sequences, ``(R,)``.

    Deviations from the mean are widened by sqrt(K / (K - 1)): with K seeds the bootstrap's variance
    falls short of the truth by that factor squared, by half where there are two.

    Args:
        draws: Score of each seed under each draw of sequences, ``(K, R)``.
        seed: Seed of the draws; give two methods different ones.

    Raises:
        ValueError: If there is no seed, or a score is not finite.
    """
    draws = np.asarray(draws, dtype=np.float64)
    if draws.ndim != 2 or len(draws) == 0 or not np.isfinite(draws).all():
        raise ValueError(f"draws: expected finite scores (K, R), got shape {draws.shape}")
    count, resamples = draws.shape
    mean: np.ndarray = draws.mean(axis=0)
    if count == 1:
        return mean
    rng = np.random.default_rng([seed, 1])
    times = rng.multinomial(count, np.full(count, 1 / count), size=resamples)  # (R, K)
    drawn = (times * draws.T).sum(axis=1) / count
    widened: np.ndarray = mean + math.sqrt(count / (count - 1)) * (drawn - mean)
    return widened


def seeded_interval(
    scores: np.ndarray, draws: np.ndarray, *, level: float = 0.95, seed: int = 0
) -> SeededInterval:
    """Return the mean over seeds with its interval over seeds and sequences.

    Args:
        scores: Score of each seed on all sequences, ``(K,)``.
        draws: The same under each draw of sequences, ``(K, R)``.
        level: Probability that the interval is meant to hold.
        seed: Seed of the draws of seeds.
    """
    ends = np.quantile(over_seeds(draws, seed), [(1 - level) / 2, (1 + level) / 2])
    return SeededInterval(float(np.mean(scores)), float(ends[0]), float(ends[1]))


def seeded_difference(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    *,
    level: float = 0.95,
    same_trainings: bool = False,
) -> SeededInterval:
    """Return the difference of two methods with its interval, paired over sequences.

    Args:
        first: Scores ``(K,)`` and draws ``(K, R)`` of one method, see :func:`seeded_interval`.
        second: Of the other, under the same draws of sequences.
        level: Probability that the interval is meant to hold.
        same_trainings: Both methods use the same trained weights, in this order: paired over seeds, too.

    Raises:
        ValueError: If the numbers of draws differ, or of seeds where they are paired.
    """
    shapes = np.shape(first[1]), np.shape(second[1])
    if shapes[0][-1] != shapes[1][-1] or (same_trainings and shapes[0] != shapes[1]):
        raise ValueError(
            f"draws: expected the same ones, got {np.shape(first[1])} and {np.shape(second[1])}"
        )
    if same_trainings:
        drawn = over_seeds(first[1] - second[1])
    else:
        drawn = over_seeds(first[1], seed=1) - over_seeds(second[1], seed=2)
    ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    mean = float(np.mean(first[0]) - np.mean(second[0]))
    return SeededInterval(mean, float(ends[0]), float(ends[1]))


@dataclass(frozen=True)
class Variances:
    """Where the uncertainty of a difference between two methods comes from.

    Args:
        sequences: Variance of the true difference from sequence to sequence.
        seeds: Variance from training to training that all sequences share, of both methods together.
        both: Variance of what is left: a seed on a sequence.
    """

    sequences: float
    seeds: float
    both: float

    def of_mean(self, sequences: float, seeds: float) -> float:
        """Return the variance of the mean difference over so many sequences and seeds of each."""
        return self.sequences / sequences + self.seeds / seeds + self.both / (sequences * seeds)


def variances_of_difference(first: np.ndarray, second: np.ndarray) -> Variances:
    """Estimate the components of variance of a difference, by moments, none below zero.

    Args:
        first: Score of each seed on each sequence of one method, ``(K1, S)``.
        second: Of the other on the same sequences, ``(K2, S)``.

    Raises:
        ValueError: If there are fewer than two seeds of a method or two sequences, or the sequences
            differ in number.
    """
    if first.shape[1] != second.shape[1] or min(*first.shape, *second.shape) < 2:
        raise ValueError(
            "scores: expected two seeds and two sequences at least, the same sequences for both, got "
            f"shapes {first.shape} and {second.shape}"
        )
    sequences = first.shape[1]
    seeds, both, noise = 0.0, 0.0, 0.0
    for scores in (first, second):
        rest = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
        left = float((rest**2).sum() / ((len(scores) - 1) * (sequences - 1)))
        seeds += max(0.0, float(scores.mean(axis=1).var(ddof=1)) - left / sequences)
        both += left
        noise += left / len(scores)
    of_means = float((first.mean(axis=0) - second.mean(axis=0)).var(ddof=1))
    return Variances(max(0.0, of_means - noise), seeds, both)


@dataclass(frozen=True)
class Needed:
    """What it takes to resolve a difference; None where no number suffices.

    Args:
        seeds: Seeds of each method on the sequences at hand.
        sequences: Sequences with the seeds at hand.
    """

    seeds: int | None
    sequences: int | None


def needed(
    difference: float,
    variances: Variances,
    *,
    sequences: int,
    seeds: int,
    level: float = 0.95,
    power: float = 0.8,
) -> Needed:
    """Return how many seeds, or sequences, resolve a true difference.

    A difference is resolved when a two-sided test at 1 - ``level`` finds it with probability
    ``power``: the standard error must be below |difference| / (z_level + z_power).

    Args:
        difference: The difference.
        variances: From measured scores.
        sequences: Sequences at hand.
        seeds: Seeds of each method at hand.
        level: Confidence of the test.
        power: Probability to find the difference.
    """
    normal = NormalDist()
    allowed = (difference / (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power))) ** 2
    return Needed(
        _smallest(
            allowed - variances.sequences / sequences, variances.seeds + variances.both / sequences
        ),
        _smallest(allowed - variances.seeds / seeds, variances.sequences + variances.both / seeds),
    )


def _smallest(allowed: float, variance: float) -> int | None:
    """Return the smallest n with variance / n <= allowed."""
    if allowed <= 0:
        return None
    count = max(1, math.ceil(variance / allowed - 1e-9))
    return count if count <= MOST_NEEDED else None
