"""A run that is interrupted inside an epoch and resumed ends as one that was not."""

from contextlib import suppress

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from datamodules.augment import CropAugmentation
from datamodules.loading import EpochSampler, SampleLoader
from datamodules.pairs import PairDataModule, PairGeometry, WeightedSource
from lightning_trackers.crops import crop

BATCHES = 6  # a rank and epoch


class View:
    def __init__(self, frame, box_xyxy):
        self.frame, self.box_xyxy = frame, box_xyxy

    def crop(self, window):
        return crop(self.frame, window)


class NoiseSource:
    """Every pair is another picture; its id says which."""

    name = "noise"

    def draw(self, rng, *, max_gap, positive):
        number = int(rng.integers(2**40))
        frame = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        view = View(frame, np.array([8.0, 8, 16, 16]))
        return view, view, str(number)


class TinyModule(pl.LightningModule):
    """Weights that depend on every batch and on the order of batches."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 4)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch.source_id))
        colours = batch.searches.float().mean(dim=(2, 3)) / 255
        return ((self.layer(colours) - batch.search_boxes_xyxy / 8) ** 2).mean()

    def validation_step(self, batch, batch_idx):
        self.layer(batch.searches.float().mean(dim=(2, 3)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Interrupt(Callback):
    """Ends the process's work as Ctrl-C would, behind a number of steps."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise InterruptedError


def data(num_workers=0, **options):
    source = {"noise": WeightedSource(NoiseSource())}
    settings = {"pairs_per_epoch": BATCHES * 3, "batch_size": 3, "val_pairs": 2} | options
    plain = CropAugmentation()
    geometry = PairGeometry(15, 31)
    return PairDataModule(
        source,
        source,
        geometry,
        plain,
        CropAugmentation(shift=4),
        num_workers=num_workers,
        **settings,
    )


def fit(folder, datamodule=None, stop_at=-1, ckpt_path=None, **options):
    """Train for three epochs with a checkpoint every four steps or at each validation."""
    module = TinyModule()
    every = None if "val_check_interval" in options else 4
    keep = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=every, save_top_k=-1)
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[keep, Interrupt(stop_at)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    with suppress(InterruptedError):
        trainer.fit(module, datamodule or data(), ckpt_path=ckpt_path)
    return module


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole"))


# Saved behind step 4 and taken up in epoch 0; behind 8, inside epoch 1; behind 12, between epochs.
@pytest.mark.parametrize(
    ("saved", "interrupted", "num_workers", "later_workers"),
    [(4, 5, 0, 0), (8, 11, 0, 0), (12, 13, 0, 0), (8, 10, 2, 2), (8, 9, 2, 0)],
)
def test_a_resumed_run_goes_on_with_the_next_pair(
    tmp_path, whole, saved, interrupted, num_workers, later_workers
):
    first = fit(tmp_path, data(num_workers), interrupted)
    assert len(first.seen) == interrupted
    second = fit(tmp_path, data(later_workers), ckpt_path=tmp_path / f"step={saved}.ckpt")
    assert first.seen[:saved] + second.seen == whole.seen
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_a_checkpoint_of_a_validation_inside_an_epoch_goes_on_there(tmp_path, whole):
    fit(tmp_path, stop_at=10, val_check_interval=3)
    second = fit(tmp_path, ckpt_path=tmp_path / "step=9.ckpt", val_check_interval=3)
    assert second.seen == whole.seen[9:]
    assert torch.equal(second.layer.weight, whole.layer.weight)


def test_without_the_loader_s_state_the_resumed_run_differs(tmp_path, whole):
    """The claim above is not true by itself: what is saved is needed."""
    fit(tmp_path, stop_at=9)
    checkpoint = torch.load(tmp_path / "step=8.ckpt", weights_only=True)
    assert checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"] == [
        {"epoch": 1, "samples": 6, "total_batch": 3}
    ]
    del checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    torch.save(checkpoint, tmp_path / "without.ckpt")
    second = fit(tmp_path, ckpt_path=tmp_path / "without.ckpt")
    assert second.seen[0][2] == whole.seen[6][2]  # the epoch's first batch again


def test_another_batch_size_cuts_one_epoch_differently_and_says_so(tmp_path, caplog):
    first = fit(tmp_path, stop_at=5)
    second = fit(tmp_path, data(batch_size=2), ckpt_path=tmp_path / "step=4.ckpt")
    assert "2 samples a step instead of 3" in caplog.text
    ids = [i for _, _, batch in first.seen[:4] + second.seen for i in batch]
    assert len(ids) == len(set(ids))  # nothing twice
    assert [e for e, _, _ in second.seen].count(1) == 9


class Numbers(torch.utils.data.Dataset):
    def __getitem__(self, index):
        return index


def test_ranks_go_on_together_without_duplicates():
    def loader(rank):
        return SampleLoader(Numbers(), EpochSampler(12, rank, 2), batch_size=2, collate_fn=list)

    served = []
    for rank in range(2):
        begun, later = loader(rank), loader(rank)
        batches = iter(begun)
        served += next(batches)
        later.load_state_dict(begun.state_dict())
        served += [n for batch in later for n in batch]
        assert begun.state_dict() == {"epoch": 0, "samples": 4, "total_batch": 4}
    assert sorted(served) == list(range(12))
