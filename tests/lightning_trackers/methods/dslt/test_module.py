from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from callbacks.online_checkpoint import OnlineCheckpoint
from datamodules.nothing import NothingToTrain
from lightning_trackers.losses import ShrinkageRegressionLoss
from lightning_trackers.methods.dslt import DSLT, DSLTModule, DSLTSettings, DSLTTracker, TinyLevels
from lightning_trackers.methods.exporting import export_tracker
from lightning_trackers.methods.loading import SHIPPED, build, load_tracker, read_checkpoint
from tests.lightning_trackers.methods.dslt.drawn import video

RECIPE = {
    "network": {
        "_target_": "lightning_trackers.methods.dslt.DSLT",
        "backbone": {"_target_": "lightning_trackers.methods.dslt.TinyLevels"},
        "channels": 8,
    },
    "tracker": {
        "_target_": "lightning_trackers.methods.dslt.DSLTTracker",
        "_partial_": True,
        "loss": {"_target_": "lightning_trackers.losses.ShrinkageRegressionLoss"},
        "settings": {
            "_target_": "lightning_trackers.methods.dslt.DSLTSettings",
            "search_size": 263,
            "scale_size": 199,
            "initial_iterations": 20,
        },
    },
}


@pytest.fixture
def module():
    torch.manual_seed(0)
    made = DSLTModule(build(RECIPE["network"]), build(RECIPE["tracker"]))
    made.recipe = RECIPE
    return made


def test_shipped_features_are_the_package_s(module):
    module.load_initial_weights("shipped")
    _, weights = read_checkpoint(SHIPPED)
    for name, value in module.network.backbone.state_dict().items():
        torch.testing.assert_close(value, weights[f"backbone.{name}"])


def test_a_file_of_another_network_is_refused(tmp_path):
    made = DSLTModule(DSLT(TinyLevels(4, 8)), partial(DSLTTracker))
    with pytest.raises(ValueError, match=r"backbone of .*siamrpn_sl\.pt: weights of another arch"):
        made.load_initial_weights("shipped")
    with pytest.raises(FileNotFoundError, match="no such file"):
        made.load_initial_weights(str(tmp_path / "none.pth"))
    torch.save(TinyLevels(4, 9).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="ImageNet weights"):
        made.load_initial_weights(str(tmp_path / "other.pth"))
    torch.manual_seed(3)
    same = TinyLevels(4, 8)
    torch.save(same.state_dict(), tmp_path / "same.pth")
    made.load_initial_weights(str(tmp_path / "same.pth"))
    assert torch.equal(made.network.backbone.layers[0].weight, same.layers[0].weight)


def test_fitting_trains_nothing_and_leaves_a_checkpoint_that_tracks(module, tmp_path):
    module.load_initial_weights("shipped")
    before = {name: v.clone() for name, v in module.state_dict().items()}
    trainer = pl.Trainer(
        max_epochs=1, limit_train_batches=0, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        callbacks=[OnlineCheckpoint(tmp_path)],
    )  # fmt: skip
    trainer.fit(module, NothingToTrain())
    assert trainer.global_step == 0
    assert all(torch.equal(v, before[name]) for name, v in module.state_dict().items())
    frames, boxes = video(3)
    found = []
    for tracker in (module.tracker(), load_tracker(tmp_path / "last.ckpt")):
        state = tracker.start(frames[0], boxes[0])
        found.append([tracker.step([state], [frame])[0].box_xyxy for frame in frames[1:]])
    np.testing.assert_array_equal(*found)
    with pytest.raises(ValueError, match="DSLTTracker learns online"):
        export_tracker(tmp_path / "last.ckpt", tmp_path / "export")


def test_training_is_refused(module):
    with pytest.raises(RuntimeError, match="nothing is trained offline"):
        module.training_step(None, 0)


def test_a_checkpoint_of_what_is_trained_is_refused(module, tmp_path):
    module.network.backbone.requires_grad_(True)
    with pytest.raises(ValueError, match="expected nothing to train"):
        OnlineCheckpoint(tmp_path).on_fit_end(None, module)


def test_trackers_share_nothing_with_the_module(module):
    tracker = module.tracker()
    assert isinstance(tracker.loss, ShrinkageRegressionLoss)
    assert isinstance(tracker.settings, DSLTSettings)
    tracker.network.reduce_deep.weight.data.fill_(0)
    assert module.network.reduce_deep.weight.abs().max() > 0
