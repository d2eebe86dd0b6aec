import json
from typing import NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from callbacks.nan_guard import NaNGuard, NonFiniteLossError, source_ids

# The batches of these tests are lists in memory: there is nothing to load in parallel.
# LeafSpec: Lightning 2.6 uses what torch 2.13 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
]


class Batch(NamedTuple):
    inputs: torch.Tensor
    source_id: list[str]


class Module(pl.LightningModule):
    def __init__(self, bad_step, bad_value):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.bad_step, self.bad_value = bad_step, bad_value
        self.weights_before = []

    def training_step(self, batch, batch_idx):
        self.weights_before.append(self.layer.weight.detach().clone())
        loss = self.layer(batch.inputs).square().mean()
        return loss * (self.bad_value if batch_idx == self.bad_step else 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(tmp_path, bad_step, bad_value):
    torch.manual_seed(0)
    module = Module(bad_step, bad_value)
    data = [Batch(torch.rand(4, 2), [f"procedural/{i}/{j}" for j in range(4)]) for i in range(4)]
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(tmp_path),
        callbacks=[
            NaNGuard(tmp_path),
            pl.callbacks.ModelCheckpoint(
                tmp_path / "checkpoints", "{step}", every_n_train_steps=1, save_top_k=-1
            ),
        ],
    )
    trainer.fit(module, DataLoader(data, batch_size=None))
    return module


@pytest.mark.parametrize("bad_value", [float("nan"), float("inf"), float("-inf")])
def test_stops_before_the_bad_step_and_names_its_samples(tmp_path, bad_value):
    # Lightning hands the exception on; the weights are looked at in the checkpoint.
    with pytest.raises(NonFiniteLossError, match=r"epoch 0, step 2.*nan_batch\.json"):
        fit(tmp_path, bad_step=2, bad_value=bad_value)
    record = json.loads((tmp_path / "nan_batch.json").read_text())
    assert record == {
        "loss": str(bad_value),
        "epoch": 0,
        "step": 2,
        "rank": 0,
        "source_id": [f"procedural/2/{j}" for j in range(4)],
    }
    # Two good steps, two checkpoints; none after the bad batch.
    names = sorted(f.name for f in (tmp_path / "checkpoints").iterdir())
    assert names == ["step=1.ckpt", "step=2.ckpt"]
    saved = torch.load(tmp_path / "checkpoints" / "step=2.ckpt", weights_only=True)
    assert torch.isfinite(saved["state_dict"]["layer.weight"]).all()


def test_weights_are_those_after_the_last_good_step(tmp_path):
    module = Module(1, float("nan"))
    guard = NaNGuard(tmp_path)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[guard],
    )
    data = [Batch(torch.ones(4, 2), ["a"] * 4) for _ in range(3)]
    with pytest.raises(NonFiniteLossError):
        trainer.fit(module, DataLoader(data, batch_size=None))
    before_bad_step = module.weights_before[-1]
    assert torch.equal(module.layer.weight, before_bad_step)
    assert not torch.equal(before_bad_step, module.weights_before[0])  # the good step did learn


def test_good_training_goes_through(tmp_path):
    fit(tmp_path, bad_step=-1, bad_value=1.0)
    assert not (tmp_path / "nan_batch.json").exists()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (Batch(torch.zeros(1), ["a", "b"]), ["a", "b"]),
        ({"source_id": ["a"]}, ["a"]),
        ({"inputs": 1}, None),
        (torch.zeros(2), None),
    ],
)
def test_source_ids(batch, expected):
    assert source_ids(batch) == expected
