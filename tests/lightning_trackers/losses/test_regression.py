import math

import pytest
import torch

from lightning_trackers.losses import (
    HardMiningLoss,
    PowerLoss,
    ShrinkageRegressionLoss,
)

LOSSES = {
    "l2": PowerLoss(),
    "l3": PowerLoss(1.0),
    "ohnm": HardMiningLoss(),
    "shrinkage": ShrinkageRegressionLoss(),
    "no_importance": ShrinkageRegressionLoss(importance=False),
    "only_importance": ShrinkageRegressionLoss(modulate=False),
}

# l = 0.3 under the label 0.5, from below and from above; l = 0.2 = c under the label 1;
# l = 0.005 in the background.
TARGET = torch.tensor([0.5, 0.5, 1.0, 0.0])
RESPONSE = torch.tensor([0.2, 0.8, 0.8, -0.005])
AT_3 = 1 / (1 + math.exp(-1))  # 1 / (1 + exp(10 * (0.2 - 0.3)))
AT_005 = 1 / (1 + math.exp(1.95))  # 1 / (1 + exp(10 * (0.2 - 0.005)))


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("l2", [0.09, 0.09, 0.04, 0.000025]),
        ("l3", [0.027, 0.027, 0.008, 0.000000125]),
        ("ohnm", [0.09, 0.09, 0.04, 0.0]),
        (
            "shrinkage",  # exp(Y) l^2 / (1 + exp(a (c - l)))
            [math.exp(0.5) * 0.09 * AT_3] * 2
            + [math.e * 0.04 * 0.5, 0.000025 * AT_005],
        ),
        ("no_importance", [0.09 * AT_3, 0.09 * AT_3, 0.04 * 0.5, 0.000025 * AT_005]),
        ("only_importance", [math.exp(0.5) * 0.09] * 2 + [math.e * 0.04, 0.000025]),
    ],
)  # fmt: skip
def test_equations_by_hand(name, cells):
    response, target = RESPONSE.double(), TARGET.double()
    assert LOSSES[name].cells(response, target).tolist() == pytest.approx(cells, rel=1e-5)
    assert LOSSES[name](response, target).item() == pytest.approx(sum(cells) / 4, rel=1e-5)


def test_the_grid_s_values_move_the_sigmoid():
    # a = 6, c = 0.6: at l = 0.3 the factor is 1 / (1 + exp(6 * 0.3)).
    loss = ShrinkageRegressionLoss(a=6, c=0.6, importance=False)
    expected = 0.09 / (1 + math.exp(1.8))
    assert loss(torch.tensor([0.3]), torch.zeros(1)).item() == pytest.approx(expected, rel=1e-5)


def test_shrinkage_keeps_hard_cells_and_shrinks_easy_ones():
    loss = LOSSES["no_importance"]
    l = torch.tensor([0.02, 0.1, 0.5, 0.9])  # noqa: E741  the paper's letter
    kept = loss.cells(l, torch.zeros(4)) / l**2
    assert kept[0] < 0.15
    assert kept[1] < 0.3
    assert kept[2] > 0.95  # "keeps the loss from hard samples (l > 0.5) unchanged"
    assert kept[3] > 0.99
    cubic = LOSSES["l3"].cells(l, torch.zeros(4)) / l**2
    assert cubic[2] == pytest.approx(0.5)  # which L3 halves


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_point_away_from_the_label_and_agree_with_differences(name):
    # The sign of an overshoot counts: the released code's hand-written gradient ignores it.
    response = RESPONSE.double().requires_grad_()
    loss = LOSSES[name]
    (gradient,) = torch.autograd.grad(loss(response, TARGET.double()), response)
    hard = [0, 1, 2]
    assert (gradient.sign()[hard] == (response - TARGET).detach().sign()[hard]).all()
    step = 1e-6
    for i in range(4):
        moved = response.detach().clone()
        moved[i] += step
        above = loss(moved, TARGET.double())
        moved[i] -= 2 * step
        slope = (above - loss(moved, TARGET.double())) / (2 * step)
        assert gradient[i].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extremes_are_finite(name, dtype):
    response = torch.tensor([0.0, -100.0, 100.0, 1.0], dtype=dtype, requires_grad=True)
    target = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=dtype)
    loss = LOSSES[name](response, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert response.grad.isfinite().all()
    assert response.grad[[0, 3]].abs().max() == 0  # a perfect response teaches nothing


@pytest.mark.parametrize("name", LOSSES)
def test_rows_are_the_losses_of_each_target(name):
    generator = torch.Generator().manual_seed(0)
    response, target = torch.rand((2, 3, 2, 5, 4), generator=generator)
    loss = LOSSES[name]
    rows = loss.rows(response, target)
    assert rows.tolist() == pytest.approx(
        [loss(r, y).item() for r, y in zip(response, target, strict=True)]
    )


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(1, 2\) and \(1, 3\)"):
        PowerLoss()(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="gamma >= 0"):
        PowerLoss(-1)
    with pytest.raises(ValueError, match="threshold >= 0"):
        HardMiningLoss(-0.1)
    with pytest.raises(ValueError, match="a > 0"):
        ShrinkageRegressionLoss(a=0)
