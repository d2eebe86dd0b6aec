from math import exp, log

import pytest
import torch

from lightning_trackers.losses import instance_embedding_loss


def test_softmax_over_domains_by_hand():
    # Two samples of domain 1, three branches: -log(e^2 / (e^1 + e^2 + e^0)), -log(e^0 / (e^0 + e^0 + e^3)).
    scores = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    first = -log(exp(2) / (exp(1) + exp(2) + exp(0)))
    second = -log(1 / (1 + 1 + exp(3)))
    loss = instance_embedding_loss(scores, torch.tensor(1))
    assert loss.item() == pytest.approx((first + second) / 2)


def test_the_step_raises_the_own_score_and_lowers_the_others():
    scores = torch.zeros(1, 4, requires_grad=True)
    instance_embedding_loss(scores, torch.tensor(2)).backward()
    # Softmax less one-hot: 1/4 everywhere, less 1 at the own domain.
    torch.testing.assert_close(scores.grad, torch.tensor([[0.25, 0.25, -0.75, 0.25]]))


def test_one_domain_has_nothing_to_be_told_from():
    assert instance_embedding_loss(torch.randn(5, 1), torch.tensor(0)) == 0


def test_large_scores_in_half_precision_stay_finite():
    scores = torch.tensor([[60000.0, -60000.0]], dtype=torch.float16)
    assert instance_embedding_loss(scores, torch.tensor(1)).item() == pytest.approx(
        120000, rel=1e-3
    )


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"shape \(P, K\), got \(3,\)"):
        instance_embedding_loss(torch.zeros(3), torch.tensor(0))
