from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from datamodules.domains import DomainDataModule, DomainSampling, ProceduralDomains
from datamodules.procedural import ProceduralSource
from lightning_trackers.backbones import VGGM
from lightning_trackers.batches import DomainBatch
from lightning_trackers.crops import crop_box
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.loading import load_tracker, write_checkpoint
from lightning_trackers.methods.mdnet import CropFeatures, MDNet, MDNetModule, MDNetTracker
from lightning_trackers.online import OnlineSettings, SampleSettings, UpdateSettings
from lightning_trackers.training import GeometricSchedule, Optimisation, Stage

SAMPLES = SampleSettings(20, 40, 6, 12, regression_samples=20)
SETTINGS = OnlineSettings(
    16, best=2, initial_iterations=2, update_iterations=1, samples=SAMPLES,
    update=UpdateSettings(4, 8, 16),
)  # fmt: skip
STAGES = (
    Stage("network.head.fc4.", 0, 10.0),
    Stage("network.head.fc5.", 0, 10.0),
    Stage("branches.", 0, 10.0),
    Stage("network.head.fc6.", None),
)


def network():
    torch.manual_seed(0)
    return MDNet(VGGM((4, 6, 8)), hidden=10, weight_std=0.1)


def module(stages=STAGES):
    return MDNetModule(
        network(),
        partial(MDNetTracker, loss=BinaryCrossEntropy(), settings=SETTINGS),
        Optimisation(
            partial(torch.optim.SGD, lr=1e-2, weight_decay=0.0),
            GeometricSchedule,
            reference_batch=1,
            stages=stages,
        ),
    )


def batch(domain=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    crops = torch.randint(0, 256, (24, 3, 107, 107), generator=generator, dtype=torch.uint8)
    return DomainBatch(crops[:8], crops[8:], torch.tensor(domain), "video 1")


def test_only_the_domain_s_branch_and_the_shared_layers_get_a_gradient():
    m = module()
    m.make_branches(3)
    m.losses(batch(domain=1), torch.Generator())["loss"].backward()
    gradients = m.branches.weight.grad.abs().sum((1, 2))
    assert gradients[1] > 0
    assert gradients[0] == gradients[2] == 0
    assert all(p.grad.abs().sum() > 0 for p in m.network.backbone.parameters())
    assert m.network.head.fc4.weight.grad.abs().sum() > 0
    assert m.network.head.fc6.weight.grad is None


def test_loss_is_softmax_cross_entropy_over_all_samples():
    m = module().eval()
    m.make_branches(3)
    samples = batch(domain=2)
    found = m.losses(samples, torch.Generator())
    features = m.network.features(torch.cat([samples.positives, samples.negatives]))
    hidden = m.network.head.embed(features)
    logits = hidden @ m.branches.weight[2].T + m.branches.bias[2]
    log_p = logits.log_softmax(1)
    expected = -(log_p[:8, 1].sum() + log_p[8:, 0].sum()) / 24
    torch.testing.assert_close(found["loss"], expected)
    best = logits[:, 1].argsort(descending=True)[:8]
    assert found["precision"] == (best < 8).float().mean()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One epoch of two batches over three procedural videos; the module before and after."""
    torch.manual_seed(0)
    m = module()
    before = {n: p.detach().clone() for n, p in m.network.named_parameters()}
    data = DomainDataModule(
        {"drawn": ProceduralDomains(ProceduralSource(plates=2, sprites=4), videos=3)},
        DomainSampling(frames=1, positives=4, negatives=6),
        val_sources={"drawn": ProceduralDomains(ProceduralSource(split="val"), videos=1)},
        batches_per_epoch=2,
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=str(tmp_path_factory.mktemp("run")),
    )  # fmt: skip
    trainer.fit(m, data)
    return m, before, trainer


def test_training_moves_shared_layers_but_not_a_new_target_s(trained):
    m, before, _ = trained
    assert m.branches.weight.shape == (3, 2, 10)
    for name, value in m.network.named_parameters():
        moved = not torch.equal(value, before[name])
        assert moved == (not name.startswith("head.fc6")), name


def test_fully_connected_layers_and_branches_learn_ten_times_as_fast(trained):
    m, _, trainer = trained
    owner = {id(p): g["lr"] for g in trainer.optimizers[0].param_groups for p in g["params"]}
    assert owner[id(m.network.backbone.conv1[0].weight)] == pytest.approx(1e-2)
    for p in (m.network.head.fc4.weight, m.network.head.fc5.bias, m.branches.weight):
        assert owner[id(p)] == pytest.approx(1e-1)
    assert id(m.network.head.fc6.weight) not in owner


def test_features_are_those_of_the_crops_less_128_whatever_the_grouping():
    net = network().eval()
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (90, 120, 3), dtype=np.uint8) for _ in range(2)]
    boxes = [np.array([[10.0, 10, 40, 50], [60, 20, 100, 60]]), np.array([[0.0, 5, 30, 30]])]
    found = CropFeatures(net, padding=16, batch_size=2).features(frames, boxes)
    assert [len(f) for f in found] == [2, 1]
    crop = crop_box(frames[1], boxes[1][0], 107, 16, np.full(3, 128.0))
    image = torch.from_numpy(crop).permute(2, 0, 1)[None].float() - 128
    with torch.no_grad():
        torch.testing.assert_close(found[1], net.backbone(image).flatten(1), atol=1e-5, rtol=1e-4)


def test_tracker_leaves_the_module_alone_and_starts_from_its_weights():
    m = module()
    tracker = m.tracker()
    frame = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    state = tracker.start(frame, np.array([30.0, 30, 60, 55]))
    prediction = tracker.step([state], [frame])[0]
    assert np.isfinite(prediction.box_xyxy).all()
    assert not torch.equal(state.learner.weights["fc4.weight"], m.network.head.fc4.weight)
    for one, other in zip(network().parameters(), m.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_checkpoints_load_without_branches(tmp_path):
    recipe = {
        "network": {
            "_target_": "lightning_trackers.methods.mdnet.MDNet",
            "backbone": {"_target_": "lightning_trackers.backbones.VGGM", "widths": [4, 6, 8]},
            "hidden": 10,
        },
        "tracker": {
            "_target_": "lightning_trackers.methods.mdnet.MDNetTracker",
            "_partial_": True,
            "loss": {"_target_": "lightning_trackers.losses.GradientSensitiveLoss"},
            "settings": {
                "_target_": "lightning_trackers.online.OnlineSettings",
                "candidates": 16,
                "update": {"_target_": "lightning_trackers.online.UpdateSettings", "generated": 64},
            },
        },
    }
    own = network()
    write_checkpoint(tmp_path / "weights.pt", recipe, own.state_dict())
    tracker = load_tracker(tmp_path / "weights.pt", {"candidates": 8})
    assert tracker.settings.candidates == 8
    assert tracker.settings.update.generated == 64
    assert type(tracker.loss).__name__ == "GradientSensitiveLoss"
    torch.testing.assert_close(tracker.head.fc4.weight, own.head.fc4.weight)


def test_py_mdnet_s_shared_layers_are_taken(tmp_path):
    theirs = network()
    shared = {n: v + 1 for n, v in theirs.backbone.state_dict().items()}
    shared |= {"fc4.0.weight": theirs.head.fc4.weight + 1, "fc4.0.bias": theirs.head.fc4.bias + 1}
    shared |= {"fc5.1.weight": theirs.head.fc5.weight + 1, "fc5.1.bias": theirs.head.fc5.bias + 1}
    shared = {n: v.detach() for n, v in shared.items()}
    torch.save({"shared_layers": shared}, tmp_path / "mdnet.pth")
    m = module()
    m.load_initial_weights(tmp_path / "mdnet.pth")
    assert torch.equal(m.network.backbone.conv2[0].weight, shared["conv2.0.weight"])
    assert torch.equal(m.network.head.fc5.bias, shared["fc5.1.bias"])
    torch.save({"shared_layers": {**shared, "fc4.0.bias": torch.zeros(3)}}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="another architecture"):
        m.load_initial_weights(tmp_path / "bad.pth")
    torch.save(network().backbone.state_dict(), tmp_path / "vgg_m.pth")
    m.load_initial_weights(tmp_path / "vgg_m.pth")
    assert torch.equal(m.network.backbone.conv2[0].weight, theirs.backbone.conv2[0].weight)
