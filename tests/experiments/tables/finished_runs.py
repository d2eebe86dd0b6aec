"""Run folders as a training leaves them, with results that are drawn instead of tracked."""

import numpy as np
from omegaconf import OmegaConf

from callbacks.benchmark_logging import slug
from datamodules.benchmarks.procedural import procedural_benchmark
from experiments.tables.cells import benchmark_nodes, composed, resolved
from lightning_trackers.evaluation.one_pass import TrackResult
from lightning_trackers.evaluation.results import ResultStore


def write_run(folder, cell, *, shift_px=0.0, choice="procedural", budget, changes=None):
    """Write a finished run of a cell whose boxes lie ``shift_px`` right of the ground truth."""
    cfg = composed(cell.words)
    cfg.seed = cell.seed
    config = resolved(cfg)
    for key, value in (changes or {}).items():
        OmegaConf.update(node := OmegaConf.create(config), key, value)
        config = OmegaConf.to_container(node)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    (folder / "git.txt").write_text("0123abc\n")
    (folder / "device.txt").write_text("Toy CPU, 3 cores\n")
    (folder / "scores.csv").write_text("benchmark,tracker\n")
    ((name, node),) = benchmark_nodes(choice, budget).items()
    arguments = {k: v for k, v in node.items() if k != "_target_"}
    store = ResultStore(folder / "results" / name / slug(cell.exp), "made for a test")
    for sequence in procedural_benchmark(**arguments):
        boxes_xyxy = sequence.boxes_xyxy + np.array([shift_px, 0, shift_px, 0])
        boxes_xyxy[0] = sequence.start_xyxy
        count = len(sequence)
        store.save(TrackResult(sequence.name, boxes_xyxy, np.ones(count), np.full(count, 0.01)))
