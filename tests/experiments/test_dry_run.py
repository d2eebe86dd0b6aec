import logging

import pytest
import torch

from callbacks.dry_run import DryRun
from experiments.config import ConfigError, made, strategy
from experiments.dry_run import dry_run
from tests.experiments.composing import checked

STAGE = "{_target_: lightning_trackers.training.Stage, prefix: backbone.layer4., start_epoch: 3}"


def small(*more):
    return checked(
        "+exp=siamrpnpp_sl", "backbone.width=2", "module.network.head.hidden=4",
        "geometry.search_size=143", "datamodule.batch_size=2", "datamodule.num_workers=0",
        "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.dry_run=true",
        f"module.optimisation.stages=[{STAGE}]", *more,
    )  # fmt: skip


def test_the_memory_of_every_stage_is_said_and_nothing_is_written(tmp_path, caplog):
    cfg = small()
    with caplog.at_level(logging.INFO):
        peaks = dry_run(cfg, made(cfg.module), made(cfg.datamodule), tmp_path)
    assert peaks.keys() == {0, 3}
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("dry run:")]
    assert "2 pairs a step, precision 32-true" in lines[0]
    assert lines[1].startswith(f"dry run: from epoch 0 on {peaks[0] / 2**30:.2f} GiB at most")
    assert lines[2].startswith(f"dry run: from epoch 3 on {peaks[3] / 2**30:.2f} GiB at most")
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_does_not_fit_is_named_with_what_to_do(tmp_path, monkeypatch):
    before = DryRun.on_train_batch_start

    def full(self, *arguments):
        before(self, *arguments)
        if self.epoch == 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DryRun, "on_train_batch_start", full)
    cfg = small()
    with pytest.raises(ConfigError, match=r"epoch 3 does not fit .*epoch 0: .*smaller than 2"):
        dry_run(cfg, made(cfg.module), made(cfg.datamodule), tmp_path)


def test_several_devices_look_for_unused_parameters_where_stages_wait():
    assert small("trainer.devices=2").trainer.strategy == "ddp_find_unused_parameters_true"
    assert small().trainer.strategy == "auto"
    assert checked("+exp=siamrpnpp_sl", "trainer.devices=2").trainer.strategy == "auto"
    assert strategy(1, 2, ["a stage"]) == "ddp_find_unused_parameters_true"
