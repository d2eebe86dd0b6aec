import zipfile

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from datamodules.benchmarks.trackingnet import trackingnet_benchmark
from experiments.config import CONF, ConfigError
from experiments.submit import submit
from lightning_trackers.evaluation.one_pass import track_one_pass
from lightning_trackers.evaluation.results import ResultStore
from lightning_trackers.evaluation.static import StaticTracker


@pytest.fixture
def root(tmp_path):
    image = cv2.imencode(".jpg", np.zeros((24, 32, 3), np.uint8))[1].tobytes()
    for name in ("v1", "v2"):
        frames = tmp_path / "TEST" / "frames" / name
        frames.mkdir(parents=True)
        for t in range(3):
            (frames / f"{t}.jpg").write_bytes(image)
        (tmp_path / "TEST" / "anno").mkdir(exist_ok=True)
        (tmp_path / "TEST" / "anno" / f"{name}.txt").write_text("2,3,10,12\n")
    return tmp_path


def config(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("submit", overrides=list(overrides))


def trackingnet(root, results, *overrides):
    return config(
        "benchmark=[trackingnet_test]",
        f"paths.trackingnet_root={root}",
        "+benchmarks.trackingnet_test.sequences=[v1,v2]",
        f"results={results}",
        *overrides,
    )


def test_tracked_results_become_an_archive_beside_them(root, tmp_path):
    store = ResultStore(tmp_path / "results" / "static", "static")
    benchmark = trackingnet_benchmark(root, sequences=["v1", "v2"])
    for result in track_one_pass(StaticTracker(), benchmark):
        store.save(result)
    out = submit(trackingnet(root, store.folder))
    assert out == tmp_path / "results" / "static.zip"
    with zipfile.ZipFile(out) as archive:
        assert sorted(archive.namelist()) == ["v1.txt", "v2.txt"]
        assert archive.read("v1.txt") == b"2.000,3.000,10.000,12.000\n" * 3
    elsewhere = submit(trackingnet(root, f"[{store.folder}]", f"out={tmp_path / 'mine.zip'}"))
    assert elsewhere.read_bytes() == out.read_bytes()


def test_an_incomplete_evaluation_is_no_submission(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="track first"):
        submit(trackingnet(root, tmp_path / "results"))


def test_only_one_benchmark_with_a_server_is_submitted(root, tmp_path):
    folder = tmp_path / "otb" / "Bolt"
    (folder / "img").mkdir(parents=True)
    (root / "TEST/frames/v1/0.jpg").rename(folder / "img" / "0001.jpg")
    (folder / "groundtruth_rect.txt").write_text("2,3,10,12\n")
    with pytest.raises(ConfigError, match=r"otb: has public ground truth .* got10k_test and"):
        submit(config("benchmark=[otb]", f"paths.otb_root={folder.parent}", "results=r"))
    with pytest.raises(ConfigError, match=r"expected one to submit, got \['otb2015', 'tc128'\]"):
        submit(config("benchmark=[otb2015,tc128]", "results=r"))
