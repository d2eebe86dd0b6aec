from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from datamodules.domains import DomainDataModule, DomainSampling, ProceduralDomains
from datamodules.procedural import ProceduralSource
from lightning_trackers.backbones import VGGM
from lightning_trackers.batches import DomainBatch
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.mdnet import MDNet, MDNetModule, MDNetTracker
from lightning_trackers.methods.mdnet.held_out import last_layer
from lightning_trackers.methods.mdnet.module import precision
from lightning_trackers.online import OnlineSettings
from lightning_trackers.training import GeometricSchedule, Optimisation, Stage


def samples(shift, count=40, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) < count // 4).float()
    x = torch.randn(count, width, generator=generator)
    x[:, 3] += shift * labels
    return 7 * x, labels


def test_it_is_the_minimum_of_regularised_logistic_regression():
    x, labels = samples(1.0)
    weight, bias = last_layer(x, labels, decay=0.05)
    length = x.square().sum(1).mean().sqrt()
    w = (weight * length).double().requires_grad_()
    b = bias.double().requires_grad_()
    logits = (x / length).double() @ w + b
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double())
    (cross_entropy + 0.05 / 2 * w.square().sum() + 0.0005 / 2 * b.square()).backward()
    assert w.grad.abs().max() < 1e-6  # float32 weights
    assert b.grad.abs() < 1e-6


def test_separable_and_equal_samples_have_a_solution():
    x, labels = samples(100.0)
    weight, bias = last_layer(x, labels)
    assert (((x @ weight + bias) > 0) == (labels == 1)).all()
    weight, bias = last_layer(torch.zeros(8, 3), torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0]))
    assert weight.isfinite().all()
    assert bias < 0


def test_precision_by_hand():
    # Two positives; the best two are numbers 1 and 2, of which one is positive.
    assert precision(torch.tensor([0.1, 0.9, 0.5]), torch.tensor([1.0, 0, 1])) == 0.5


class Shown(torch.nn.Module):
    """A backbone that says how bright and how red a crop is."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.01))

    def forward(self, images):
        return (images.mean((2, 3)) * self.scale)[..., None, None]


def module(backbone):
    network = MDNet(backbone, hidden=8, weight_std=0.5)
    return MDNetModule(
        network,
        partial(MDNetTracker, loss=BinaryCrossEntropy(), settings=OnlineSettings()),
        Optimisation(
            partial(torch.optim.SGD, lr=1e-2),
            GeometricSchedule,
            reference_batch=1,
            stages=(Stage("network.head.fc6.", None),),
        ),
    )


def crops(positive, negative):
    def of(values):
        return torch.stack([torch.full((3, 107, 107), v, dtype=torch.uint8) for v in values])

    return DomainBatch(of(positive), of(negative), torch.tensor(0), "video")


def test_features_that_separate_a_new_video_are_told_from_features_that_do_not():
    torch.manual_seed(0)
    m = module(Shown()).eval()
    apart = m.held_out(crops([200, 210, 205, 220], [20, 40, 10, 30, 50, 60]))
    assert apart["accuracy"] == 1
    assert apart["precision"] == 1
    # What is bright in the known half is dark in the other: what was learnt is wrong there.
    turned = m.held_out(crops([200, 210, 20, 30], [20, 30, 25, 200, 210, 205]))
    assert turned["accuracy"] < 0.2
    assert turned["loss"] > apart["loss"]


def test_validation_changes_nothing_and_needs_no_branch():
    torch.manual_seed(0)
    m = module(Shown())
    before = [p.clone() for p in m.parameters()]
    m.eval()
    with torch.inference_mode():
        m.held_out(crops([200, 210], [20, 40]))
    assert m.branches is None
    for p, old in zip(m.parameters(), before, strict=True):
        assert torch.equal(p, old)


def test_it_is_logged_for_videos_that_are_not_trained_on(tmp_path):
    torch.manual_seed(0)
    m = module(VGGM((4, 6, 8)))
    data = DomainDataModule(
        {"drawn": ProceduralDomains(ProceduralSource(plates=2, sprites=4), videos=2)},
        DomainSampling(frames=2, positives=4, negatives=6),
        val_sources={
            "drawn": ProceduralDomains(ProceduralSource(split="val", plates=2, sprites=4), videos=2)
        },
        batches_per_epoch=1,
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(tmp_path),
    )  # fmt: skip
    trainer.fit(m, data)
    found = trainer.callback_metrics
    assert 0 <= found["val/accuracy"] <= 1
    assert found["val/loss"] > 0
    assert found["val/precision"].isfinite()
    assert m.branches.weight.shape[0] == 2


def test_one_sample_cannot_be_learnt_and_judged():
    m = module(Shown()).eval()
    with pytest.raises(ValueError, match=r"at least two samples of each class, got 1 and 2"):
        m.held_out(crops([200], [20, 30]))
