import csv
import math
import subprocess
import sys

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.config import CONF, ConfigError
from experiments.search import TrialTable, run_of, search
from experiments.settings import given_settings
from experiments.trials import Trials
from lightning_trackers.methods import load_tracker

SMALL = (
    "validation_benchmark.count=2",
    "validation_benchmark.length=5",
    "trials=6",
    "batch=3",
    "retrack=1",
    "device=cpu",
)


def composed(folder, *overrides):
    """Return the command's configuration without what Hydra's own names are needed for."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(
            "search",
            [*SMALL, "exp_name=ours", "run_name=small", f"run_dir={folder}", *overrides],
        )
    OmegaConf.set_struct(cfg, False)
    cfg.callbacks = cfg.logger = cfg.trainer = {}
    cfg.stages_dir = str(folder)
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


def rows(folder):
    with (folder / "search/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_goes_on_as_if_it_had_not_stopped(tmp_path, monkeypatch):
    whole = search(composed(tmp_path / "whole"), tmp_path / "whole")
    score, calls = Trials.replayed, []

    def interrupted(self, settings, *progress):
        calls.append(len(settings))
        if calls == [1, 3, 3]:  # the settings as they are, a batch, the second batch
            raise KeyboardInterrupt
        return score(self, settings, *progress)

    monkeypatch.setattr(Trials, "replayed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(composed(tmp_path / "parts"), tmp_path / "parts")
    assert len(rows(tmp_path / "parts")) == 3
    assert not (tmp_path / "parts/search/best.yaml").exists()
    parts = search(composed(tmp_path / "parts"), tmp_path / "parts")
    assert calls == [1, 3, 3, 1, 3]
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "whole")) == 6
    assert parts == whole
    # What was found, and where it says so.
    best = yaml.safe_load((tmp_path / "whole/search/best.yaml").read_text())
    assert best == whole
    assert (best["benchmark"], best["is_test_benchmark"], best["trials"]) == (
        "procedural_val", False, 6,
    )  # fmt: skip
    assert best["retracked_score"] >= best["baseline"]["retracked_score"]
    assert "plotly" in (tmp_path / "whole/search/search.html").read_text("utf-8").lower()
    # Trials differ, and so do their scores.
    table = rows(tmp_path / "whole")
    assert len({row["size_lr"] for row in table}) == 6
    assert len({row["score"] for row in table}) > 1
    for row in table:
        assert 0 <= float(row["window_influence"]) <= 0.8
    # The file is taken as settings.
    given = given_settings(str(tmp_path / "whole/search/best.yaml"))
    assert given == best["settings"]
    assert load_tracker(None, given).settings.size_lr == best["settings"]["size_lr"]
    # A search of something else leaves these trials alone, or says that it removes them.
    other = composed(tmp_path / "whole", "+space.size_lr=[0.1,0.2]")
    with pytest.raises(FileExistsError, match="another checkpoint, benchmark or space"):
        search(other, tmp_path / "whole")
    other.overwrite = True
    search(other, tmp_path / "whole")
    assert max(float(row["size_lr"]) for row in rows(tmp_path / "whole")) <= 0.2


def test_tracking_every_time_searches_any_setting(tmp_path):
    cfg = composed(
        tmp_path, "cache=false", "trials=1", "batch=1", "+space.min_side=[5,20]",
        "+space.size_lr=null",
    )  # fmt: skip
    best = search(cfg, tmp_path)
    assert best["cache"] is False
    assert best["lattice"] is None
    assert set(best["settings"]) == {"scale_penalty", "window_influence", "min_side"}
    # Nothing was approximated: tracked again, the same settings score the same.
    assert best["retracked_score"] == best["score"]
    assert not (tmp_path / "search/cache").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["validation_benchmark.split=test"], "procedural_val is a test benchmark .* allow_test"),
        (["search_benchmark=procedural_test"], "procedural_test is a test benchmark"),
        (["search_benchmark=otb"], r"search_benchmark=otb: there are \['procedural_test'\]"),
        (["+space.size_lr=[0.3,0.3]"], "space.size_lr: expected low < high"),
        (["+space.size_lr=0.3"], r"space.size_lr: expected \[low, high\], got 0.3"),
        (["+space.size_rate=[0,1]"], "space.size_rate: no such setting .*size_lr"),
        (["+space.search_size=[200,300]"], "search_size: the network's answers depend on it"),
        (["+space.size_lr=[0,2]"], r"expected size_lr in \[0, 1\], got 2"),
        (["~spaces.siamrpn"], "no ranges for siamrpn"),
        (["workers=0"], "workers=0: expected at least 1"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_work(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        search(composed(tmp_path, *overrides), tmp_path)
    assert not (tmp_path / "search/trials.csv").exists()


def test_a_forced_test_benchmark_is_recorded(tmp_path):
    cfg = composed(
        tmp_path, "allow_test=true", "trials=1", "retrack=0", "search_benchmark=procedural_test",
        "benchmarks.procedural_test.count=1", "benchmarks.procedural_test.length=3",
    )  # fmt: skip
    assert search(cfg, tmp_path)["is_test_benchmark"] is True


def test_a_tracker_that_learns_online_is_told_to_track_every_time(tmp_path, monkeypatch):
    class Learner:
        settings = None

    monkeypatch.setattr("experiments.trials.load_tracker", lambda *_: Learner())
    cfg = composed(tmp_path)
    with pytest.raises(ConfigError, match=r"Learner learns online .* cache=false"):
        search(cfg, tmp_path)


def test_a_table_keeps_numbers_exactly(tmp_path):
    values = {"a": 0.1 + 0.2, "b": math.pi}
    TrialTable(tmp_path, "x", ["a", "b"]).add([(1 / 3, values), (0.5, values)])
    again = TrialTable(tmp_path, "x", ["a", "b"])
    assert again.rows == [(1 / 3, values), (0.5, values)]
    assert again.ranked()[0][0] == 0.5


def test_the_run_of_a_checkpoint():
    assert run_of("outputs/a/b/checkpoints/last.ckpt", "else") == "outputs/a/b"
    assert run_of("weights/siamrpn.pt", "else") == "else"
    assert run_of(None, "else") == "else"


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no such file"), ("score: 1", "expected the key 'settings'"), ("{", "not YAML")],
)
def test_a_settings_file_without_settings_is_refused(tmp_path, text, message):
    path = tmp_path / "best.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        given_settings(str(path))


@pytest.mark.slow
def test_processes_find_the_same(tmp_path):
    for workers in (1, 2):
        done = subprocess.run(
            [sys.executable, "-m", "experiments.search", *SMALL, "logger=csv",
             f"run_dir={tmp_path / str(workers)}", f"workers={workers}"],
            capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, two = rows(tmp_path / "1"), rows(tmp_path / "2")
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(
            [float(v) for v in a.values()], [float(v) for v in b.values()], rtol=1e-6
        )
