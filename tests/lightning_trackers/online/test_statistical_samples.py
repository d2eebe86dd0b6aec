import numpy as np
import pytest
import torch
from scipy import stats

from lightning_trackers.online import confidence_interval, statistical_samples


def samples(n=32, d=7, seed=0):
    return np.random.default_rng(seed).normal(2.0, [0.1 * (j + 1) for j in range(d)], (n, d))


@pytest.mark.parametrize(("n", "alpha"), [(32, 0.05), (2, 0.05), (50, 0.2)])
def test_interval_is_scipy_s(n, alpha):
    features = samples(n)
    expected = stats.t.interval(
        1 - alpha, n - 1, loc=features.mean(0), scale=stats.sem(features, axis=0)
    )
    low, high = confidence_interval(torch.from_numpy(features), alpha)
    np.testing.assert_allclose(low.numpy(), expected[0], rtol=1e-10)
    np.testing.assert_allclose(high.numpy(), expected[1], rtol=1e-10)


def test_interval_of_three_numbers_by_hand():
    # 1, 2, 3: mean 2, S = 1, n = 3, t(.975, 2) = 4.30265: margin 4.30265 / sqrt(3) = 2.48414.
    low, high = confidence_interval(torch.tensor([[1.0], [2.0], [3.0]]))
    assert low.item() == pytest.approx(2 - 2.48414, abs=1e-4)
    assert high.item() == pytest.approx(2 + 2.48414, abs=1e-4)


def test_draws_fill_the_box_evenly():
    features = torch.from_numpy(samples())
    low, high = confidence_interval(features)
    uniform = torch.from_numpy(np.random.default_rng(1).random((4000, 7)))
    drawn = statistical_samples(features, uniform)
    assert drawn.shape == (4000, 7)
    assert ((drawn >= low) & (drawn <= high)).all()
    share = ((drawn - low) / (high - low)).numpy()
    for component in share.T:
        assert stats.kstest(component, "uniform").pvalue > 1e-4


def test_targets_are_drawn_for_together_as_alone():
    several = torch.from_numpy(np.stack([samples(seed=1), samples(seed=2)]))
    uniform = torch.rand((2, 5, 7), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = statistical_samples(several, uniform)
    for t in range(2):
        torch.testing.assert_close(together[t], statistical_samples(several[t], uniform[t]))


def test_one_vector_has_no_interval():
    with pytest.raises(ValueError, match=r"at least 2 vectors.*got n=1"):
        confidence_interval(torch.zeros(1, 3))
