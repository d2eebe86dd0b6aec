"""Frames per second as the got10k toolkit prints them."""

import numpy as np


def mean_rate_fps(times_s: np.ndarray) -> float:
    """Return the mean of the frames' rates, the start included; NaN if nothing was timed.

    Never below frames / time (Jensen's inequality), which is what results here are reported with.
    The got10k toolkit averages it over the sequences that have times.

    Source: got-10k/toolkit 0.1.3, ``ExperimentOTB.report``.

    Args:
        times_s: Time of each frame, ``(T,)``; zeros and NaN are left out.
    """
    timed = times_s[times_s > 0]  # NaN is not greater than 0
    return float((1 / timed).mean()) if len(timed) else float("nan")
