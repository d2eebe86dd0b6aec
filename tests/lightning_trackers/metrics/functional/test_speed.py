import math

import numpy as np
import pytest

from lightning_trackers.metrics.functional.speed import mean_rate_fps


def test_the_mean_of_rates_is_not_the_rate_of_the_mean():
    # 1 / 0.1 = 10 and 1 / 0.025 = 40; zeros and NaN were not timed.
    assert mean_rate_fps(np.array([0.1, 0.025, 0.0, math.nan])) == pytest.approx(25)


def test_nothing_timed_has_no_rate():
    assert math.isnan(mean_rate_fps(np.zeros(3)))
