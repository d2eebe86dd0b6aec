import numpy as np
import pytest
import torch

from lightning_trackers.online import BoxRegression, ridge
from lightning_trackers.online.box_regression import box_changes


def penalised_least_squares(x, y, alpha):
    """Ridge as ordinary least squares with sqrt(alpha) * I appended to centred data."""
    middle, level = x.mean(0), y.mean(0)
    rows = np.concatenate([x - middle, np.sqrt(alpha) * np.eye(x.shape[1])])
    wanted = np.concatenate([y - level, np.zeros((x.shape[1], y.shape[1]))])
    weight = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    return weight, level - middle @ weight


@pytest.mark.parametrize(("n", "d"), [(40, 6), (6, 40), (12, 12)])
@pytest.mark.parametrize("alpha", [0.5, 1000.0])
def test_ridge_is_penalised_least_squares(n, d, alpha):
    rng = np.random.default_rng(0)
    x, y = rng.normal(1.0, 2.0, (n, d)), rng.normal(size=(n, 4))
    weight, bias = ridge(torch.from_numpy(x), torch.from_numpy(y), alpha)
    expected = penalised_least_squares(x, y, alpha)
    np.testing.assert_allclose(weight.numpy(), expected[0], atol=1e-10)
    np.testing.assert_allclose(bias.numpy(), expected[1], atol=1e-10)


def test_changes_by_hand():
    # A box of 10 x 20 at centre (5, 10); the target has centre (8, 6) and size 20 x 10: the shift is
    # 3 / 10 and -4 / 20 of its sides, the growth log 2 and log 1/2.
    found = box_changes(torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([-2.0, 1, 18, 11]))
    np.testing.assert_allclose(found[0], [0.3, -0.2, np.log(2), -np.log(2)], rtol=1e-6)


def test_what_is_linear_is_learnt_and_boxes_come_back_to_the_target():
    rng = np.random.default_rng(0)
    target = torch.tensor([40.0, 30, 80, 90], dtype=torch.float64)
    boxes = target + torch.from_numpy(rng.normal(0, 3, (60, 4)))
    features = box_changes(boxes, target) @ torch.from_numpy(rng.normal(size=(4, 9)))
    regression = BoxRegression.fit(features[:50], boxes[:50], target, alpha=1e-8)
    found = regression(features[50:], boxes[50:])
    torch.testing.assert_close(found, target.expand(10, 4), atol=1e-3, rtol=0)


def test_a_heavy_penalty_leaves_the_mean_change():
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10]], dtype=torch.float64)
    target = torch.tensor([1.0, 0, 11, 10], dtype=torch.float64)
    regression = BoxRegression.fit(torch.tensor([[1.0], [2.0]]).double(), boxes, target, 1e12)
    torch.testing.assert_close(regression(torch.tensor([[1.0]]).double(), boxes[:1]), boxes[:1])


def test_penalty_must_be_positive():
    with pytest.raises(ValueError, match="alpha > 0"):
        ridge(torch.zeros(2, 2), torch.zeros(2, 4), 0.0)


def test_without_an_intercept_the_line_goes_through_the_origin():
    # One feature, wanted 1 + 2 x: by hand w = sum(x y) / (sum(x x) + alpha).
    x = torch.tensor([[1.0], [2.0], [3.0]])
    y = 1 + 2 * x
    weight, bias = ridge(x, y, 1.0, intercept=False)
    torch.testing.assert_close(weight, torch.tensor([[(3 + 10 + 21) / (14 + 1)]]))
    assert bias.item() == 0
    assert ridge(x, y, 1.0)[1].item() != 0
