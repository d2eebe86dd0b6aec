import numpy as np
import pytest
import torch

from lightning_trackers.methods import load_tracker, read_checkpoint, save_weights
from lightning_trackers.methods.loading import build
from lightning_trackers.methods.siamrpn import SiamRPNTracker

RECIPE = {
    "network": {
        "_target_": "lightning_trackers.methods.siamrpn.SiamRPN",
        "backbone": {
            "_target_": "lightning_trackers.backbones.Tiny",
            "width": 4,
            "out_channels": 8,
        },
        "head": {
            "_target_": "lightning_trackers.heads.DepthwiseRPN",
            "_partial_": True,
            "hidden": 8,
        },
    },
    "tracker": {
        "_target_": "lightning_trackers.methods.siamrpn.SiamRPNTracker",
        "_partial_": True,
        "settings": {
            "_target_": "lightning_trackers.methods.siamrpn.SiamRPNSettings",
            "size_lr": 0.2,
        },
    },
}


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = build(RECIPE["network"])
    path = tmp_path / "last.ckpt"
    state = {f"network.{k}": v for k, v in network.state_dict().items()}
    torch.save({"recipe": RECIPE, "state_dict": state, "epoch": 3}, path)
    return path


def test_a_checkpoint_becomes_the_tracker_it_describes(checkpoint):
    tracker = load_tracker(checkpoint)
    assert isinstance(tracker, SiamRPNTracker)
    assert tracker.settings.size_lr == 0.2
    frame = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    state = tracker.start(frame, np.array([30, 30, 60, 70]))
    assert np.isfinite(tracker.step([state], [frame])[0].box_xyxy).all()


def test_settings_can_be_replaced_and_misspelt_ones_are_refused(checkpoint):
    assert load_tracker(checkpoint, {"size_lr": 0.5}).settings.size_lr == 0.5
    with pytest.raises(ValueError, match=r"unknown \['size_rl'\]"):
        load_tracker(checkpoint, {"size_rl": 0.5})


def test_saved_weights_are_half_as_large_and_give_nearly_the_same_network(checkpoint, tmp_path):
    small = tmp_path / "weights" / "small.pt"
    save_weights(checkpoint, small)
    _, full = read_checkpoint(checkpoint)
    recipe, half = read_checkpoint(small)
    assert recipe == RECIPE
    for name, value in full.items():
        torch.testing.assert_close(half[name], value, rtol=1e-3, atol=1e-6)
    assert all(v.dtype != torch.float16 for v in half.values())


def test_a_missing_file_names_those_that_are_there(checkpoint):
    with pytest.raises(FileNotFoundError, match=r"best.ckpt.*last.ckpt"):
        load_tracker(checkpoint.with_name("best.ckpt"))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"weights": 1}, path)
    with pytest.raises(ValueError, match="'recipe' and 'state_dict'"):
        load_tracker(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="not a file of weights"):
        load_tracker(path)


@pytest.mark.parametrize("target", ["os.system", "torch.nn.Linear", "lightning_trackers_evil.X"])
def test_recipes_may_name_classes_of_this_package_alone(target):
    with pytest.raises(ValueError, match="expected a class of lightning_trackers"):
        build({"_target_": target})


def test_recipes_may_not_call_functions():
    with pytest.raises(ValueError, match="not a class"):
        build({"_target_": "lightning_trackers.methods.loading.save_weights"})


def test_weights_of_another_architecture_name_what_differs(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    state = content["state_dict"]
    state["network.backbone.fc.weight"] = state.pop("network.backbone.layers.0.weight")
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match=r"last\.ckpt: weights of another architecture") as caught:
        load_tracker(checkpoint)
    assert "1 missing: backbone.layers.0.weight; 1 unexpected: backbone.fc.weight" in str(
        caught.value
    )
