from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from callbacks.dry_run import STEPS, DryRun, peak_memory, reset_peak_memory, stage_epochs
from lightning_trackers.training import GeometricSchedule, Optimisation, Stage

CPU = torch.device("cpu")
STAGES = [Stage("first.", start_epoch=3), Stage("never.", start_epoch=None)]


class Module(pl.LightningModule):
    """A part of 8 M parameters that waits, one that never learns, and one of a few from the start."""

    def __init__(self, stages=STAGES):
        super().__init__()
        self.network = nn.ModuleDict(
            {
                "first": nn.Linear(1, 8_000_000, bias=False),
                "never": nn.Linear(1, 1),
                "last": nn.Linear(1, 1),
            }
        )
        self.optimisation = Optimisation(
            partial(torch.optim.SGD, lr=0.1, momentum=0.9), GeometricSchedule, 1, stages
        )
        self.learnt = []

    def training_step(self, batch, batch_idx):
        self.learnt.append(self.network["first"].weight.requires_grad)
        return self.network["last"](self.network["first"](batch).mean(1, keepdim=True)).mean()

    def configure_optimizers(self):
        return self.optimisation.configure(self.network, self.trainer)


class Data(pl.LightningDataModule):
    batch_size = 1

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(3, 1))  # fewer batches than the dry run takes


def run(module, probe, accumulate=1):
    trainer = pl.Trainer(
        max_epochs=-1, max_steps=probe.steps(), accumulate_grad_batches=accumulate,
        callbacks=[probe], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, Data())


# Of 3 batches, 2 accumulated ones make 2 steps: the last batch is a step of its own.
@pytest.mark.parametrize(("accumulate", "batches"), [(1, 2), (2, 3)])
def test_every_stage_is_gone_through_with_what_learns_then(accumulate, batches):
    module, probe = Module(), DryRun([0, 3])
    run(module, probe, accumulate)
    assert probe.steps() == 2 * STEPS == 4
    assert module.learnt == [False] * batches + [True] * batches
    assert probe.learning == {0: 2, 3: 8_000_002}


def test_the_unfreezing_epoch_needs_the_memory_of_gradients_and_momentum():
    probe = DryRun([0, 3])
    run(Module(), probe)
    grown = probe.peaks[3] - probe.peaks[0]
    # Gradient and momentum are 4 bytes for each of 8 M parameters, 64 MB; other buffers may add.
    assert grown > 50e6


def test_stages_that_begin_within_the_training():
    stages = [Stage("a", 5), Stage("b", 2), Stage("c", 5), Stage("d", None), Stage("e", 20)]
    assert stage_epochs(Module(stages), max_epochs=20) == [0, 2, 5]
    assert stage_epochs(Module([]), max_epochs=20) == [0]
    assert stage_epochs(pl.LightningModule(), max_epochs=20) == [0]


def test_the_peak_is_that_since_the_reset():
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    ones = torch.ones(25_000_000)  # 100 MB
    del ones
    assert peak_memory(CPU) - before > 90e6
