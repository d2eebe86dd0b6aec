"""Staged learning of SiamRPN++ in Lightning's own loop, with the paper's stages in fewer epochs."""

from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from datamodules.augment import CropAugmentation
from datamodules.pairs import PairDataModule, PairGeometry, WeightedSource
from lightning_trackers.backbones import TinyResNet
from lightning_trackers.crops import crop
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.siamrpn import (
    AnchorLabelling,
    SiamRPN,
    SiamRPNModule,
    SiamRPNSettings,
    SiamRPNTracker,
)
from lightning_trackers.methods.siamrpnpp import LayerwiseRPN
from lightning_trackers.training import GeometricSchedule, Optimisation, Stage

BEGIN = 2
NEVER = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")
LATER = ("backbone.layer2.", "backbone.layer3.", "backbone.layer4.")


class NoiseView:
    box_xyxy = np.array([40.0, 40, 80, 90])

    def __init__(self, seed):
        self.frame = np.random.default_rng(seed).integers(0, 256, (120, 130, 3), dtype=np.uint8)

    def crop(self, window):
        return crop(self.frame, window)


class NoiseSource:
    name = "noise"

    def draw(self, rng, *, max_gap, positive):
        view = NoiseView(int(rng.integers(1000)))
        return view, view, "noise"


class Watch(pl.Callback):
    """Keeps the network's state after every epoch; may stop, as an interruption does."""

    def __init__(self, stop_after=None):
        self.states = []
        self.stop_after = stop_after

    def on_train_start(self, trainer, pl_module):
        self.keep(pl_module)

    def on_train_epoch_end(self, trainer, pl_module):
        self.keep(pl_module)
        trainer.should_stop = trainer.current_epoch == self.stop_after

    def keep(self, module):
        self.states.append({n: v.clone() for n, v in module.network.state_dict().items()})


def train(folder, watch, optimizer, resume=None):
    torch.manual_seed(0)
    sources = {"noise": WeightedSource(NoiseSource())}
    data = PairDataModule(
        sources, sources, PairGeometry(search_size=143), CropAugmentation(), CropAugmentation(shift=8),
        negative_share=0.2, pairs_per_epoch=4, batch_size=2, val_pairs=2, num_workers=0,
    )  # fmt: skip
    module = SiamRPNModule(
        SiamRPN(TinyResNet(2), partial(LayerwiseRPN, hidden=4)),
        BinaryCrossEntropy(),
        AnchorLabelling(),
        partial(SiamRPNTracker, settings=SiamRPNSettings()),
        Optimisation(
            optimizer,
            partial(GeometricSchedule, end_factor=0.1, warmup_factor=0.2, warmup_epochs=1),
            reference_batch=2,
            stages=[
                *(Stage(prefix, start_epoch=None) for prefix in NEVER),
                *(Stage(prefix, start_epoch=BEGIN, lr_multiplier=0.1) for prefix in LATER),
            ],
        ),
    )
    checkpoint = pl.callbacks.ModelCheckpoint(folder, save_last=True)
    trainer = pl.Trainer(
        max_epochs=4, callbacks=[checkpoint, watch], logger=False, accelerator="cpu",
        use_distributed_sampler=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, gradient_clip_val=10.0,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resume)
    return module


OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-2),
    "adamw": partial(torch.optim.AdamW, lr=1e-2),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_frozen_stages_are_bit_identical_until_their_epoch_and_resumed_equals_whole(
    tmp_path, optimizer
):
    whole = Watch()
    train(tmp_path / "whole", whole, OPTIMIZERS[optimizer])
    start, at_begin, end = whole.states[0], whole.states[BEGIN], whole.states[-1]
    for name, value in start.items():
        if name.startswith(("head.", *LATER)) and not name.endswith("num_batches_tracked"):
            # Weights, and the running statistics too.
            assert torch.equal(at_begin[name], value) == name.startswith("backbone."), name
            assert not torch.equal(end[name], at_begin[name]), name
        elif name.startswith(NEVER):
            assert torch.equal(end[name], value), name

    parts = tmp_path / "parts"
    train(parts, Watch(stop_after=BEGIN - 1), OPTIMIZERS[optimizer])
    resumed = Watch()
    train(parts, resumed, OPTIMIZERS[optimizer], resume=parts / "last.ckpt")
    for name, value in at_begin.items():
        assert torch.equal(resumed.states[0][name], value), name
    for name, value in end.items():
        assert torch.equal(resumed.states[-1][name], value), name
