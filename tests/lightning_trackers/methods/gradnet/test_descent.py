import math

import pytest
import torch

from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.gradnet import iterations_to_converge

LOSS = BinaryCrossEntropy()


def by_hand(logit, step, remaining):
    """Descent on softplus(-s) of one positive cell, where a template step moves s by lr * |x|^2."""
    goal, count = remaining * math.log1p(math.exp(-logit)), 0
    while math.log1p(math.exp(-logit)) > goal:
        logit += step / (1 + math.exp(logit))
        count += 1
    return count


@pytest.mark.parametrize("lr", [0.5, 3.0])
def test_one_cell_equals_descent_on_a_number(lr):
    templates = torch.tensor([0.2, -0.4]).view(2, 1, 1, 1)
    searches = torch.tensor([2.0, 1.0]).view(2, 1, 1, 1)
    found = iterations_to_converge(
        templates, searches, torch.ones(2, 1, 1), loss=LOSS, lr=lr, response_scale=0.5, bias=0.1
    )
    # s = 0.5 * template * x + 0.1, so a step moves s by lr * (0.5 * x)^2 * sigmoid(-s).
    expected = [by_hand(0.3, lr * 1.0, 0.1), by_hand(-0.1, lr * 0.25, 0.1)]
    assert found == expected
    assert templates.flatten().tolist() == pytest.approx([0.2, -0.4])  # not changed


def test_a_rate_too_large_or_too_small_never_converges():
    # Two cells of one channel that pull apart: the loss keeps above ln 2.
    searches = torch.ones(1, 1, 1, 2)
    labels = torch.tensor([[[1, 0]]])
    options = {"loss": LOSS, "response_scale": 1.0, "max_iterations": 20}
    start = torch.ones(1, 1, 1, 1)
    assert iterations_to_converge(start, searches, labels, lr=0.5, **options) == [math.inf]
    easy = torch.tensor([[[1, 1]]])
    assert iterations_to_converge(start, searches, easy, lr=1e-6, **options) == [math.inf]
    assert iterations_to_converge(start, searches, easy, lr=50.0, **options) == [1]


def test_ranges_are_checked():
    one = torch.ones(1, 1, 1, 1)
    with pytest.raises(ValueError, match="remaining=1"):
        iterations_to_converge(one, one, one[0], loss=LOSS, lr=1.0, remaining=1)
