import copy

import pytest
import torch

from lightning_trackers.losses import PowerLoss, RegressionLoss, ShrinkageRegressionLoss
from lightning_trackers.methods.dslt import Descent, Learner, Maps, Rates, Sample
from lightning_trackers.methods.dslt.learning import unit
from tests.lightning_trackers.methods.dslt.drawn import network

RATES = Rates(0.05, 1e-3)


class Scaled(RegressionLoss):
    """A loss times a factor: the sum over cells instead of the mean."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def cells(self, response, target):
        return self.factor * (response - target) ** 2


def learner(net, seed=0, kernel=(3, 5)):
    """A target that has learnt something before: random regressions."""
    generator = torch.Generator().manual_seed(seed)
    weights = net.initial_weights(kernel)
    for name in weights:
        if name.startswith("regress"):
            weights[name] = 0.01 * torch.randn(weights[name].shape, generator=generator)
    return Learner(weights)


def samples(count=3, seed=0, cells=(9, 11)):
    generator = torch.Generator().manual_seed(seed)
    return [
        Sample(
            Maps(*(torch.randn((6, *cells), generator=generator) for _ in range(2))),
            torch.rand(cells, generator=generator),
        )
        for _ in range(count)
    ]


def learn(net, learners, pools, loss=None, rates=RATES, steps=4):
    descent = Descent(net, learners, pools, loss or ShrinkageRegressionLoss(), rates)
    losses = [descent.step() for _ in range(steps)]
    return torch.stack(losses), descent.finish()


def test_steps_are_adam_s_on_the_objective_of_equation_7():
    net, own = network(), samples()
    target = learner(net)
    rates = Rates(0.05, 1e-3, weight_decay=2.0)
    leaves = {name: v.clone().requires_grad_() for name, v in target.weights.items()}
    inputs, cells = 8 * 3 * 5, 3 * 9 * 11
    groups = [
        {"params": [leaves[n]], "lr": 0.05 / inputs if n.startswith("regress") else 1e-3}
        for n in leaves
    ]
    adam = torch.optim.Adam(groups, eps=1e-8 / cells)
    loss = ShrinkageRegressionLoss()
    maps = Maps(*(torch.stack([s.maps[i] for s in own])[None] for i in (0, 1)))
    labels = torch.stack([s.label for s in own])[None]
    for _ in range(5):
        weights = {name: v[None] for name, v in leaves.items()}
        responses = net.responses(weights, net.reduced(weights, maps))
        # Eq. 7 divided by the number of cells: mean loss and lambda / cells.
        decay = 2.0 / cells * sum(v.square().sum() for v in leaves.values())
        adam.zero_grad()
        (loss(responses, labels) + decay).backward()
        adam.step()
    learn(net, [target], [own], rates=rates, steps=5)
    for name, value in target.weights.items():
        torch.testing.assert_close(value, leaves[name].detach(), rtol=1e-4, atol=1e-7)


def test_two_updates_go_on_with_adam_s_moments():
    net, own = network(), samples()
    once, twice = learner(net), learner(net)
    learn(net, [once], [own], steps=6)
    learn(net, [twice], [own], steps=2)
    learn(net, [twice], [own], steps=4)
    assert (once.steps, twice.steps, twice.updates) == (6, 6, 2)
    for name, value in once.weights.items():
        torch.testing.assert_close(value, twice.weights[name], rtol=1e-5, atol=1e-8)


def test_the_sum_over_cells_takes_the_same_steps_as_the_mean():
    # What the conversion of the paper's rates says of Adam.
    net, own = network(), samples()
    mean, total = learner(net), learner(net)
    learn(net, [mean], [own], PowerLoss())
    learn(net, [total], [own], Scaled(3.0 * 9 * 11))
    for name, value in mean.weights.items():
        torch.testing.assert_close(value, total.weights[name], rtol=1e-3, atol=1e-6)


def test_a_step_changes_no_response_by_more_than_the_rate_times_its_inputs():
    net, own = network(), samples(1)
    own[0] = Sample(Maps(*(torch.ones(6, 9, 11) for _ in range(2))), own[0].label * 0 + 1)
    target = Learner(net.initial_weights((3, 5)))
    descent = Descent(net, [target], [own], PowerLoss(), Rates(0.05, 0.0, 0.0))
    descent.step()
    before = descent.responses
    descent.step()
    reduced = net.reduced(descent.weights, Maps(*(m[None, None] for m in own[0].maps)))
    mean = float(sum(m.abs().mean() for m in reduced))  # of both regressions' inputs
    change = (descent.responses - before)[0, 0, 4, 5]
    assert 0 < float(change) == pytest.approx(0.05 * mean, rel=1e-3)


def test_only_what_may_learn_changes():
    net, own = network(), samples()
    before = {name: v.clone() for name, v in net.state_dict().items()}
    for reduction in (1e-3, 0.0):
        target = learner(net)
        start = {name: v.clone() for name, v in target.weights.items()}
        learn(net, [target], [own], rates=Rates(0.05, reduction))
        changed = {n for n, v in target.weights.items() if not torch.equal(v, start[n])}
        regress = {"regress_fused", "regress_deep"}
        assert changed == (set(start) if reduction else regress)
    assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items())
    assert all(torch.equal(a.label, b.label) for a, b in zip(own, samples(), strict=True))


@pytest.mark.parametrize("reduction", [1e-3, 0.0])
def test_targets_learn_together_as_they_learn_alone(reduction):
    net = network()
    pools = [samples(seed=i) for i in range(4)]
    together = [learner(net, seed=i) for i in range(4)]
    together[2].steps = 0
    learn(net, [together[1]], [pools[3]])  # one has a history
    alone = copy.deepcopy(together)
    rates = Rates(0.05, reduction)
    losses, _ = learn(net, together, pools, rates=rates)
    for i, target in enumerate(alone):
        own, _ = learn(net, [target], [pools[i]], rates=rates)
        torch.testing.assert_close(losses[:, i], own[:, 0])
        for name, value in target.weights.items():
            torch.testing.assert_close(together[i].weights[name], value, rtol=1e-3, atol=1e-6)


def test_learning_brings_the_loss_down():
    net, own = network(), samples(1)
    losses, _ = learn(net, [learner(net)], [own], steps=60)
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("where", ["features", "label"])
def test_an_update_that_is_not_finite_is_taken_back_and_counted(where):
    net = network()
    pools = [samples(seed=i) for i in range(3)]
    spoilt = pools[1][2]
    (spoilt.maps.deep if where == "features" else spoilt.label)[..., 4, 4] = float("nan")
    targets = [learner(net, seed=i) for i in range(3)]
    before = copy.deepcopy(targets)
    _, counts = learn(net, targets, pools)
    assert counts == [True, False, True]
    assert [t.failed for t in targets] == [0, 1, 0]
    assert [t.updates for t in targets] == [1, 1, 1]
    for name, value in before[1].weights.items():
        assert torch.equal(targets[1].weights[name], value)
    assert targets[1].moments == ({}, {})
    alone = copy.deepcopy(before[0])
    learn(net, [alone], [pools[0]])
    torch.testing.assert_close(targets[0].weights, alone.weights, rtol=1e-3, atol=1e-6)


def test_units_make_features_of_any_size_the_same():
    maps = samples(1)[0].maps
    shallow, deep = unit(Maps(maps.shallow * 300, maps.deep / 50))
    assert float((maps.shallow * 300 / shallow).abs().mean()) == pytest.approx(1)
    assert float((maps.deep / 50 / deep).abs().mean()) == pytest.approx(1)
    assert unit(Maps(torch.zeros(1, 2, 2), torch.ones(1, 2, 2))) == (1.0, 1.0)


def test_negative_rates_are_refused():
    with pytest.raises(ValueError, match="no negative value"):
        Rates(-0.1, 0.0)
