from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.config import CONF, ConfigError, check_choices, chosen_device, made
from tests.experiments.composing import checked, composed

EXPS = sorted(p.stem for p in (CONF / "exp").glob("*.yaml"))
# Every recipe of the overnight profile is the laptop's with other numbers.
PROFILES = ["laptop", pytest.param("overnight", marks=pytest.mark.slow), "paper"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("exp", EXPS)
def test_every_exp_composes_and_instantiates(exp, profile, tmp_path):
    cfg = checked(
        f"+exp={exp}",
        f"profile={profile}",
        f"paths.train_root={tmp_path}",
        "initial_weights=random",
    )
    module = made(cfg.module)
    assert module.tracker() is not None
    assert cfg.exp_name == exp
    if profile != "paper":  # whose data source looks into the folder
        assert made(cfg.datamodule).batch_size == cfg.datamodule.batch_size


@pytest.mark.parametrize(
    ("exp", "loss", "all_proposals"),
    [
        ("siamfc", "BinaryCrossEntropy", None),
        ("siamfc_fl", "FocalLoss", None),
        ("siamfc_sl", "ShrinkageLoss", None),
        ("siamrpn", "BinaryCrossEntropy", False),
        ("siamrpn_fl", "FocalLoss", True),
        ("siamrpn_sl", "ShrinkageLoss", True),
    ],
)
def test_variants_differ_as_the_paper_says(exp, loss, all_proposals):
    module = made(composed(f"+exp={exp}").module)
    assert type(module.loss).__name__ == loss
    if all_proposals is not None:
        labelling = module.labelling
        assert (labelling.max_samples is None) == all_proposals
        assert (labelling.negative_iou == labelling.positive_iou) == all_proposals


def test_the_paper_s_siamrpn_keeps_conv1_to_3_and_begins_conv4_and_5_at_epoch_10():
    module = made(composed("+exp=siamrpn", "profile=paper", "initial_weights=random").module)
    network, stages = module.network, module.optimisation.stages
    begin = {
        name: stage.start_epoch
        for stage in stages
        for name, _ in network.named_parameters()
        if name.startswith(stage.prefix)
    }
    for name, _ in network.backbone.named_parameters():
        layer = int(name.split(".")[1])
        assert begin[f"backbone.{name}"] == (10 if layer >= 11 else None)
    assert not any(name.startswith("head") for name in begin)


@pytest.mark.parametrize("loss", ["bce", "balanced_bce", "focal", "shrinkage"])
def test_losses_are_interchangeable(loss):
    assert made(composed("+exp=siamrpn_sl", f"loss={loss}").module).loss is not None


def test_the_head_of_equation_15_is_a_choice():
    module = made(composed("+exp=siamrpn_sl", "head=upchannel", "~head.hidden").module)
    assert type(module.network.head).__name__ == "UpChannelRPN"


@pytest.mark.parametrize("name", ["run", "evaluate", "track"])
def test_every_command_composes(name):
    assert composed("+exp=siamrpn_sl", name=name).exp_name == "siamrpn_sl"


def test_without_an_exp_the_method_names_the_run():
    assert composed("method=siamfc").exp_name == "siamfc"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("+modules.box_weight=2", "unknown key 'modules'; nearest: 'module'"),
        ("+module.box_wait=2", "unknown key 'box_wait' in module; nearest: 'box_weight'"),
        ("+loss.gama=2", "unknown key 'gama' in loss"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest(extra, message):
    with pytest.raises(ConfigError, match=message):
        checked("+exp=siamrpn_sl", extra)


def test_a_misspelt_key_in_an_exp_file_is_refused(tmp_path):
    folder = tmp_path / "exp"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\nmodule:\n  box_wieght: 2\n")
    with pytest.raises(ConfigError, match="'box_wieght' in module; nearest: 'box_weight'"):
        checked("+exp=mine", f"hydra.searchpath=[file://{tmp_path}]")


def test_a_path_that_is_needed_and_not_given_is_named():
    with pytest.raises(ConfigError, match=r"paths\.train_root.*TRACKERS_TRAIN_ROOT"):
        checked("+exp=siamfc", "profile=paper", "paths.train_root=null")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("+exp=siamrpn_ls", "nearest: 'siamrpn_sl'"),
        ("loss=shrink", "nearest: 'shrinkage'"),
        ("benchmark=[procedural,obt]", "nearest: 'otb'"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_nearest(argument, message):
    with pytest.raises(ConfigError, match=message):
        check_choices([argument])


def test_known_choices_and_other_arguments_pass():
    check_choices(["+exp=siamrpn_sl", "loss=focal", "seed=3", "-m", "benchmark=[procedural,otb]"])
    check_choices(["+exp=gradnet/table1", "table=gradnet/table3"])


def test_machine_paths_live_in_paths_alone():
    for file in Path(CONF).rglob("*.yaml"):
        if file.parent.name != "paths":
            assert "oc.env" not in file.read_text(), file


def test_lists_reach_constructors_as_plain_values():
    cfg = OmegaConf.create({"_target_": "builtins.dict", "a": [1, 2]})
    assert type(made(cfg)["a"]) is list


def test_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert chosen_device("auto").type == "cpu"
    with pytest.raises(ValueError, match="sees no GPU; use device=cpu"):
        chosen_device("cuda")


@pytest.mark.parametrize("exp", ["siamfc", "siamrpn", "siamrpnpp", "hnse", "gradnet", "mdnet", "rtmdnet", "sint"])  # fmt: skip
def test_overnight_trains_longer_than_the_laptop(exp):
    laptop, overnight = (checked(f"+exp={exp}", f"profile={p}") for p in ("laptop", "overnight"))
    assert overnight.trainer.max_epochs > laptop.trainer.max_epochs
