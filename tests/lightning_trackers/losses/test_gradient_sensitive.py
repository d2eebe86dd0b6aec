import pytest
import torch

from lightning_trackers.losses import BinaryCrossEntropy, GradientSensitiveLoss, gradient_density


def logit(*probabilities):
    return torch.logit(torch.tensor(probabilities, dtype=torch.float64))


def by_hand(logits, labels, epsilon):
    """Eq. 5-11, sample by sample."""
    p = torch.sigmoid(logits).tolist()
    y = labels.tolist()
    g = [a - b for a, b in zip(p, y, strict=True)]  # Eq. 6
    total = 0.0
    for x in range(len(g)):
        same = [k for k in range(len(g)) if y[k] == y[x]]
        near = sum(g[x] - epsilon / 2 <= g[k] < g[x] + epsilon / 2 for k in same)  # Eq. 8
        weight = len(same) / (near / epsilon)  # Eq. 7, 10, 11
        ce = -torch.log(torch.tensor(p[x] if y[x] else 1 - p[x], dtype=torch.float64))  # Eq. 5
        total += weight * float(ce)
    return total / len(g)


def test_weights_of_four_samples_worked_by_hand():
    # Positives p = .9, .88, .2: g = -.1, -.12, -.8. With epsilon .1 the first two lie in each other's
    # window: D = 2 / .1 = 20, lambda = 3 / 20 = .15; the hard one: D = 10, lambda = .3.
    # One negative p = .9: g = .9, D = 10, lambda = 1 / 10 = .1.
    weights = GradientSensitiveLoss(0.1).weights(
        logit(0.9, 0.88, 0.2, 0.9)[None], torch.tensor([[1, 1, 1, 0]])
    )
    torch.testing.assert_close(weights, torch.tensor([[0.15, 0.15, 0.3, 0.1]], dtype=torch.float64))


@pytest.mark.parametrize("epsilon", [1 / 30, 0.2, 3.0])
def test_loss_is_that_of_the_equations_one_by_one(epsilon):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(60, generator=generator, dtype=torch.float64)
    labels = (torch.rand(60, generator=generator) < 0.4).long()
    found = GradientSensitiveLoss(epsilon)(logits, labels)
    assert float(found) == pytest.approx(by_hand(logits, labels, epsilon), rel=1e-9)


def test_the_window_is_closed_below_and_open_above():
    gradients = torch.tensor([[0.0, 0.25, 0.5]], dtype=torch.float64)  # exact in binary
    counted = torch.ones(1, 3, dtype=torch.bool)
    # epsilon .5: [g - .25, g + .25). 0 sees itself alone (.25 is excluded), .25 sees 0 and itself,
    # .5 sees .25 and itself.
    found = gradient_density(gradients, counted, 0.5)
    torch.testing.assert_close(found, torch.tensor([[2.0, 4.0, 4.0]], dtype=torch.float64))


def test_a_class_is_not_counted_in_the_density_of_the_other():
    # p = .5: both have |g| = .5, and signs apart. With a window wider than everything all positives
    # weigh N_pos / (N_pos / epsilon) = epsilon, whatever the negatives are.
    weights = GradientSensitiveLoss(4.0).weights(torch.zeros(1, 5), torch.tensor([[1, 0, 0, 0, 0]]))
    torch.testing.assert_close(weights, torch.full((1, 5), 4.0))


def test_hard_samples_weigh_more_than_many_easy_ones():
    logits = torch.tensor([[-5.0] * 20 + [2.0]])
    weights = GradientSensitiveLoss().weights(logits, torch.zeros(1, 21, dtype=torch.long))
    assert weights[0, -1] == pytest.approx(20 * float(weights[0, 0]))


def test_no_gradient_flows_through_the_weights():
    logits = torch.tensor([0.3, -1.0, 2.0, 0.2], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 0, 0, 1])
    loss = GradientSensitiveLoss(0.3)
    loss(logits, labels).backward()
    # With constant weights the gradient is lambda * (p - y) / N.
    weights = loss.weights(logits[None], labels[None])[0]
    expected = weights * (torch.sigmoid(logits) - labels) / 4
    torch.testing.assert_close(logits.grad, expected.detach())


def test_ignored_samples_change_nothing():
    logits, labels = torch.tensor([0.5, -1.0, 3.0]), torch.tensor([1, 0, 0])
    more = torch.cat([logits, torch.tensor([0.5, -1.0])])
    ignored = torch.cat([labels, torch.tensor([-1, -1])])
    loss = GradientSensitiveLoss()
    torch.testing.assert_close(loss(more, ignored), loss(logits, labels))
    assert loss(more, torch.full((5,), -1)) == 0


def test_rows_are_independent_and_any_shape_is_flattened():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 16, generator=generator)
    labels = torch.randint(0, 2, (3, 16), generator=generator)
    loss = GradientSensitiveLoss(0.2)
    alone = torch.stack([loss(x, y) for x, y in zip(logits, labels, strict=True)])
    torch.testing.assert_close(loss.rows(logits, labels), alone)
    torch.testing.assert_close(
        loss(logits[0].view(4, 4), labels[0].view(4, 4)), loss(logits[0], labels[0])
    )


def test_unit_mean_is_cross_entropy_where_all_samples_of_a_class_are_alike():
    logits, labels = torch.tensor([1.0, 1.0, -2.0, -2.0, -2.0]), torch.tensor([1, 1, 0, 0, 0])
    found = GradientSensitiveLoss(unit_mean=True)(logits, labels)
    torch.testing.assert_close(found, BinaryCrossEntropy()(logits, labels))


def test_bad_arguments():
    with pytest.raises(ValueError, match="epsilon > 0, got 0"):
        GradientSensitiveLoss(0)
    with pytest.raises(ValueError, match="one shape"):
        GradientSensitiveLoss().rows(torch.zeros(1, 3), torch.zeros(1, 4))
