from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from datamodules.domains import DomainDataModule, DomainSampling, ProceduralDomains
from datamodules.procedural import ProceduralSource
from lightning_trackers.batches import SceneBatch
from lightning_trackers.losses import BinaryCrossEntropy, FocalLoss, ShrinkageLoss
from lightning_trackers.methods.loading import load_tracker, save_weights
from lightning_trackers.methods.rtmdnet import RTMDNetModule, RTMDNetTracker
from lightning_trackers.online import OnlineSettings
from lightning_trackers.training import GeometricSchedule, Optimisation, Stage

RECIPE = {
    "network": {
        "_target_": "lightning_trackers.methods.rtmdnet.RTMDNet",
        "backbone": {
            "_target_": "lightning_trackers.backbones.VGGM",
            "widths": [6, 8, 12],
            "dense": True,
        },
        "hidden": 16,
    },
    "tracker": {
        "_target_": "lightning_trackers.methods.rtmdnet.RTMDNetTracker",
        "_partial_": True,
        "loss": {"_target_": "lightning_trackers.losses.ShrinkageLoss", "balanced": False},
        "settings": {"_target_": "lightning_trackers.online.OnlineSettings", "candidates": 16},
    },
}


def made(network, loss=None, **options):
    return RTMDNetModule(
        network,
        partial(RTMDNetTracker, loss=BinaryCrossEntropy(), settings=OnlineSettings()),
        Optimisation(
            partial(torch.optim.SGD, lr=1e-2, weight_decay=0.0),
            GeometricSchedule,
            reference_batch=1,
            stages=(Stage("network.head.fc6.", None),),
        ),
        loss,
        **options,
    )


def batch(domain=1):
    """Two scenes of different sizes, two positive and three negative samples in each."""
    generator = torch.Generator().manual_seed(0)
    scenes = tuple(
        torch.randint(0, 256, (3, h, w), generator=generator, dtype=torch.uint8)
        for h, w in ((260, 240), (230, 300))
    )
    corners = 20 + 80 * torch.rand(2, 5, 2, generator=generator)
    boxes = torch.cat([corners, corners + 107], dim=2)
    return SceneBatch(scenes, boxes[:, :2], boxes[:, 2:], torch.tensor(domain), "video")


def logits_of(m, samples):
    """Logits of all samples in all branches, one box at a time; positives first."""
    out = []
    for boxes in (samples.positives_xyxy, samples.negatives_xyxy):
        for scene, own in zip(samples.scenes, boxes, strict=True):
            for box in own:
                features = m.network.features(m.network.maps(scene[None]), box[None, None])[0]
                hidden = m.network.head.embed(features)[0]
                out.append(torch.stack([w @ hidden + b for w, b in
                                        zip(m.branches.weight, m.branches.bias, strict=True)]))  # fmt: skip
    return torch.stack(out)  # (N, K, 2)


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), FocalLoss(), ShrinkageLoss(balanced=False)])
def test_loss_is_that_of_the_own_branch_plus_the_embedding_over_all(network, loss):
    m = made(network, loss, embedding_weight=0.3).eval()
    m.make_branches(3)
    samples = batch(domain=2)
    found = m.losses(samples, torch.Generator())
    logits = logits_of(m, samples)
    labels = torch.tensor([1.0] * 4 + [0.0] * 6)
    own = loss(logits[:, 2, 1] - logits[:, 2, 0], labels)
    embedding = -logits[:4, :, 1].log_softmax(1)[:, 2].mean()
    torch.testing.assert_close(found["loss_cls"], own, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["loss_embedding"], embedding, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["loss"], own + 0.3 * embedding, atol=1e-5, rtol=1e-4)


def test_the_embedding_reaches_the_other_branches_target_scores_alone(network):
    m = made(network)
    m.make_branches(3)
    m.losses(batch(domain=1), torch.Generator())["loss"].backward()
    slopes = m.branches.weight.grad.abs().sum(2)  # (3, 2): domain, background or target
    assert (slopes[[0, 2], 1] > 0).all()
    assert (slopes[[0, 2], 0] == 0).all()
    assert (slopes[1] > 0).all()
    assert all(p.grad.abs().sum() > 0 for p in m.network.backbone.parameters())
    m.zero_grad()
    m.embedding_weight = 0.0
    m.losses(batch(domain=1), torch.Generator())["loss"].backward()
    assert (m.branches.weight.grad[[0, 2]] == 0).all()


@pytest.fixture
def trained(network, tmp_path):
    """One epoch of two batches of drawn scenes, validated on others; module, old weights, trainer."""
    m = made(network)
    m.recipe = RECIPE
    before = {n: p.detach().clone() for n, p in m.network.named_parameters()}

    def videos(split):
        source = ProceduralSource(split=split, plates=2, sprites=4)
        return {"drawn": ProceduralDomains(source, videos=2)}

    data = DomainDataModule(
        videos("train"),
        DomainSampling(frames=2, positives=4, negatives=6, scene_jitter=1.1),
        crops=False,
        val_sources=videos("val"),
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(tmp_path),
    )  # fmt: skip
    trainer.fit(m, data)
    return m, before, trainer


def test_training_moves_all_but_a_new_target_s_layer_and_checkpoints_load(trained, tmp_path):
    m, before, trainer = trained
    for name, value in m.network.named_parameters():
        moved = not torch.equal(value, before[name])
        assert moved == (not name.startswith("head.fc6")), name
    assert trainer.callback_metrics["val/accuracy"].isfinite()
    assert trainer.callback_metrics["val/loss"] > 0
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    tracker = load_tracker(tmp_path / "run.ckpt", {"candidates": 8})
    assert tracker.settings.candidates == 8
    assert type(tracker.loss).__name__ == "ShrinkageLoss"
    assert not tracker.loss.balanced
    torch.testing.assert_close(tracker.head.fc4.weight, m.network.head.fc4.weight.detach())
    save_weights(tmp_path / "run.ckpt", tmp_path / "small.pt")
    small = load_tracker(tmp_path / "small.pt")
    assert small.features.network.backbone.conv3[0].dilation == (3, 3)
