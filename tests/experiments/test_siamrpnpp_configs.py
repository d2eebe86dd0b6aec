from types import SimpleNamespace

import pytest
import torch

from experiments.config import made
from lightning_trackers.backbones import ResNet50, TinyResNet
from tests.experiments.composing import composed


@pytest.fixture
def paper():
    return composed("+exp=siamrpnpp_sl", "profile=paper", "initial_weights=random")


@pytest.mark.parametrize(
    ("exp", "loss", "all_proposals"),
    [
        ("siamrpnpp", "BinaryCrossEntropy", False),
        ("siamrpnpp_fl", "FocalLoss", True),
        ("siamrpnpp_sl", "ShrinkageLoss", True),
    ],
)
def test_variants_differ_as_the_paper_says(exp, loss, all_proposals):
    module = made(composed(f"+exp={exp}").module)
    assert isinstance(module.network.backbone, TinyResNet)
    assert type(module.loss).__name__ == loss
    labelling = module.labelling
    assert (labelling.max_samples is None) == all_proposals
    assert (labelling.negative_iou == labelling.positive_iou) == all_proposals


def test_constants_of_the_toolkit_s_r50_l234(paper):
    settings = paper.module.tracker.settings
    assert (settings.exemplar_size, settings.search_size) == (127, 255)
    assert settings.scale_penalty == 0.05
    assert settings.window_influence == 0.42
    assert settings.size_lr == 0.38
    assert paper.augmentation.search.shift == 64
    assert paper.augmentation.negative_share == 0.2
    assert paper.trainer.max_epochs == 20
    assert paper.module.box_weight == 1.2


def test_the_paper_s_stages_and_rates(paper, monkeypatch):
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", lambda tensor, **_: tensor)
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", lambda tensor, **_: tensor)
    module = made(paper.module)
    network, optimisation = module.network, module.optimisation
    assert isinstance(network.backbone, ResNet50)
    begin = {
        name: (stage.start_epoch, stage.lr_multiplier)
        for stage in optimisation.stages
        for name, _ in network.named_parameters()
        if name.startswith(stage.prefix)
    }
    for name, _ in network.backbone.named_parameters():
        later = name.startswith(("layer2", "layer3", "layer4"))
        assert begin[f"backbone.{name}"] == ((10, 0.1) if later else (None, 1.0))
    assert not any(name.startswith("head") for name in begin)

    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(batch_size=28), world_size=8, accumulate_grad_batches=1,
        max_epochs=20, estimated_stepping_batches=20,
    )  # fmt: skip
    made_of = optimisation.configure(network, trainer)
    rates = []
    for _ in range(20):
        rates.append([group["lr"] for group in made_of["optimizer"].param_groups])
        made_of["optimizer"].step()
        made_of["lr_scheduler"]["scheduler"].step()
    # Eight devices with 28 pairs each: the toolkit's sum of gradients is 8 times the average.
    head = [8 * value for value in (0.001, 0.005, 0.0005)]
    assert [rates[epoch][0] for epoch in (0, 5, 19)] == pytest.approx(head)
    assert [rate[1] for rate in rates[:10]] == [0] * 10
    assert [rate[1] for rate in rates[10:]] == pytest.approx([0.1 * rate[0] for rate in rates[10:]])
