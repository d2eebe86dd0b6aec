"""What distinguishes DSLT's variants and profiles."""

import pytest
from omegaconf import OmegaConf

from experiments.config import ConfigError, made
from experiments.run import initialise
from tests.experiments.composing import checked, flat


def described(exp, *overrides):
    cfg = checked(f"+exp={exp}", *overrides)
    return flat(OmegaConf.to_container(cfg.module, resolve=True))


LOSS = "tracker.loss."


@pytest.mark.parametrize(
    ("exp", "base", "differences"),
    [
        ("dslt_mul", "dslt", {"network.connect_features": False}),
        ("dslt_star_no_importance", "dslt_star", {f"{LOSS}importance": False}),
        ("dslt_star_only_importance", "dslt_star", {f"{LOSS}modulate": False}),
        ("dslt_star_a10_c0.2", "dslt_star", {}),
        ("dslt_star_a6_c0.2", "dslt_star", {f"{LOSS}a": 6.0}),
        ("dslt_star_a10_c0.6", "dslt_star", {f"{LOSS}c": 0.6}),
        ("dslt_star_a6_c0.6", "dslt_star", {f"{LOSS}a": 6.0, f"{LOSS}c": 0.6}),
    ],
)
def test_a_variant_switches_what_the_ablation_says_and_nothing_else(exp, base, differences):
    whole, variant = described(base), described(exp)
    assert {k: v for k, v in variant.items() if whole[k] != v} == differences


@pytest.mark.parametrize(
    ("exp", "loss", "detail"),
    [
        ("dslt_star", "ShrinkageRegressionLoss", {"a": 10, "c": 0.2, "importance": True}),
        ("dslt_l2", "PowerLoss", {"gamma": 0}),
        ("dslt_l3", "PowerLoss", {"gamma": 1}),
        ("dslt_ohnm", "HardMiningLoss", {"threshold": 0.01}),
    ],
)
def test_losses_are_the_paper_s(exp, loss, detail):
    found = made(checked(f"+exp={exp}").module).tracker().loss
    assert type(found).__name__ == loss
    assert {name: getattr(found, name) for name in detail} == detail


@pytest.mark.parametrize(
    ("exp", "backbone", "widths"),
    [("dslt_star", "StridedResNet50", (512, 1024)), ("dslt", "VGG16", (512, 512))],
)
def test_the_paper_s_backbones(exp, backbone, widths):
    network = made(checked(f"+exp={exp}", "profile=paper", "initial_weights=random").module).network
    assert type(network.backbone).__name__ == backbone
    assert network.backbone.out_channels == widths
    assert network.channels == 128


def test_the_paper_asks_for_imagenet_weights_and_no_data():
    with pytest.raises(ConfigError, match=r"paths\.imagenet_weights"):
        checked("+exp=dslt_star", "profile=paper")
    cfg = checked("+exp=dslt_star", "profile=paper", "initial_weights=download")
    assert type(made(cfg.datamodule)).__name__ == "NothingToTrain"
    assert cfg.trainer.limit_train_batches == 0
    assert cfg.data_name == "none (learnt online)"


def test_the_laptop_s_features_are_the_package_s():
    cfg = checked("+exp=dslt_star")
    module = made(cfg.module)
    initialise(module, cfg.initial_weights)  # which fit, or this raises
    assert not any(p.requires_grad for p in module.parameters())


def test_figure_16_compares_the_paper_s_losses():
    cfg = checked("+exp=dslt/figure16", "benchmark=[procedural]")
    callback = made(cfg.callbacks)["figure16"]
    assert list(callback.losses) == ["l2", "l3", "ohnm", "shrinkage"]
    assert len(callback.benchmark) == cfg.validation_benchmark.count
