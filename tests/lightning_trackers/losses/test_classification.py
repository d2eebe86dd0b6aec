from math import exp, log, log1p

import pytest
import torch

from lightning_trackers.losses import BinaryCrossEntropy, FocalLoss, ShrinkageLoss
from lightning_trackers.losses.classification import class_shares

LOSSES = [
    BinaryCrossEntropy(),
    BinaryCrossEntropy(balanced=True),
    FocalLoss(),
    FocalLoss(gamma=0.5),
    ShrinkageLoss(),
    ShrinkageLoss(importance=False),
    ShrinkageLoss(modulate=False),
]
# One positive and three negatives with p = .8, .5, .2, .1, so p_t = .8, .5, .8, .9.
PROBABILITIES = (0.8, 0.5, 0.2, 0.1)
LOGITS = torch.tensor([log(p / (1 - p)) for p in PROBABILITIES], dtype=torch.float64)
LABELS = torch.tensor([1, 0, 0, 0])


def test_bce_is_the_mean_negative_log_likelihood():
    expected = -(log(0.8) + log(0.5) + log(0.8) + log(0.9)) / 4
    assert BinaryCrossEntropy()(LOGITS, LABELS).item() == pytest.approx(expected, abs=1e-12)


def test_balanced_bce_weighs_each_class_by_the_share_of_the_other():
    # Eq. 10: positives weigh 3/4 (share of negatives), negatives 1/4; their sum is 6/4.
    expected = -(0.75 * log(0.8) + 0.25 * (log(0.5) + log(0.8) + log(0.9))) / 1.5
    loss = BinaryCrossEntropy(balanced=True)(LOGITS, LABELS)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_focal_loss_of_equation_11():
    terms = [0.75 * 0.2**2 * log(0.8)] + [
        0.25 * (1 - p_t) ** 2 * log(p_t) for p_t in (0.5, 0.8, 0.9)
    ]
    assert FocalLoss(gamma=2)(LOGITS, LABELS).item() == pytest.approx(-sum(terms) / 1.5, abs=1e-12)
    assert FocalLoss(gamma=2, alpha=0.5)(LOGITS, LABELS).item() == pytest.approx(
        -0.5 * sum(terms) / 1.5, abs=1e-12
    )


@pytest.mark.parametrize(("importance", "modulate"), [(True, True), (False, True), (True, False)])
def test_shrinkage_loss_of_equation_14(importance, modulate):
    def weight(p_t):
        value = exp(p_t) if importance else 1.0
        return value / (1 + exp(10 * (p_t - 0.6))) if modulate else value

    terms = [0.75 * weight(0.8) * log(0.8)] + [
        0.25 * weight(p_t) * log(p_t) for p_t in (0.5, 0.8, 0.9)
    ]
    loss = ShrinkageLoss(importance=importance, modulate=modulate)(LOGITS, LABELS)
    assert loss.item() == pytest.approx(-sum(terms) / 1.5, abs=1e-12)


def test_shrinkage_drops_easy_samples_and_keeps_hard_ones():
    weight = ShrinkageLoss(a=10, c=0.6).weight(torch.tensor([0.95, 0.4, 0.1]))
    assert weight[0] < 0.1
    assert weight[1] > 1  # where the focal loss keeps (1 - 0.4) ** 2 = 36 %
    assert weight[2] > 1


def test_focal_loss_keeps_36_percent_at_p_t_of_0_4():
    logit = torch.tensor([log(0.4 / 0.6)], dtype=torch.float64)
    label = torch.tensor([1])
    kept = FocalLoss(gamma=2)(logit, label) / BinaryCrossEntropy()(logit, label)
    assert kept.item() == pytest.approx(0.36, abs=1e-12)


def test_focal_loss_with_gamma_0_is_the_balanced_cross_entropy():
    balanced = BinaryCrossEntropy(balanced=True)(LOGITS, LABELS)
    torch.testing.assert_close(FocalLoss(gamma=0)(LOGITS, LABELS), balanced)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_finite_differences(loss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, dtype=torch.float64, generator=generator) * 2
    labels = torch.randint(-1, 2, (3, 7), generator=generator)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits.requires_grad_())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_finite_and_learning_at_extreme_logits(loss, dtype):
    logits = torch.tensor([100.0, -100.0, 100.0, -100.0], dtype=dtype, requires_grad=True)
    labels = torch.tensor([1, 0, 0, 1])
    value = loss(logits, labels)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    # The two samples that are wrong by 100 still pull towards their labels.
    assert logits.grad[2] > 0 > logits.grad[3]


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_samples_change_nothing(loss):
    logits = torch.cat([LOGITS, torch.tensor([5.0, -3.0])])
    labels = torch.cat([LABELS, torch.tensor([-1, -1])])
    torch.testing.assert_close(loss(logits, labels), loss(LOGITS, LABELS))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_still_teaches(loss, label):
    logits = torch.zeros(4, requires_grad=True)
    loss(logits, torch.full((4,), label)).backward()
    assert (logits.grad * (0.5 - label) > 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_counted_gives_zero_and_a_zero_gradient(loss):
    logits = torch.zeros(4, requires_grad=True)
    value = loss(logits, torch.full((4,), -1))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_symmetric_under_exchange_of_the_classes(loss):
    torch.testing.assert_close(loss(-LOGITS, 1 - LABELS), loss(LOGITS, LABELS))


def test_value_at_zero_logit_is_log_2():
    assert BinaryCrossEntropy()(torch.zeros(1), torch.ones(1)).item() == pytest.approx(log1p(1))


def test_class_shares_of_equation_10():
    shares = class_shares(torch.tensor([True, False, False, False]))
    torch.testing.assert_close(shares, torch.tensor([0.75, 0.25, 0.25, 0.25]))


def test_equation_18_by_hand():
    # p = 0.5 and p = 0.9 of positives, p = 0.8 of a negative (p_t = 0.2); no class weights, 1 / N.
    logits = torch.tensor([0.0, log(0.9 / 0.1), log(0.8 / 0.2)])
    terms = [-exp(p) / (1 + exp(10 * (p - 0.6))) * log(p) for p in (0.5, 0.9, 0.2)]
    loss = ShrinkageLoss(a=10, c=0.6, balanced=False)(logits, torch.tensor([1, 1, 0]))
    assert loss.item() == pytest.approx(sum(terms) / 3, rel=1e-5)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        BinaryCrossEntropy()(torch.zeros(2), torch.zeros(3))


def test_options_are_checked_at_construction():
    with pytest.raises(ValueError, match="gamma"):
        FocalLoss(gamma=-1)
    with pytest.raises(ValueError, match="a > 0"):
        ShrinkageLoss(a=0)
