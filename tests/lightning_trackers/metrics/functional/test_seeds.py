import math

import numpy as np
import pytest

from lightning_trackers.metrics.functional.seeds import (
    Variances,
    needed,
    over_seeds,
    seeded_difference,
    seeded_interval,
    times_drawn,
    variances_of_difference,
)


def test_each_draw_has_as_many_sequences_as_there_are():
    times = times_drawn(7, 100)
    assert times.shape == (100, 7)
    assert (times.sum(axis=1) == 7).all()


def test_a_single_seed_leaves_the_draws_of_sequences_as_they_are():
    draws = np.array([[0.1, 0.4, 0.3]])
    np.testing.assert_array_equal(over_seeds(draws), draws[0])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_variance_over_seeds_is_that_of_a_mean_of_so_many(count):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=count)
    drawn = over_seeds(np.repeat(scores[:, None], 200_000, axis=1))
    expected = scores.var(ddof=1) / count  # 200,000 draws: 1 % of a variance
    assert drawn.var() == pytest.approx(expected, rel=0.02)
    assert drawn.mean() == pytest.approx(scores.mean(), abs=0.01)


def test_what_both_methods_owe_to_the_sequences_cancels():
    rng = np.random.default_rng(1)
    hardness = rng.uniform(size=20)
    times = times_drawn(20, 1000)
    draws = times @ hardness / 20
    first = np.array([hardness.mean() + 0.1]), draws[None] + 0.1
    second = np.array([hardness.mean()]), draws[None]
    found = seeded_difference(first, second)
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    alone = seeded_interval(*second)
    assert alone.high - alone.low > 0.1


def test_what_both_methods_owe_to_the_same_weights_cancels():
    # Three trainings of very different quality; the second method is 0.1 better with each.
    draws = np.repeat([[0.2], [0.5], [0.9]], 1000, axis=1)
    first = draws[:, 0] + 0.1, draws + 0.1
    found = seeded_difference(first, (draws[:, 0], draws), same_trainings=True)
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    apart = seeded_difference(first, (draws[:, 0], draws))
    assert apart.low < 0 < apart.high
    with pytest.raises(ValueError, match="same ones"):
        seeded_difference(first, (draws[:2, 0], draws[:2]), same_trainings=True)


def test_the_interval_of_a_difference_holds_what_it_promises():
    # 300 experiments with 4 seeds and 30 sequences; the true difference is 0.05.
    rng = np.random.default_rng(2)
    times = times_drawn(30, 400)
    held = 0
    for _ in range(300):
        hardness = rng.normal(0, 0.2, size=30)
        own = [hardness + 0.1 * rng.normal(size=30) for _ in range(2)]
        methods = []
        for place, offset in ((0, 0.05), (1, 0.0)):
            seeds = rng.normal(0, 0.03, size=(4, 1)) + 0.05 * rng.normal(size=(4, 30))
            scores = own[place] + offset + seeds
            methods.append((scores.mean(axis=1), scores @ times.T / 30))
        found = seeded_difference(*methods)
        held += found.low <= 0.05 <= found.high
    assert 0.90 <= held / 300 <= 0.99


def test_components_of_variance_worked_by_hand():
    # Seeds differ by 2 on every sequence: means 2 and 4, variance 2; nothing is left of a seed on a
    # sequence. The differences per sequence, 2 and 4, have variance 2.
    first = np.array([[1.0, 3.0], [3.0, 5.0]])
    found = variances_of_difference(first, np.zeros((2, 2)))
    assert found == Variances(sequences=2.0, seeds=2.0, both=0.0)


def test_noise_is_not_taken_for_a_difference_between_sequences():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, 40, 500))
    found = variances_of_difference(first, second)
    assert found.both == pytest.approx(2.0, rel=0.05)
    assert found.sequences < 0.02
    assert found.seeds < 0.02


def test_how_many_it_takes_worked_by_hand():
    # z_0.975 + z_0.8 = 1.95996 + 0.84162 = 2.80158. A difference of 0.0280158 allows a variance of
    # 1e-4. On 20 sequences 0.001 / 20 = 5e-5 is spent, which leaves 5e-5 for the seeds: 4e-4 / 5e-5 = 8.
    variances = Variances(sequences=1e-3, seeds=4e-4, both=0.0)
    found = needed(0.02801586, variances, sequences=20, seeds=8)
    assert found.seeds == 8
    # With 8 seeds 5e-5 is spent; 1e-3 / 5e-5 = 20 sequences.
    assert found.sequences == 20


def test_no_number_of_seeds_helps_where_the_sequences_are_too_few():
    variances = Variances(sequences=1e-2, seeds=1e-6, both=0.0)
    found = needed(0.01, variances, sequences=20, seeds=3)
    assert found.seeds is None
    assert found.sequences == math.ceil(1e-2 / ((0.01 / 2.801585) ** 2 - 1e-6 / 3))


def test_bad_scores_are_refused():
    with pytest.raises(ValueError, match="finite"):
        over_seeds(np.array([[math.nan]]))
    with pytest.raises(ValueError, match="same ones"):
        seeded_difference((np.ones(1), np.ones((1, 3))), (np.ones(1), np.ones((1, 4))))
    with pytest.raises(ValueError, match="two seeds"):
        variances_of_difference(np.ones((1, 4)), np.ones((2, 4)))
