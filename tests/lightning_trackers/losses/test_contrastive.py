import pytest
import torch

from lightning_trackers.losses import ContrastiveLoss

EXEMPLAR = torch.zeros(2)


def loss(vectors, labels, margin=2.0):
    return ContrastiveLoss(margin)(torch.tensor(vectors), EXEMPLAR, torch.tensor(labels)).item()


def test_by_hand():
    assert loss([[3.0, 4.0]], [1]) == pytest.approx(25)  # d = 5
    assert loss([[0.6, 0.8]], [0]) == pytest.approx(1)  # d = 1: (2 - 1) ** 2
    assert loss([[0.0, 0.0]], [0]) == pytest.approx(4)
    assert loss([[3.0, 4.0], [0.6, 0.8], [0.0, 0.0]], [1, 0, 0]) == pytest.approx(30 / 3)


def test_it_is_0_beyond_the_margin():
    assert loss([[1.5, 2.0]], [0]) == 0  # d = 2.5
    assert loss([[1.5, 2.0]], [0], margin=3.0) == pytest.approx(0.25)


def test_places_that_are_not_counted_leave_the_mean_alone():
    assert loss([[3.0, 4.0], [9.0, 9.0]], [1, -1]) == pytest.approx(25)
    assert loss([[3.0, 4.0]], [-1]) == 0


def test_slopes_pull_the_same_together_and_push_others_apart():
    vectors = torch.tensor([[0.6, 0.8], [0.6, 0.8], [3.0, 4.0]], requires_grad=True)
    ContrastiveLoss()(vectors, EXEMPLAR, torch.tensor([1, 0, 0])).backward()
    # d ** 2: 2 x; (2 - d) ** 2: -2 (2 - d) x / d; beyond the margin nothing. N = 3.
    expected = torch.tensor([[1.2, 1.6], [-1.2, -1.6], [0, 0]]) / 3
    torch.testing.assert_close(vectors.grad, expected)


def test_equal_vectors_have_a_finite_slope():
    vectors = torch.zeros(2, 2, requires_grad=True)
    ContrastiveLoss()(vectors, EXEMPLAR, torch.tensor([1, 0])).backward()
    assert torch.equal(vectors.grad, torch.zeros(2, 2))


def test_the_margin_is_positive():
    with pytest.raises(ValueError, match="margin > 0, got 0"):
        ContrastiveLoss(0)


def test_squared_margin_by_hand():
    # Distances 0.6 and 2: max(0, 1 - 0.36) = 0.64 and max(0, 1 - 4) = 0; together they count 0.36.
    a = torch.tensor([[0.0], [0.0], [0.0]])
    b = torch.tensor([[0.6], [2.0], [0.6]])
    labels = torch.tensor([0, 0, 1])
    loss = ContrastiveLoss(margin=1.0, squared=True)
    torch.testing.assert_close(loss(a, b, labels), torch.tensor((0.64 + 0 + 0.36) / 3))
    # The same pairs with the margin on the distance: 0.4 squared in place of 0.64.
    plain = ContrastiveLoss(margin=1.0)(a, b, labels)
    torch.testing.assert_close(plain, torch.tensor((0.16 + 0 + 0.36) / 3))
