import numpy as np
import pytest
from scipy import stats

from lightning_trackers.metrics.functional.statistics import (
    attribute_means,
    bootstrap_interval,
    holm,
    paired_difference,
)


def test_the_interval_is_that_of_scipy_and_of_the_normal_law():
    scores = np.random.default_rng(0).beta(2, 2, size=100)
    low, high = bootstrap_interval(scores)
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    # Both are estimates from 10 000 draws: their ends scatter by about 0.0007 (1.5 % of the width).
    assert low == pytest.approx(theirs.low, abs=0.003)
    assert high == pytest.approx(theirs.high, abs=0.003)
    half = 1.96 * scores.std() / 10
    assert high - low == pytest.approx(2 * half, rel=0.05)
    assert low < scores.mean() < high


def test_the_interval_of_two_sequences_is_known():
    # The mean of two draws from {0, 1} is 0, 0.5 or 1, with probabilities 1/4, 1/2 and 1/4.
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.4) == (0.5, 0.5)
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.6) == (0.0, 1.0)
    assert bootstrap_interval(np.array([0.3])) == (0.3, 0.3)


def test_trackers_share_the_draws_and_the_seed_decides():
    scores = np.random.default_rng(2).random((3, 40))
    scores[2] = scores[0] + 0.25
    low, high = bootstrap_interval(scores)
    assert low.shape == high.shape == (3,)
    assert low[2] - low[0] == pytest.approx(0.25, abs=1e-12)
    assert np.array_equal(bootstrap_interval(scores)[1], high)
    assert not np.array_equal(bootstrap_interval(scores, seed=1)[1], high)
    narrow_low, narrow_high = bootstrap_interval(scores, level=0.5)
    assert (low < narrow_low).all()
    assert (narrow_high < high).all()


def test_significance_on_few_sequences_is_exact():
    # All four differences have one sign: of 16 patterns two reach the sum, all plus and all minus.
    few = paired_difference(np.array([0.4, 0.5, 0.6, 0.7]), np.array([0.3, 0.3, 0.3, 0.3]))
    assert few.p_value == 2 / 16
    assert few.mean == pytest.approx(0.25)
    rng = np.random.default_rng(3)
    first, second = rng.random((2, 11))
    theirs = stats.permutation_test(
        (first, second),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert paired_difference(first, second).p_value == pytest.approx(theirs.pvalue, abs=1e-12)


def test_significance_on_many_sequences_agrees_with_the_t_test():
    rng = np.random.default_rng(4)
    second = rng.random(100)
    first = second + rng.normal(0.0, 0.1, 100)
    got = paired_difference(first, second)
    # Normal differences, so the t-test is right; 10 000 flips scatter by 0.005 at most.
    assert got.p_value == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.015)
    assert 0.01 < got.p_value < 0.5
    assert got.low < got.mean < got.high
    assert paired_difference(second, first).p_value == got.p_value
    assert paired_difference(first + 1, second).p_value == 1 / 10_001
    assert paired_difference(first, first).p_value == 1


def test_an_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(5)
    low, high = zip(
        *(bootstrap_interval(rng.normal(0.5, 0.1, 100), resamples=500) for _ in range(300)),
        strict=True,
    )
    covered = (np.array(low) < 0.5) & (np.array(high) > 0.5)
    assert covered.mean() == pytest.approx(0.95, abs=0.04)  # three standard errors of 300 trials


def test_holm_multiplies_by_the_comparisons_that_are_left():
    # 0.01 * 4, 0.02 * 3, 0.03 * 2 raised to 0.06, 0.9 * 1; in the given order.
    adjusted = holm(np.array([0.03, 0.01, 0.9, 0.02]))
    assert adjusted.tolist() == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]


def test_attribute_means_take_the_sequences_that_carry_the_attribute():
    scores = {
        "A": {"auc": 0.2, "fps": 10},
        "B": {"auc": 0.4, "fps": 20},
        "C": {"auc": 0.9, "fps": 6},
    }
    attributes = {"A": {"SV", "OCC"}, "B": {"OCC"}, "C": set(), "unscored": {"IV"}}
    got = attribute_means(scores, attributes)
    assert list(got) == ["OCC", "SV"]
    assert got["OCC"] == pytest.approx({"auc": 0.3, "fps": 15})
    assert got["SV"] == {"auc": 0.2, "fps": 10}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval(np.array([])), r"at least one sequence.*shape \(0,\)"),
        (lambda: bootstrap_interval(np.array([0.1, np.nan])), r"with 1 that are not finite"),
        (lambda: bootstrap_interval(np.ones(3), level=95), r"level: expected .*, got 95"),
        (lambda: paired_difference(np.ones(3), np.ones(4)), r"same sequences.*\(3,\) and \(4,\)"),
    ],
)
def test_scores_that_say_nothing_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
