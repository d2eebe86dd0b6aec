"""What distinguishes GradNet's variants, readings and profiles."""

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from experiments.config import ConfigError, made
from tests.experiments.composing import checked, flat

VARIANTS = [
    "gradnet",
    "gradnet_no_generalization",
    "gradnet_no_generalization_no_gradient",
    "gradnet_no_update",
    "gradnet_unshared_u1",
]


@pytest.mark.parametrize(
    ("exp", "differences"),
    [
        ("gradnet_no_generalization", {"videos": 1}),
        (
            "gradnet_no_generalization_no_gradient",
            {"videos": 1, "network.gradient": False, "tracker.settings.update_interval": 0},
        ),
        ("gradnet_no_update", {"tracker.settings.update_interval": 0}),
        ("gradnet_unshared_u1", {"network.shared_u1": False}),
    ],
)
def test_a_variant_switches_what_the_ablation_says_and_nothing_else(exp, differences):
    whole, variant = (
        flat(OmegaConf.to_container(checked(f"+exp={name}").module, resolve=True))
        for name in ("gradnet", exp)
    )
    assert {k: v for k, v in variant.items() if whole[k] != v} == differences


@pytest.mark.parametrize("profile", ["laptop", "paper"])
@pytest.mark.parametrize("exp", VARIANTS)
def test_everything_but_the_embedding_learns(exp, profile):
    paper = ["initial_weights=random", "paths.train_root=x"] if profile == "paper" else []
    network = made(checked(f"+exp={exp}", f"profile={profile}", *paper).module).network
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad != name.startswith("backbone."), name


@pytest.mark.parametrize(
    ("exp", "profile"), [*((exp, "laptop") for exp in VARIANTS), ("gradnet", "overnight")]
)
def test_the_embedding_is_the_siamfc_of_the_same_profile(exp, profile):
    cfg, siamfc = (checked(f"+exp={name}", f"profile={profile}") for name in (exp, "siamfc"))
    stage = OmegaConf.to_container(cfg.pipeline, resolve=True)["siamfc"]
    alone = OmegaConf.to_container(siamfc, resolve=True)
    tracker = stage["module"].pop("tracker")
    own = alone["module"].pop("tracker")
    assert stage["module"] == alone["module"]
    assert stage["datamodule"] == alone["datamodule"]
    assert stage["max_epochs"] == alone["trainer"]["max_epochs"]
    assert instantiate(tracker["settings"]) == instantiate(own["settings"])
    assert cfg.stages == ["siamfc", "tracker"]
    assert cfg.initial_weights.endswith("stages/siamfc/last.ckpt")


def test_a_trained_siamfc_takes_the_stage_s_place():
    cfg = checked(
        "+exp=gradnet", "~pipeline.siamfc", "stages=[tracker]", "initial_weights=siamfc.ckpt"
    )
    assert cfg.pipeline == {}
    assert cfg.initial_weights == "siamfc.ckpt"


def test_the_readings_differ_as_documented():
    paper = checked("+exp=gradnet", "profile=paper", "data=procedural", "initial_weights=random")
    released = checked(
        "+exp=gradnet", "profile=paper", "data=procedural", "initial_weights=random",
        "reading=released",
    )  # fmt: skip
    assert (paper.module.videos, released.module.videos) == (4, 8)
    assert (paper.datamodule.batch_size, released.datamodule.batch_size) == (4, 8)
    assert (paper.geometry.search_size, released.geometry.search_size) == (255, 239)
    assert made(released.module).network.f2 is not None
    assert made(paper.module).network.f2 is None
    assert paper.optimizer.lr == 0.01
    assert paper.trainer.max_epochs == 50


def test_the_paper_s_recipe_asks_for_a_siamfc():
    with pytest.raises(ConfigError, match=r"paths\.siamfc_weights"):
        checked("+exp=gradnet", "profile=paper", "data=procedural")


@pytest.mark.parametrize(
    ("exp", "callback"),
    [("gradnet/table1", "template_descent"), ("gradnet/figures", "score_maps")],
)
def test_the_experiments_make_their_callbacks(exp, callback):
    cfg = checked(f"+exp={exp}")
    assert cfg.exp_name == exp
    assert made(cfg.callbacks)[callback] is not None
    assert made(cfg.module) is not None
