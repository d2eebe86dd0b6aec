from math import exp, log

import pytest
import torch

from lightning_trackers.losses import DetectionFocalLoss


def test_by_hand():
    # p_t = 1/2: alpha_t * 1/4 * ln 2, with alpha_t = 1/4 for the target and 3/4 for background.
    loss = DetectionFocalLoss()
    assert loss(torch.zeros(1), torch.ones(1)).item() == pytest.approx(log(2) / 16)
    assert loss(torch.zeros(2), torch.tensor([1, 0])).item() == pytest.approx(log(2) / 4)
    # Two positives, p_t = 0.9 each: 2 * 0.25 * 0.01 * -ln 0.9, divided by two.
    logits = torch.full((2,), log(9.0))
    assert loss(logits, torch.ones(2)).item() == pytest.approx(-0.0025 * log(0.9), rel=1e-5)


def test_without_a_positive_the_sum_counts():
    expected = 0.75 * (1 / (1 + exp(-1))) ** 2 * log(1 + exp(1))
    loss = DetectionFocalLoss()(torch.ones(3), torch.zeros(3))
    assert loss.item() == pytest.approx(3 * expected, rel=1e-5)


def test_ignored_samples_do_not_count():
    logits = torch.tensor([0.3, -2.0, 5.0])
    loss = DetectionFocalLoss()
    assert loss(logits, torch.tensor([1, 0, -1])) == loss(logits[:2], torch.tensor([1, 0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_stay_finite(dtype):
    logits = torch.tensor([100.0, -100, 100, -100], dtype=dtype, requires_grad=True)
    loss = DetectionFocalLoss()(logits, torch.tensor([1, 1, 0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx((0.25 * 100 + 0.75 * 100) / 2)
    assert logits.grad.isfinite().all()


def test_options_and_shapes_are_checked():
    with pytest.raises(ValueError, match=r"alpha in \(0, 1\)"):
        DetectionFocalLoss(alpha=1)
    with pytest.raises(ValueError, match="of one shape"):
        DetectionFocalLoss()(torch.zeros(2), torch.zeros(3))
