import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from filelock import FileLock
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from experiments.config import ConfigError
from experiments.pipeline import run_stages

HERE = "tests.experiments.test_pipeline"
trained: list[str] = []  # what was done, in order
stop_after: dict[str, int] = {}  # epochs of a stage after which it is interrupted


class Line(pl.LightningModule):
    """Counts its epochs in its only weight."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        self.log("weight", self.weight.item())
        return -self.weight.sum()

    def on_train_epoch_end(self):
        trained.append(f"{self.name} {self.current_epoch}")
        if stop_after.get(self.name) == self.current_epoch:
            raise KeyboardInterrupt

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Batches(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(torch.zeros(1, 1))


def noted(folder, name):
    trained.append(f"make {name}")
    (Path(folder) / "made.txt").write_text(name)


@pytest.fixture(autouse=True)
def nothing_done(monkeypatch):
    # Hydra imports this file by name; pytest loaded it by path.
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])
    trained.clear()
    stop_after.clear()


def stage(name, epochs=2):
    return {
        "module": {"_target_": f"{HERE}.Line", "name": name},
        "datamodule": {"_target_": f"{HERE}.Batches"},
        "max_epochs": epochs,
    }


def configured(folder, stages=("first", "second", "tracker"), epochs=2, **pipeline):
    make = {"make": {"_target_": f"{HERE}.noted", "_partial_": True, "name": "second"}}
    return OmegaConf.create(
        {
            "seed": 0,
            "benchmarks": {},
            "run_name": "run",
            "stages": list(stages),
            "stages_dir": str(folder),
            "stages_as_made": False,
            "pipeline": pipeline
            or {"first": stage("first", epochs), "second": stage("second", epochs) | make},
            "logger": {
                "csv": {
                    "_target_": "pytorch_lightning.loggers.CSVLogger",
                    "save_dir": "nowhere",
                    "name": "logs",
                }
            },
            "trainer": {
                "_target_": "pytorch_lightning.Trainer",
                "max_epochs": 99,
                "accelerator": "cpu",
                "dry_run": False,
                "log_every_n_steps": 1,
                "enable_progress_bar": False,
                "enable_model_summary": False,
            },
        }
    )


def weight(folder, name):
    state = torch.load(folder / name / "last.ckpt", weights_only=True)["state_dict"]
    return state["weight"].item()


def test_stages_are_done_in_order_and_only_once(tmp_path):
    assert run_stages(configured(tmp_path))
    expected = ["first 0", "first 1", "second 0", "second 1", "make second"]
    assert trained == expected
    assert (tmp_path / "second" / "made.txt").read_text() == "second"
    assert (tmp_path / "first" / "logs" / "version_0" / "metrics.csv").is_file()
    assert json.loads((tmp_path / "first" / "finished.json").read_text())["minutes"] >= 0
    assert run_stages(configured(tmp_path))
    assert trained == expected  # nothing again


def test_an_interrupted_stage_goes_on_and_finished_ones_are_not_redone(tmp_path):
    stop_after["second"] = 1
    with suppress(SystemExit):  # Lightning ends the program on Ctrl+C, its older releases do not
        assert not run_stages(configured(tmp_path, epochs=3))
    assert trained == ["first 0", "first 1", "first 2", "second 0", "second 1"]
    assert not (tmp_path / "second" / "finished.json").exists()
    stop_after.clear()
    trained.clear()
    assert run_stages(configured(tmp_path, epochs=3))
    assert trained[-3:] == ["second 1", "second 2", "make second"]
    assert not any(line.startswith("first") for line in trained)
    assert weight(tmp_path, "second") == 3


def test_what_another_run_is_making_is_waited_for(tmp_path):
    assert run_stages(configured(tmp_path, ["first", "tracker"], first=stage("first")))
    trained.clear()
    finished = tmp_path / "first/finished.json"
    kept = finished.rename(tmp_path / "kept.json")
    with ThreadPoolExecutor(1) as pool:
        with FileLock(tmp_path / "first.lock"):  # the other run has not finished it yet
            second = pool.submit(
                run_stages, configured(tmp_path, ["first", "tracker"], first=stage("first"))
            )
            time.sleep(0.2)
            assert not second.done()
            kept.rename(finished)
        assert second.result()
    assert trained == []


def test_a_stage_alone(tmp_path):
    assert not run_stages(configured(tmp_path, ["first"]))
    assert trained == ["first 0", "first 1"]
    assert not run_stages(configured(tmp_path, ["second"]))
    assert trained[2:] == ["second 0", "second 1", "make second"]
    assert run_stages(configured(tmp_path, ["tracker"]))
    assert len(trained) == 5


def test_a_run_without_a_pipeline_is_a_run():
    cfg = OmegaConf.create({"stages": ["tracker"], "pipeline": {}, "stages_dir": "nowhere"})
    assert run_stages(cfg)


@pytest.mark.parametrize("stages", [["second"], ["tracker"]])
def test_a_stage_that_needs_another_one_says_so(tmp_path, stages):
    with pytest.raises(ConfigError, match=rf"{stages[0]} needs the stage first.*stages=\[first,"):
        run_stages(configured(tmp_path, stages))
    assert not trained


def test_a_benchmark_that_cannot_be_made_is_found_before_the_stages(tmp_path):
    cfg = configured(tmp_path)
    target = "datamodules.benchmarks.procedural.procedural_benchmark"
    few = {"_target_": target, "name": "few", "subset": "occlusion", "count": 1, "length": 12}
    cfg.benchmarks = {"few": few}
    with pytest.raises(InstantiationException, match="12 frames are too few"):
        run_stages(cfg)
    assert trained == []


def test_an_unknown_stage_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="no stage 'seconds'; nearest: 'second'"):
        run_stages(configured(tmp_path, ["seconds"]))


def test_what_was_made_with_another_configuration_is_not_gone_on_with(tmp_path):
    run_stages(configured(tmp_path, ["first"]))
    for stages in (["first"], ["second"]):
        with pytest.raises(
            ConfigError, match=r"stage first: .*another configuration \('max_epochs"
        ):
            run_stages(configured(tmp_path, stages, epochs=3))
    assert trained == ["first 0", "first 1"]


def test_a_stage_may_be_taken_as_it_was_made(tmp_path):
    run_stages(configured(tmp_path, ["first"]))
    cfg = configured(tmp_path, ["second"], epochs=3)
    cfg.stages_as_made = True
    run_stages(cfg)
    assert trained == ["first 0", "first 1", "second 0", "second 1", "second 2", "make second"]
    # What is written down is how it was made.
    assert cfg.pipeline.first.max_epochs == 2
    assert cfg.pipeline.second.max_epochs == 3
    cfg = configured(tmp_path, ["first"], epochs=3)
    cfg.stages_as_made = True
    with pytest.raises(ConfigError, match="another configuration"):  # it is asked for
        run_stages(cfg)


def test_a_stage_that_was_not_made_cannot_be_taken(tmp_path):
    cfg = configured(tmp_path, ["tracker"])
    cfg.stages_as_made = True
    with pytest.raises(ConfigError, match="tracker needs the stage first"):
        run_stages(cfg)


def test_a_stage_s_trainer_has_its_own_options(tmp_path):
    cfg = configured(tmp_path, ["first"])
    cfg.pipeline.first.trainer = {"limit_train_batches": 0}
    run_stages(cfg)
    assert not trained
