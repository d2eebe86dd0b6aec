import json
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from callbacks.nan_guard import NaNGuard, NonFiniteLossError
from datamodules.augment import CropAugmentation
from datamodules.pairs import PairDataModule, PairGeometry, WeightedSource
from experiments.config import ConfigError
from experiments.run import checkpoint_to_resume
from lightning_trackers.backbones import Tiny
from lightning_trackers.crops import crop
from lightning_trackers.heads import DepthwiseRPN
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.siamrpn import (
    AnchorLabelling,
    SiamRPN,
    SiamRPNModule,
    SiamRPNSettings,
    SiamRPNTracker,
)
from lightning_trackers.training import GeometricSchedule, Optimisation, Stage

COMMAND = [
    *(sys.executable, "-m", "experiments.run", "+exp=siamrpn_sl", "logger=csv"),
    *("backbone.width=4", "backbone.out_channels=8", "head.hidden=8", "datamodule.num_workers=0"),
    *("datamodule.val_pairs=4", "datamodule.batch_size=4", "trainer.precision=32-true"),
    *("benchmarks.procedural_test.count=2", "benchmarks.procedural_test.length=5"),
    "evaluation.clip_frames=3",
]


class NoiseView:
    box_xyxy = np.array([40.0, 40, 80, 90])

    def __init__(self, seed):
        self.frame = np.random.default_rng(seed).integers(0, 256, (120, 130, 3), dtype=np.uint8)

    def crop(self, window):
        return crop(self.frame, window)


class NoiseSource:
    name = "noise"

    def draw(self, rng, *, max_gap, positive):
        seed = int(rng.integers(1000))
        return NoiseView(seed), NoiseView(seed), f"noise/{seed}"


class StopAfter(pl.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == self.epoch


def train(folder, *callbacks, resume=None, scale=1.0):
    torch.manual_seed(0)
    sources = {"noise": WeightedSource(NoiseSource())}
    data = PairDataModule(
        sources, sources, PairGeometry(), CropAugmentation(grey=0.5), CropAugmentation(shift=30),
        negative_share=0.2, pairs_per_epoch=8, batch_size=4, val_pairs=4,
    )  # fmt: skip
    network = SiamRPN(Tiny(2, 4), partial(DepthwiseRPN, hidden=4))
    module = SiamRPNModule(
        network,
        BinaryCrossEntropy(),
        AnchorLabelling(),  # draws 16 and 48 anchors at random
        partial(SiamRPNTracker, settings=SiamRPNSettings()),
        Optimisation(
            partial(torch.optim.AdamW, lr=1e-2 * scale),
            partial(GeometricSchedule, end_factor=0.1),
            reference_batch=4,
            stages=[Stage("backbone.layers.0.", start_epoch=2)],
        ),
    )
    checkpoint = pl.callbacks.ModelCheckpoint(folder, save_last=True)
    trainer = pl.Trainer(
        max_epochs=4, callbacks=[checkpoint, *callbacks], logger=False, accelerator="cpu",
        use_distributed_sampler=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resume)
    return module


def test_an_interrupted_and_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole = train(tmp_path / "whole")
    first = train(tmp_path / "parts", StopAfter(1))
    resumed = train(tmp_path / "parts", resume=tmp_path / "parts" / "last.ckpt")
    moved = 0
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
        moved += not torch.equal(first.state_dict()[name], value)
    assert moved > 10  # the resumed epochs did something


def test_a_nan_loss_stops_with_the_batch_s_sources(tmp_path):
    class Spoil(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 3:
                pl_module.network.head.cls_out[-1].bias.data.fill_(float("nan"))

    with pytest.raises(NonFiniteLossError, match="step 3"):
        train(tmp_path, NaNGuard(tmp_path), Spoil())
    record = json.loads((tmp_path / "nan_batch.json").read_text())
    assert len(record["source_id"]) == 4
    assert record["source_id"][0].startswith("noise/")


def test_what_to_resume(tmp_path):
    assert checkpoint_to_resume(None, tmp_path) is None
    assert checkpoint_to_resume("auto", tmp_path) is None
    with pytest.raises(ConfigError, match="no checkpoint"):
        checkpoint_to_resume(str(tmp_path), tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    assert checkpoint_to_resume("auto", tmp_path) == last
    assert checkpoint_to_resume(str(tmp_path), tmp_path / "other") == last
    assert checkpoint_to_resume(str(last), tmp_path / "other") == last


def command(*arguments, timeout=240):
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


def test_the_command_trains_evaluates_and_reports(tmp_path):
    done = command("trainer.max_epochs=1", "datamodule.pairs_per_epoch=8", f"run_dir={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "profile: laptop" in done.stdout + done.stderr
    for file in (
        "config.yaml", "git.txt", "device.txt", "scores.csv", "report.html", "checkpoints/last.ckpt",
        "clips/procedural_test.mp4", "plots/procedural_test_success.png",
        "results/procedural_test/siamrpn_sl/fingerprint.txt",
    ):  # fmt: skip
        assert (tmp_path / file).stat().st_size > 0, file
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    trackers = {row.split(",")[1] for row in rows[1:]}
    assert trackers == {"siamrpn_sl", "box that never moves", "untrained"}
    assert not any("NaN" in r for r in rows)


def test_the_same_command_trains_siamfc(tmp_path):
    swapped = ["+exp=siamfc_sl" if a == "+exp=siamrpn_sl" else a for a in COMMAND]
    settings = ["trainer.max_epochs=1", "datamodule.pairs_per_epoch=8", f"run_dir={tmp_path}"]
    done = subprocess.run(
        [*swapped, *settings, "evaluation.references=false"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    [row] = (tmp_path / "scores.csv").read_text().splitlines()[1:]
    assert row.startswith("procedural_test,siamfc_sl,2,")


@pytest.mark.slow
def test_ctrl_c_keeps_a_checkpoint_to_go_on_from(tmp_path):
    arguments = ["trainer.max_epochs=3", "datamodule.pairs_per_epoch=64", f"run_dir={tmp_path}"]
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    last = tmp_path / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert not (tmp_path / "report.html").exists()
    done = command(*arguments, "resume=auto")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "going on from" in done.stdout + done.stderr
    assert (tmp_path / "report.html").exists()
