import csv
import json
from pathlib import Path

import av
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks.benchmark_evaluation import (
    BenchmarkEvaluation,
    evaluate_benchmarks,
    evaluation_mode,
    module_fingerprint,
)
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.static import StaticTracker
from lightning_trackers.evaluation.tracker import Prediction

# The batches of these tests are lists in memory: there is nothing to load in parallel.
# LeafSpec: Lightning 2.6 uses what torch 2.13 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
]


def moving(name, step, frames=4):
    """A 20 × 20 target that moves to the right by ``step`` px a frame."""
    boxes = np.array([[8.0 + step * t, 10, 28.0 + step * t, 30] for t in range(frames)])
    pictures = []
    for x1, y1, x2, y2 in boxes.astype(int):
        picture = np.full((48, 128, 3), 90, dtype=np.uint8)
        picture[y1:y2, x1:x2] = (200, 60, 60)
        pictures.append(picture)
    return TrackingSequence(name, pictures, boxes, np.ones(frames, dtype=bool))


class Follower:
    """Moves its box by a fixed step."""

    def __init__(self, step):
        self.move = np.array([step, 0, step, 0], dtype=np.float32)

    def start(self, frame, box_xyxy):
        return {"box": box_xyxy}

    def step(self, states, frames):
        for state in states:
            state["box"] = state["box"] + self.move
        return [Prediction(state["box"], 0.5) for state in states]


class Refuses:
    """Fails if it has to track at all."""

    def start(self, frame, box_xyxy):
        raise AssertionError("tracked again")

    step = start


def evaluate(tmp_path, trackers, benchmark, fingerprint="a", **options):
    return evaluate_benchmarks(
        trackers, [benchmark], tmp_path, fingerprint=fingerprint, **{"clip_frames": 0, **options}
    )


def test_scores_worked_by_hand(tmp_path):
    benchmark = Benchmark("drawn", [moving("fast", 10), moving("still", 0)])
    (scores,) = evaluate(tmp_path, {"static": StaticTracker()}, benchmark)
    fast, still = (scores.scores.sequences[name] for name in ("fast", "still"))
    # fast: overlaps 1, 200 / (400 + 400 - 200) = 1/3, 0, 0. 1 exceeds the thresholds 0 ... 0.95,
    # 20 of 21; 1/3 exceeds 0 ... 0.30, 7 of 21. AUC = (20 + 7) / (4 · 21).
    assert fast["success_auc"] == pytest.approx(27 / 84, abs=1e-12)
    # Errors 0, 10, 20, 30 px: three within 20 px; of the target's size 0, 0.5, 1, 1.5: one.
    assert fast["precision_20px"] == pytest.approx(3 / 4)
    assert fast["normalized_precision"] == pytest.approx(1 / 4)
    assert still["success_auc"] == pytest.approx(20 / 21)
    assert scores.frames == {"fast": 4, "still": 4}
    # The mean over sequences.
    assert scores.headline_score == pytest.approx((27 / 84 + 20 / 21) / 2)
    assert scores.scalars["precision_20px"] == pytest.approx(7 / 8)
    assert scores.scores.curves["success"].y.mean() == pytest.approx(scores.headline_score)
    assert scores.fps > 0
    assert scores.sequence_fps["fast"] > 0


def test_result_files_and_clip_lie_where_the_run_keeps_them(tmp_path):
    benchmark = Benchmark("drawn", [moving("a", 2), moving("b", 2), moving("c", 9)])
    trackers = {"ours": Follower(2.0), "box that never moves": StaticTracker()}
    ours, static = evaluate(tmp_path, trackers, benchmark, clip_frames=3)
    assert (ours.tracker, static.tracker) == ("ours", "box that never moves")
    for folder in ("ours", "box_that_never_moves"):
        for name in "abc":
            assert (tmp_path / "results" / "drawn" / folder / f"{name}.txt").is_file()
    assert ours.clip == tmp_path / "clips" / "drawn.mp4"
    assert static.clip is None
    with av.open(str(ours.clip)) as container:
        assert len(list(container.decode(video=0))) == 3


def test_interrupted_evaluation_goes_on_where_it_stopped(tmp_path):
    first, second = moving("a", 3), moving("b", 5)
    evaluate(tmp_path, {"t": Follower(3.0)}, Benchmark("drawn", [first]))

    class OnlyB(Follower):
        def start(self, frame, box_xyxy):
            assert np.array_equal(frame, second.frames[0])
            return super().start(frame, box_xyxy)

    second = moving("b", 5, frames=3)
    second.frames[0][0, 0] = 1
    (scores,) = evaluate(tmp_path, {"t": OnlyB(3.0)}, Benchmark("drawn", [first, second]))
    whole = evaluate(tmp_path / "again", {"t": Follower(3.0)}, Benchmark("drawn", [first, second]))[
        0
    ]
    assert scores.scores.scalars == whole.scores.scalars
    assert scores.scores.sequences == whole.scores.sequences
    # All is stored now: nothing is tracked.
    evaluate(tmp_path, {"t": Refuses()}, Benchmark("drawn", [first, second]))


def test_results_of_other_weights_are_refused_or_replaced(tmp_path):
    benchmark = Benchmark("drawn", [moving("a", 3)])
    evaluate(tmp_path, {"t": StaticTracker()}, benchmark, fingerprint="weights 1")
    with pytest.raises(FileExistsError, match="another output folder"):
        evaluate(tmp_path, {"t": Follower(3.0)}, benchmark, fingerprint="weights 2")
    (scores,) = evaluate(
        tmp_path, {"t": Follower(3.0)}, benchmark, fingerprint="weights 2", overwrite=True
    )
    assert scores.headline_score == pytest.approx(20 / 21)
    # The same fingerprint with overwrite still goes on instead of starting again.
    evaluate(tmp_path, {"t": Refuses()}, benchmark, fingerprint="weights 2", overwrite=True)


def test_nothing_to_evaluate_is_refused(tmp_path):
    benchmark = Benchmark("drawn", [moving("a", 3)])
    for trackers, benchmarks in (
        ({}, [benchmark]),
        ({"t": StaticTracker()}, []),
        ({"t": StaticTracker()}, [benchmark, benchmark]),
    ):
        with pytest.raises(ValueError, match="expected at least one tracker"):
            evaluate_benchmarks(trackers, benchmarks, tmp_path, fingerprint="a")


def test_one_frame_sequence_has_scores_and_no_rate(tmp_path):
    benchmark = Benchmark("drawn", [moving("a", 3, frames=1)])
    (scores,) = evaluate(tmp_path, {"t": StaticTracker()}, benchmark)
    assert scores.headline_score == pytest.approx(20 / 21)
    assert np.isnan(scores.fps)


# --- the callback --------------------------------------------------------------------------------


class Module(pl.LightningModule):
    """Its tracker moves by the number of epochs it was trained."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.frozen = nn.BatchNorm1d(1)
        self.modes = []

    def on_train_start(self):
        self.frozen.eval()  # once: it has to outlast the evaluations

    def tracker(self):
        self.modes.append(self.training)
        return Follower(float(self.current_epoch + 1))

    def training_step(self, batch, batch_idx):
        assert self.training
        assert not self.frozen.training
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ModuleWithValidation(Module):
    def validation_step(self, batch, batch_idx):
        pass


def loader():
    return DataLoader(TensorDataset(torch.rand(4, 1)), batch_size=2)


def trainer(tmp_path, callbacks, **options):
    return pl.Trainer(
        **{
            "max_epochs": 4,
            "accelerator": "cpu",
            "logger": CSVLogger(tmp_path, name="", version="logs"),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "callbacks": callbacks,
            **options,
        }
    )


@pytest.mark.parametrize("has_validation_loop", [True, False])
def test_validation_chooses_the_checkpoint_and_the_end_is_reported(tmp_path, has_validation_loop):
    pl.seed_everything(0)
    # The target moves 2 px a frame: of the steps 1, 2, 3, 4 of four epochs, the second is right.
    evaluation = BenchmarkEvaluation(
        {"drawn": Benchmark("drawn", [moving("a", 4)])},
        tmp_path,
        validation=Benchmark("subset", [moving("v", 2)]),
        every_n_epochs=1,
        clip_frames=2,
        tracker_name="ours",
    )
    best = pl.callbacks.ModelCheckpoint(
        tmp_path / "checkpoints", monitor="val/subset/success_auc", mode="max", filename="{epoch}"
    )
    module = ModuleWithValidation() if has_validation_loop else Module()
    fitted = trainer(tmp_path, [evaluation, best], num_sanity_val_steps=1)
    fitted.fit(module, loader(), loader() if has_validation_loop else None)
    assert Path(best.best_model_path).name == "epoch=1.ckpt"
    assert best.best_model_score == pytest.approx(20 / 21)
    assert [(s.benchmark, s.tracker) for s in evaluation.scores] == [
        ("drawn", "ours"),
        ("drawn", "static"),
    ]
    assert len(module.modes) == 5  # four validations and the end; none in the sanity check
    assert not any(module.modes)  # the network is in evaluation mode while it tracks
    with (tmp_path / "logs" / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    validated = [float(r["val/subset/success_auc"]) for r in rows if r["val/subset/success_auc"]]
    assert len(validated) == 4
    assert max(validated) == validated[1]
    (final,) = [r for r in rows if r["test/drawn/success_auc"]]
    assert float(final["test/drawn/success_auc"]) == pytest.approx(
        evaluation.scores[0].headline_score
    )
    assert float(final["reference/static/drawn/precision_20px"]) == 1.0
    assert (tmp_path / "results" / "drawn" / "ours" / "a.txt").is_file()


def test_validates_every_n_epochs_only(tmp_path):
    evaluation = BenchmarkEvaluation(
        [Benchmark("drawn", [moving("a", 4)])],
        tmp_path,
        validation=Benchmark("subset", [moving("v", 2)]),
        every_n_epochs=2,
        clip_frames=0,
    )
    module = ModuleWithValidation()
    trainer(tmp_path, [evaluation], enable_checkpointing=False).fit(module, loader(), loader())
    assert len(module.modes) == 2 + 1  # epochs 1 and 3, and the end


def test_parts_get_their_own_mode_back():
    module = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1).eval(), nn.Dropout())
    module.train()
    module[1].eval()

    def fail():
        with evaluation_mode(module):
            assert not any(part.training for part in module.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [part.training for part in module.modules()] == [True, True, False, True]


def test_module_without_tracker_is_told_so(tmp_path):
    class Plain(pl.LightningModule):
        pass

    evaluation = BenchmarkEvaluation([Benchmark("drawn", [moving("a", 4)])], tmp_path)
    with pytest.raises(TypeError, match=r"Plain: expected a method tracker\(\)"):
        evaluation.on_fit_end(trainer(tmp_path, [], enable_checkpointing=False), Plain())


def test_arguments_that_make_no_sense_are_refused(tmp_path):
    benchmark = Benchmark("drawn", [moving("a", 4)])
    other = Benchmark("subset", [moving("a", 4)])
    with pytest.raises(ValueError, match="belong together"):
        BenchmarkEvaluation([benchmark], tmp_path, every_n_epochs=1)
    with pytest.raises(ValueError, match="belong together"):
        BenchmarkEvaluation([benchmark], tmp_path, validation=other)
    with pytest.raises(ValueError, match="validate on another one"):
        BenchmarkEvaluation([benchmark], tmp_path, validation=benchmark, every_n_epochs=1)
    with pytest.raises(ValueError, match="two trackers are named 'static'"):
        BenchmarkEvaluation([benchmark], tmp_path, tracker_name="static")


def test_fingerprint_changes_with_weights_and_recipe_only():
    torch.manual_seed(0)
    module = Module()
    before = module_fingerprint(module)
    assert module_fingerprint(module) == before
    module.train()
    assert module_fingerprint(module) == before
    module.recipe = {"tracker": {"settings": {"window_influence": 0.4}}}
    changed = module_fingerprint(module)
    assert changed != before
    with torch.no_grad():
        module.layer.weight += 1e-6
    assert module_fingerprint(module) != changed
    # A dtype that numpy does not know.
    assert module_fingerprint(module.to(torch.bfloat16)) != changed


# --- W&B -----------------------------------------------------------------------------------------


def test_offline_wandb_gets_scalars_curves_and_clip(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    import wandb

    logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
    benchmark = Benchmark("drawn", [moving("a", 2), moving("b", 4)])
    trackers = {"ours": Follower(2.0), "static": StaticTracker()}
    try:
        evaluate(tmp_path, trackers, benchmark, clip_frames=3, loggers=[logger])
        summary = dict(logger.experiment.summary)
    finally:
        wandb.finish()
    assert 0.6 < summary["test/drawn/success_auc"] < 20 / 21
    assert "reference/static/drawn/success_auc" in summary
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    media = [f.relative_to(run / "files").as_posix() for f in (run / "files").rglob("*.*")]
    assert any(m.startswith("media/videos/test/drawn/clip") and m.endswith(".mp4") for m in media)
    tables = [m for m in media if m.endswith(".table.json")]
    for name in ("success_curve", "precision_curve", "normalized_precision_curve", "sequences"):
        assert any(f"test/drawn/{name}" in table for table in tables), tables
    curve = next(run / "files" / m for m in tables if "/success_curve" in m)
    content = json.loads(curve.read_text())
    assert len(content["data"]) == 2 * 21  # a row for each tracker and threshold
    assert next(run.glob("*.wandb")).stat().st_size > 0
