import runpy
from pathlib import Path

import cv2
import pytest
import torch

script = runpy.run_path(str(Path(__file__).parents[2] / "measurements/shard_throughput.py"))


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def test_the_command_prints_both_stages(capsys):
    script["main"](["--rounds", "2", "--pairs", "2", "--videos", "2", "--frames", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines[1:3]:
        *_, shards, _, loose, _, ratio = line.split()
        assert float(shards) > 0
        assert float(loose) > 0
        assert 0.2 < float(ratio) < 5


def test_the_ratio_is_the_median_of_the_rounds():
    times = {
        stage: {"shards": [1.0, 2.0, 4.0], "loose files": [2.0, 6.0, 4.0]}
        for stage in ("pairs with augmentation", "drawing and reading")
    }
    lines = script["report"](times)
    assert lines[1].split()[-1] == "2.00"  # of 2, 3 and 1
    assert lines[-1] == "shards: 500 pairs/s; loose files: 250 pairs/s"


def test_sides_that_differ_are_refused(tmp_path, monkeypatch):
    loose_files = script["loose_files"]

    def others(packed, root):
        source = loose_files(packed, root)
        for file in root.rglob("*.jpg"):
            file.write_bytes(next(root.rglob("*.jpg")).read_bytes())
        return source

    monkeypatch.setitem(script["measure"].__globals__, "loose_files", others)
    with pytest.raises(RuntimeError, match="the sides differ"):
        script["measure"](tmp_path, rounds=1, pairs=1, videos=3, frames=3)
