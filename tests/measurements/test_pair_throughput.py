import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

script = runpy.run_path(str(Path(__file__).parents[2] / "measurements/pair_throughput.py"))


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def test_both_sides_get_the_same_files_and_ours_the_boxes_in_them(tmp_path):
    index, annotation = script["make_crops"](tmp_path, videos=2, frames=2)
    assert len(list(tmp_path.glob("v*/00000?.00.x.jpg"))) == 4
    boxes = index.track(0).boxes_xyxy
    # A context crop shows its target in the middle, with the area of the exemplar's target:
    # (w + (w + h) / 2) (h + (w + h) / 2) = 127².
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, 255.5, atol=1e-3)
    wh = boxes[:, 2:] - boxes[:, :2]
    margin = wh.sum(axis=1, keepdims=True) / 2
    np.testing.assert_allclose((wh + margin).prod(axis=1), 127**2, rtol=1e-4)
    assert '"000001"' in annotation.read_text()
    sample = script["ours"](index, tmp_path)[0]
    assert sample.search.shape == (255, 255, 3)


def test_ratios_are_medians_of_rounds():
    times = {"two decodes (floor)": [1.0, 2.0, 4.0], "ours": [2.0, 3.0, 5.0], "other": [8.0, 9, 10]}
    lines = script["report"](times)
    # 8 / 2 = 4, 9 / 3 = 3 and 10 / 5 = 2: the median is 3. Above the floor: 1, 0.5 and 0.25.
    assert lines[3].split() == ["other", "9.00", "111", "3.00"]
    assert lines[-1] == "ours is 50% above the floor"


def test_the_command_prints_its_table(capsys):
    script["main"](["--rounds", "1", "--pairs", "2", "--videos", "2", "--frames", "2"])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed[1:3]] == ["two decodes (floor)", "ours"]
    assert "--pysot" in printed[-1]


def test_what_is_not_a_checkout_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no experiments.*expected a checkout of"):
        script["pysot_dataset"](tmp_path, tmp_path, tmp_path / "annotation.json")
