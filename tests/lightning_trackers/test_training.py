import subprocess
import sys
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from experiments.config import strategy
from lightning_trackers.training import (
    CosineSchedule,
    GeometricSchedule,
    Optimisation,
    Stage,
    parameter_groups,
)


def network():
    return nn.ModuleDict(
        {
            "first": nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)),
            "second": nn.Conv2d(1, 1, 1),
            "third": nn.Linear(2, 2),
        }
    )


def trainer(batch=8, devices=1, accumulate=1, epochs=10, steps=100):
    return SimpleNamespace(
        datamodule=SimpleNamespace(batch_size=batch),
        world_size=devices,
        accumulate_grad_batches=accumulate,
        max_epochs=epochs,
        estimated_stepping_batches=steps,
    )


def rates(schedule_options, steps, kind=GeometricSchedule):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-2)
    schedule = kind(optimizer, **schedule_options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_a_warm_up_may_keep_its_rate():
    options = {"end_factor": 0.1, "warmup_factor": 0.2, "warmup_epochs": 5, "warmup_rises": False}
    found = rates({"total_steps": 40, "steps_per_epoch": 2, **options}, 40)
    # Five epochs of a fifth, then 15 down to a tenth.
    assert found[:10] == pytest.approx([2e-3] * 10)
    assert found[10] == pytest.approx(1e-2)
    assert found[38] == found[39] == pytest.approx(1e-3)


def test_siamfc_s_rate_falls_from_1e_2_to_1e_5_in_stairs():
    found = rates({"total_steps": 150, "steps_per_epoch": 3, "end_factor": 1e-3}, 150)
    assert found[0] == found[2] == pytest.approx(1e-2)
    assert found[147] == found[149] == pytest.approx(1e-5)
    # Equal ratios between epochs: 1e-3 ** (1 / 49).
    assert found[3] / found[0] == pytest.approx(1e-3 ** (1 / 49))
    assert found[90] / found[87] == pytest.approx(1e-3 ** (1 / 49))


def test_siamrpn_s_rate_warms_up_for_five_epochs():
    options = {"end_factor": 0.05, "warmup_factor": 0.5, "warmup_epochs": 5}
    found = rates({"total_steps": 50, "steps_per_epoch": 1, **options}, 50)
    assert found[0] == pytest.approx(0.005)
    assert found[1] / found[0] == pytest.approx(2 ** (1 / 5))
    assert found[5] == pytest.approx(0.01)
    assert found[49] == pytest.approx(0.0005)


def test_without_stairs_every_step_differs():
    found = rates(
        {"total_steps": 20, "steps_per_epoch": 10, "end_factor": 0.1, "stairs": False}, 20
    )
    assert all(a > b for a, b in pairwise(found))


def test_a_cosine_falls_slowly_at_both_ends():
    options = {"end_factor": 0.2, "warmup_factor": 0.1, "warmup_epochs": 2, "stairs": False}
    found = rates({"total_steps": 61, "steps_per_epoch": 10, **options}, 61, CosineSchedule)
    assert found[:2] == pytest.approx([1e-3, 1e-3 * 10**0.05])  # the warm-up of the other schedule
    # 40 steps from the peak to a fifth: at 1/4, 1/2, 3/4 of the way half of 1 + cos 45°, 90°, 135°.
    shares = [1.0, 0.853553, 0.5, 0.146447, 0.0]
    expected = [1e-2 * (0.2 + 0.8 * share) for share in shares]
    assert [found[i] for i in (20, 30, 40, 50, 60)] == pytest.approx(expected, rel=1e-5)


def test_schedule_refuses_a_factor_of_zero():
    with pytest.raises(ValueError, match="positive factors"):
        rates({"total_steps": 10, "steps_per_epoch": 1, "end_factor": 0}, 1)


def test_every_parameter_that_ever_learns_is_in_the_optimizer_from_step_0():
    stages = [Stage("first.", start_epoch=3, lr_multiplier=0.1), Stage("third.", start_epoch=None)]
    net = network()
    groups = parameter_groups(net, stages)
    held = {id(p) for group in groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        assert (id(parameter) in held) == (not name.startswith("third."))
    assert [g["lr_multiplier"] for g in groups] == [1.0, 0.1]
    assert [g["start_epoch"] for g in groups] == [0, 3]


def test_a_stage_s_rate_is_0_until_its_epoch_and_then_its_share_of_the_schedule():
    settings = Optimisation(
        partial(torch.optim.SGD, lr=1.0),
        partial(GeometricSchedule, end_factor=0.01),
        reference_batch=8,
        stages=[Stage("first.", start_epoch=3, lr_multiplier=0.1)],
    )
    made = settings.configure(network(), trainer(epochs=5, steps=10))
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(10):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert [stage for _, stage in rates[:6]] == [0] * 6  # 3 epochs of 2 steps
    for rest, stage in rates[6:]:
        assert stage == pytest.approx(0.1 * rest)
    assert rates[-1][0] == pytest.approx(0.01)


def test_a_stage_learns_from_its_epoch_on_and_not_before():
    net = network()
    settings = Optimisation(
        partial(torch.optim.SGD, lr=1.0),
        GeometricSchedule,
        reference_batch=8,
        stages=[Stage("first.", start_epoch=2), Stage("third.", start_epoch=None)],
    )
    made = settings.configure(net, trainer(epochs=10, steps=10))
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]

    def train(epoch):
        net.train()
        settings.begin_epoch(net, epoch)
        before = {k: v.clone() for k, v in net.state_dict().items()}
        images = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        loss = net["second"](net["first"](images)).square().sum()
        loss = loss + net["third"](torch.ones(2)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}

    assert train(0) == train(1) == {"second.weight", "second.bias"}
    # No gradient: no momentum, nothing for the clipping of gradients to count, less memory.
    assert net["first"][0].weight.grad is None
    assert net["third"].weight.grad is None
    moved = train(2)
    assert {"first.0.weight", "first.1.weight", "first.1.running_mean"} <= moved
    assert not any(name.startswith("third.") for name in moved)


@pytest.mark.parametrize(
    ("batch", "devices", "accumulate", "factor"), [(8, 1, 1, 1), (8, 4, 1, 4), (16, 1, 2, 4)]
)
def test_learning_rate_follows_the_total_batch(batch, devices, accumulate, factor):
    settings = Optimisation(partial(torch.optim.SGD, lr=0.01), GeometricSchedule, reference_batch=8)
    made = settings.configure(network(), trainer(batch, devices, accumulate))
    assert made["optimizer"].param_groups[0]["lr"] == pytest.approx(0.01 * factor)


def test_a_prefix_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match="'fourth' matches no parameter"):
        parameter_groups(network(), [Stage("fourth", 1)])


def test_two_stages_may_not_share_a_parameter():
    with pytest.raises(ValueError, match="two stages"):
        parameter_groups(network(), [Stage("first.", 1), Stage("first.0.", 2)])


@pytest.mark.slow
def test_processes_agree_after_a_stage_has_begun(tmp_path):
    # What the configuration asks for with several devices; plain ddp waits for gradients in vain.
    script = tmp_path / "train.py"
    script.write_text(_TWO_PROCESSES.replace("STRATEGY", strategy(2, 1, [Stage("a.", 1)])))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    weights = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    start = torch.load(tmp_path / "start0.pt")
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
        assert not torch.equal(value, start[name]), name


_TWO_PROCESSES = """
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_trackers.training import GeometricSchedule, Optimisation, Stage


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
        sgd = partial(torch.optim.SGD, lr=0.1)
        self.optimisation = Optimisation(sgd, GeometricSchedule, 4, [Stage("a.", 1)])

    def training_step(self, batch, batch_idx):
        return self.network["b"](self.network["a"](batch)).square().mean()

    def on_train_epoch_start(self):
        self.optimisation.begin_epoch(self.network, self.current_epoch)

    def configure_optimizers(self):
        return self.optimisation.configure(self.network, self.trainer)


class Data(pl.LightningDataModule):
    batch_size = 4

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.arange(32.0).view(16, 2) / 32, batch_size=4)


if __name__ == "__main__":
    module, folder = Module(), Path(__file__).parent
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="STRATEGY", max_epochs=3, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )
    torch.save(module.network.state_dict(), folder / f"start{trainer.global_rank}.pt")
    trainer.fit(module, Data())
    torch.save(module.network.state_dict(), folder / f"rank{trainer.global_rank}.pt")
"""
