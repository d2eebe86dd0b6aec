"""Smooth random motion in closed form: any instant can be asked for, in any order."""

import numpy as np

# Periods and weights of the sines that make one channel, relative to its slowest.
_RATIOS = np.array([1.0, 0.57, 0.31, 0.17])
_WEIGHTS = _RATIOS**1.3 / np.sqrt((_RATIOS**2.6).sum() / 2)


class Wander:
    """A table of smooth random functions of time, each a sum of four sines.

    Channels are added first and then read together, because one evaluation of a whole table costs
    no more than one of a single channel.
    """

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._count = 0
        self._table: np.ndarray | None = None

    def add(self, rng: np.random.Generator, *channels: tuple[float, float]) -> slice:
        """Add channels and return their place in the table.

        Args:
            rng: Source of chance.
            *channels: For each the standard deviation over time, and the period of the slowest
                component, frames.
        """
        deviations, periods = np.array(channels).T
        jitter = np.exp(0.15 * rng.standard_normal((len(channels), 4)))
        frequencies = 2 * np.pi / (periods[:, None] * _RATIOS * jitter)
        phases = rng.uniform(0, 2 * np.pi, (len(channels), 4))
        self._rows.append(np.stack([deviations[:, None] * _WEIGHTS, frequencies, phases]))
        self._table = None
        self._count += len(channels)
        return slice(self._count - len(channels), self._count)

    def at(self, t: float) -> np.ndarray:
        """Return all channels at time ``t`` (frames), shape ``(C,)``."""
        if self._table is None:
            self._table = np.concatenate(self._rows, axis=1)  # (3, C, 4)
        amplitudes, frequencies, phases = self._table
        return np.asarray((amplitudes * np.sin(frequencies * t + phases)).sum(axis=1))


def fold(value: float, low: float, high: float) -> float:
    """Reflect a value at both ends of a range until it lies inside; continuous in ``value``."""
    if high <= low:
        return (low + high) / 2
    span = high - low
    phase = (value - low) % (2 * span)
    return float(low + (phase if phase <= span else 2 * span - phase))


def smooth_step(t: float, start: float, duration: float) -> float:
    """Return 0 before ``start``, 1 after ``start + duration`` and a smooth rise between."""
    u = min(max((t - start) / duration, 0.0), 1.0)
    return u * u * (3 - 2 * u)
