import copy

import numpy as np
import pytest
import torch

from lightning_trackers.losses import BinaryCrossEntropy, GradientSensitiveLoss
from lightning_trackers.online import (
    Learner,
    Pool,
    TargetHead,
    UpdateSettings,
    hardest,
    update,
    updating,
)
from lightning_trackers.online.head import copied_weights, logits_together, stacked
from lightning_trackers.online.updating import _passes, _Plan

SMALL = UpdateSettings(positives=8, negatives=12, candidates=40)


def head_and_targets(count=3, dropout=0.5):
    torch.manual_seed(0)
    head = TargetHead(6, 10, dropout, weight_std=0.3)
    learners, pools = [], []
    for t in range(count):
        learner = Learner(copied_weights(head), np.random.default_rng(t), {})
        learner.weights["fc6.weight"] += 0.01 * t
        learners.append(learner)
        pools.append(Pool(torch.randn(20 + t, 6) + 1, torch.randn(60 + 5 * t, 6) - 1))
    return head, learners, pools


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), GradientSensitiveLoss()])
@pytest.mark.parametrize("generated", [0, 5])
def test_targets_learn_together_what_they_learn_alone(loss, generated):
    settings = UpdateSettings(positives=8, negatives=12, candidates=40, generated=generated)
    head, together, pools = head_and_targets()
    alone = copy.deepcopy(together)
    for _ in range(2):  # the second with momentum
        update(head, together, pools, loss, 6, 0.05, settings)
        for learner, pool in zip(alone, pools, strict=True):
            update(head, [learner], [pool], loss, 6, 0.05, settings)
    for one, other in zip(together, alone, strict=True):
        for name, value in one.weights.items():
            torch.testing.assert_close(value, other.weights[name], atol=1e-5, rtol=1e-5)
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.rng.random() == other.rng.random()


def test_large_heads_learn_one_after_another_on_the_cpu(monkeypatch):
    groups = []
    mine = updating._mine

    def counted(head, weights, *rest):
        groups.append(len(weights["fc6.weight"]))
        mine(head, weights, *rest)

    monkeypatch.setattr(updating, "_mine", counted)
    head, learners, pools = head_and_targets()
    update(head, learners, pools, BinaryCrossEntropy(), 1, 0.05, SMALL)
    monkeypatch.setattr(updating, "_LARGE_HEAD", 10)
    update(head, learners, pools, BinaryCrossEntropy(), 1, 0.05, SMALL)
    assert groups == [3, 1, 1, 1]


def test_without_mining_it_is_torch_s_sgd():
    # As many candidates as negatives, no dropout: ordinary SGD on known mini-batches.
    settings = UpdateSettings(positives=4, negatives=6, candidates=6, gradient_clip=0.05)
    head, learners, pools = head_and_targets(1, dropout=0.0)
    reference = copy.deepcopy(head)
    reference.load_state_dict(learners[0].weights)
    last = [p for n, p in reference.named_parameters() if n.startswith("fc6")]
    rest = [p for n, p in reference.named_parameters() if not n.startswith("fc6")]
    sgd = torch.optim.SGD(
        [{"params": rest}, {"params": last, "lr": 0.2}], lr=0.02, momentum=0.9, weight_decay=5e-4
    )
    rng = copy.deepcopy(learners[0].rng)
    positives = _passes(rng, len(pools[0].positives), 5, 4)
    negatives = _passes(rng, len(pools[0].negatives), 5, 6)
    for i in range(5):
        x = torch.cat([pools[0].positives[positives[i]], pools[0].negatives[negatives[i]]])
        log_p = reference(x).log_softmax(1)
        loss = -(log_p[:4, 1].sum() + log_p[4:, 0].sum()) / 10
        sgd.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.05)
        sgd.step()
    update(head, learners, pools, BinaryCrossEntropy(), 5, 0.02, settings)
    for name, value in reference.named_parameters():
        torch.testing.assert_close(learners[0].weights[name], value.detach(), atol=1e-6, rtol=1e-5)


def test_the_hardest_candidates_are_those_with_the_highest_target_logit():
    head, learners, _ = head_and_targets(2)
    candidates = torch.randn(2, 30, 6)
    found = hardest(head, stacked([x.weights for x in learners]), candidates, 7)
    for t, learner in enumerate(learners):
        own = copy.deepcopy(head)
        own.load_state_dict(learner.weights)
        scores = own(candidates[t])[:, 1]
        expected = candidates[t][scores.argsort(descending=True)[:7]]
        torch.testing.assert_close(found[t], expected)


def test_learning_tells_target_and_background_apart_and_leaves_the_offline_head_alone():
    head, learners, pools = head_and_targets(2)
    before = copied_weights(head)
    update(head, learners, pools, BinaryCrossEntropy(), 60, 0.05, SMALL)
    for learner, pool in zip(learners, pools, strict=True):
        weights = stacked([learner.weights])
        margin = [
            logits_together(head, weights, x[None])[0].diff(dim=1).mean()
            for x in (pool.positives, pool.negatives)
        ]
        assert margin[0] > 0 > margin[1]
        assert learner.updates == 1
    for name, value in head.named_parameters():
        assert torch.equal(value, before[name])


def test_dropout_keeps_its_share_of_the_hidden_values():
    head, learners, pools = head_and_targets(1, dropout=0.25)
    plan = _Plan.draw(head, learners[0].rng, pools[0], 50, SMALL)
    assert plan.kept.shape == (50, 2, 20, 10)
    assert float(plan.kept.float().mean()) == pytest.approx(0.75, abs=0.01)


def test_dropped_values_reach_nothing():
    head, _, _ = head_and_targets(1)
    features, kept = torch.randn(4, 6), torch.ones(4, 10)
    kept[:, 3] = 0
    changed = copy.deepcopy(head)
    with torch.no_grad():
        changed.fc5.weight[:, 3] += 7
        changed.fc6.weight[:, 3] += 7
    torch.testing.assert_close(changed(features, (kept, kept)), head(features, (kept, kept)))
    assert not torch.allclose(changed(features), head(features))


def test_an_update_that_is_not_finite_is_taken_back_and_counted():
    head, learners, pools = head_and_targets(2)
    before = copy.deepcopy(learners[1].weights)
    learners[1].velocity = {n: torch.zeros_like(v) for n, v in before.items()}
    pools[1].positives[3, 2] = float("nan")
    update(head, learners, pools, BinaryCrossEntropy(), 4, 0.05, SMALL)
    assert [x.failed for x in learners] == [0, 1]
    assert learners[1].velocity == {}
    for name, value in before.items():
        assert torch.equal(learners[1].weights[name], value)
        assert not torch.equal(learners[0].weights[name], value)


def test_every_sample_is_dealt_before_any_comes_again():
    dealt = _passes(np.random.default_rng(0), 10, 6, 4).flatten()
    assert sorted(dealt[:10]) == list(range(10))
    assert sorted(dealt[10:20]) == list(range(10))


def test_an_empty_pool_is_refused():
    head, learners, pools = head_and_targets(1)
    with pytest.raises(ValueError, match="got 20 and 0"):
        update(
            head,
            learners,
            [Pool(pools[0].positives, torch.zeros(0, 6))],
            BinaryCrossEntropy(),
            1,
            0.1,
            SMALL,
        )


@pytest.mark.parametrize(
    "bad",
    [{"positives": 0}, {"negatives": 2000}, {"generated": -1}, {"generated": 4, "positives": 1}],
)
def test_counts_are_checked(bad):
    with pytest.raises(ValueError, match="update: expected"):
        UpdateSettings(**bad)
