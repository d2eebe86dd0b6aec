from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lightning_trackers.backbones import Tiny
from lightning_trackers.batches import PairBatch
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.gradnet import (
    GradNet,
    GradNetModule,
    GradNetSettings,
    GradNetTracker,
)
from lightning_trackers.methods.loading import load_tracker, write_checkpoint
from lightning_trackers.methods.siamfc import SiamFC, response_labels
from lightning_trackers.siamese import normalise
from lightning_trackers.training import GeometricSchedule, Optimisation

LOSS = BinaryCrossEntropy(balanced=True)


def made(videos=2, settings=None, **options):
    torch.manual_seed(0)
    return GradNetModule(
        GradNet(Tiny(2, 4), BinaryCrossEntropy(balanced=True), **options),
        partial(GradNetTracker, settings=settings or GradNetSettings()),
        Optimisation(
            partial(torch.optim.SGD, lr=1e-2, weight_decay=1e-2),
            partial(GeometricSchedule, end_factor=0.1),
            reference_batch=4,
        ),
        videos=videos,
    )


def batch(count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor([[100.0, 100, 155, 155], [90, 110, 150, 170]]).repeat(count, 1)[:count]
    return PairBatch(
        torch.randint(0, 256, (count, 3, 127, 127), generator=generator, dtype=torch.uint8),
        torch.randint(0, 256, (count, 3, 255, 255), generator=generator, dtype=torch.uint8),
        boxes,
        torch.ones(count, dtype=torch.bool),
        [f"video {i}" for i in range(count)],
        torch.tensor([[40.0, 40, 87, 87]]).repeat(count, 1),
    )


def labels_of(pairs):
    return response_labels(
        pairs.search_boxes_xyxy, pairs.is_positive, cells=17, stride=8, search_size=255, radius=16
    )


def test_a_group_s_first_exemplar_meets_the_search_regions_of_all_its_videos():
    module, pairs = made(videos=2).train(), batch()
    network, labels = module.network, labels_of(pairs)
    losses = module.losses(pairs, torch.Generator())
    expected = []
    for first in (0, 2):
        features = network.exemplar(normalise(pairs.exemplars[first : first + 1]))
        searches = network.search(normalise(pairs.searches[first : first + 2]))
        wanted = labels[first : first + 2]
        adapted = network.adapt(features, searches, wanted)
        for search, label in zip(searches, wanted, strict=True):
            scores = network.score_map(search[None], adapted.template)
            expected.append(LOSS(scores[0], label))  # l(S*_i, Y_i), Eq. 9
    torch.testing.assert_close(losses["loss"], torch.stack(expected).mean())
    # The other exemplars are not looked at.
    exemplars = pairs.exemplars.clone()
    exemplars[1::2] = 0
    again = module.losses(pairs._replace(exemplars=exemplars), torch.Generator())
    assert torch.equal(again["loss"], losses["loss"])


def test_without_generalization_every_exemplar_meets_its_own_region():
    module, pairs = made(videos=1).train(), batch()
    alone = [
        module.losses(PairBatch._make(part[i : i + 1] for part in pairs), torch.Generator())["loss"]
        for i in range(4)
    ]
    together = module.losses(pairs, torch.Generator())["loss"]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_without_the_gradient_the_loss_is_that_of_the_initial_template():
    module, pairs = made(videos=1, gradient=False).train(), batch()
    network = module.network
    template = network.u1(network.exemplar(normalise(pairs.exemplars)))
    scores = network.score_map(network.search(normalise(pairs.searches)), template)
    expected = network.map_losses(scores, labels_of(pairs)).mean()
    found = module.losses(pairs, torch.Generator())
    torch.testing.assert_close(found["loss"], expected)
    assert "initial_loss" not in found


def test_the_initial_loss_is_logged_per_region():
    pairs = batch()
    summed = made(region_reduction="sum").train().losses(pairs, torch.Generator())
    averaged = made(region_reduction="mean").train().losses(pairs, torch.Generator())
    torch.testing.assert_close(summed["initial_loss"], averaged["initial_loss"])


def test_only_the_update_branch_learns():
    module = made(shared_u1=False).train()
    module.losses(batch(), torch.Generator())["loss"].backward()
    learning = {n.split(".")[0] for n, p in module.network.named_parameters() if p.grad is not None}
    assert learning == {"u1", "u1_after", "u2"}
    for name, parameter in module.network.named_parameters():
        assert parameter.requires_grad != name.startswith("backbone."), name


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode])
def test_validation_computes_the_training_loss_without_gradients(grad_mode):
    module, pairs = made().train(), batch()
    expected = module.losses(pairs, torch.Generator())["loss"].detach()
    module.eval()
    with grad_mode():
        found = module.losses(PairBatch._make(map(copied, pairs)), torch.Generator())["loss"]
    torch.testing.assert_close(found, expected)


def copied(part):
    return part.clone() if isinstance(part, torch.Tensor) else list(part)


def test_a_batch_that_does_not_divide_into_groups_is_refused():
    module = made(videos=3).train()
    with pytest.raises(ValueError, match=r"videos=3 pairs, got 4 pairs.*datamodule\.batch_size"):
        module.losses(batch(), torch.Generator())
    module.eval()  # the last batch of validation is cut
    assert module.losses(batch(), torch.Generator())["loss"].isfinite()


def test_ranges_are_checked():
    with pytest.raises(ValueError, match="videos=0"):
        made(videos=0)


class Pairs(pl.LightningDataModule):
    batch_size = 4

    def train_dataloader(self):
        return DataLoader([batch(seed=0), batch(seed=1)], batch_size=None)

    val_dataloader = train_dataloader


class Watch(pl.Callback):
    """Weights at the beginning of each epoch."""

    def __init__(self):
        self.weights = []

    def on_train_epoch_end(self, trainer, pl_module):
        state = pl_module.network.state_dict()
        self.weights.append({name: value.clone() for name, value in state.items()})


def trained(module, epochs):
    watch = Watch()
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=[watch], logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, Pairs())
    return watch.weights


def moved(before, after, prefix):
    return {not torch.equal(after[n], v) for n, v in before.items() if n.startswith(prefix)}


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")  # frozen parts are
def test_the_embedding_is_frozen_to_the_last_bit():
    module = made()
    norm = f"{module.network.split + 1}.running_mean"
    start = module.network.u1.state_dict()[norm].clone()
    first, second = trained(module, 2)
    # Running statistics included, and without weight decay.
    assert moved(first, second, "backbone.") == {False}
    assert True in moved(first, second, "u1.")
    assert moved(first, second, "u2.") == {True}
    # U1's batch statistics stay those of the embedding's last layers.
    assert torch.equal(second[f"u1.{norm}"], start)


def test_initial_weights_come_from_a_siamfc_checkpoint(tmp_path):
    torch.manual_seed(5)
    siamfc = SiamFC(Tiny(2, 4))
    path = tmp_path / "siamfc.pt"
    recipe = {"network": {"_target_": "lightning_trackers.methods.siamfc.SiamFC"}, "tracker": {}}
    write_checkpoint(path, recipe, siamfc.state_dict())
    module = made()
    module.load_initial_weights(path)
    for name, value in siamfc.backbone.state_dict().items():
        assert torch.equal(module.network.backbone.state_dict()[name], value), name
    split = module.network.split
    assert torch.equal(module.network.u1[0].weight, siamfc.backbone.layers[split].weight)
    write_checkpoint(path, recipe, SiamFC(Tiny(3, 4)).state_dict())
    with pytest.raises(ValueError, match=r"another architecture.*layers\.0\.weight"):
        module.load_initial_weights(path)
    recipe["network"]["_target_"] = "lightning_trackers.methods.siamrpn.SiamRPN"
    write_checkpoint(path, recipe, siamfc.state_dict())
    with pytest.raises(ValueError, match="expected the weights of a SiamFC"):
        module.load_initial_weights(path)


def test_a_checkpoint_becomes_the_tracker_it_describes(tmp_path):
    room = "lightning_trackers.methods.gradnet"
    recipe = {
        "network": {
            "_target_": f"{room}.GradNet",
            "backbone": {"_target_": "lightning_trackers.backbones.Tiny", "width": 2, "out_channels": 4},
            "loss": {"_target_": "lightning_trackers.losses.BinaryCrossEntropy", "balanced": True},
        },
        "tracker": {
            "_target_": f"{room}.GradNetTracker",
            "_partial_": True,
            "settings": {
                "_target_": f"{room}.GradNetSettings",
                "update_interval": 3,
                "reliable_share": 0.5,
            },
        },
    }  # fmt: skip
    network = made().train().network
    write_checkpoint(tmp_path / "x.pt", recipe, network.state_dict())
    tracker = load_tracker(tmp_path / "x.pt", {"reliable_share": 0.2})
    assert (tracker.settings.update_interval, tracker.settings.reliable_share) == (3, 0.2)
    assert torch.equal(tracker.network.u2[0].weight, network.u2[0].weight)
