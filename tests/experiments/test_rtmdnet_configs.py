import pytest

from experiments.config import made
from tests.experiments.composing import composed


@pytest.mark.parametrize(
    ("exp", "loss"),
    [
        ("rtmdnet", "BinaryCrossEntropy"),
        ("rtmdnet_fl", "FocalLoss"),
        ("rtmdnet_sl", "ShrinkageLoss"),
    ],
)
def test_variants_learn_with_their_loss_offline_and_online(exp, loss):
    module = made(composed(f"+exp={exp}").module)
    assert type(module.loss).__name__ == type(module.tracker().loss).__name__ == loss
    assert not getattr(module.loss, "balanced", False)  # Eq. 17 and 18


@pytest.mark.parametrize("profile", ["laptop", "overnight", "paper"])
def test_features_are_dense_and_batches_are_scenes(profile, tmp_path):
    cfg = composed(
        "+exp=rtmdnet", f"profile={profile}", f"paths.vid_root={tmp_path}", "initial_weights=random"
    )
    assert made(cfg.module).network.backbone.stride == 8
    assert cfg.datamodule.crops is False
    assert cfg.datamodule.sampling.scene_jitter == 1.1


def test_the_published_numbers():
    module = made(composed("+exp=rtmdnet", "profile=paper", "initial_weights=random").module)
    network, settings = module.network, module.tracker().settings
    assert (network.pooled, network.padding, network.target_size) == (7, 1.2, 107)
    assert network.head.inputs == 4608
    assert module.embedding_weight == 0.1
    assert (settings.initial_lr, settings.update_lr) == (1e-4, 3e-4)
    assert (settings.initial_iterations, settings.update_iterations) == (50, 15)
    assert (settings.short_frames, settings.long_frames) == (20, 100)
    # A lost target is looked for in 1.4 times its size at once.
    assert (
        min(settings.translation * settings.translation_growth, settings.translation_limit) == 1.4
    )


@pytest.mark.parametrize("exp", ["mdnet", "rtmdnet"])
def test_videos_of_another_split_are_held_out(exp):
    data = made(composed(f"+exp={exp}").datamodule)
    assert data.val_batches == 16
    assert data.held_out[0].source_id.startswith("procedural/val/")
