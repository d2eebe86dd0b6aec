import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

script = runpy.run_path(str(Path(__file__).parents[2] / "measurements/metrics_speed.py"))

LENGTHS = {"Car": 20, "Jogging.1": 12}


@pytest.fixture
def files(tmp_path):
    """Annotations and the results of two trackers on two drawn sequences."""
    rng = np.random.default_rng(0)
    annotations, results = tmp_path / "anno", tmp_path / "results"
    annotations.mkdir()
    for tracker in ("fast", "slow"):
        (results / tracker / "times").mkdir(parents=True)
    for name, count in LENGTHS.items():
        truth = np.hstack([rng.uniform(5, 90, (count, 2)), rng.uniform(10, 60, (count, 2))])
        stem = name[0].lower() + name[1:].replace(".", "-")
        np.savetxt(annotations / f"{stem}.txt", truth.round(), fmt="%d", delimiter="\t")
        for tracker in ("fast", "slow"):
            noisy = truth.round() + rng.normal(0, 6, truth.shape)
            np.savetxt(results / tracker / f"{name}.txt", noisy, fmt="%.3f", delimiter=",")
            times = rng.uniform(0.01, 0.1, count)
            np.savetxt(results / tracker / f"times/{name}_time.txt", times, fmt="%.8f")
    return annotations, results


def reported(annotations, tracker):
    """What the toolkit's report says, by its formulas, frame by frame."""
    rows = {}
    for name, file in annotations.items():
        truth, boxes = np.loadtxt(file), np.loadtxt(tracker / f"{name}.txt", delimiter=",")
        boxes[0] = truth[0]
        overlaps, errors = [], []
        for (x, y, w, h), (u, v, a, b) in zip(boxes, truth, strict=True):
            width = max(0, min(x + w, u + a) - max(x, u))
            height = max(0, min(y + h, v + b) - max(y, v))
            overlaps.append(width * height / (w * h + a * b - width * height))
            errors.append(np.hypot(x + w / 2 - u - a / 2, y + h / 2 - v - b / 2))
        success = np.mean([o > np.linspace(0, 1, 21) for o in overlaps], axis=0)
        precision = np.mean([e <= np.arange(51) for e in errors], axis=0)
        times = np.loadtxt(tracker / f"times/{name}_time.txt")
        rows[name] = {
            "success_curve": success,
            "precision_curve": precision,
            "success_score": success.mean(),
            "precision_score": precision[20],
            "success_rate": success[10],
            "speed_fps": (1 / times).mean(),
        }
    overall = {key: np.mean([row[key] for row in rows.values()], axis=0) for key in rows["Car"]}
    return {"seq_wise": rows, "overall": overall}


def test_ours_reports_what_the_toolkit_computes_and_a_difference_is_refused(files, tmp_path):
    annotations = script["named_annotations"](files[0])
    assert list(annotations) == ["Car", "Jogging.1"]
    trackers = script["copied_trackers"](files[1], tmp_path / "OTB2015", 5)
    ours = script["report"](annotations, trackers)
    theirs = {folder.name: reported(annotations, folder) for folder in trackers}
    script["compare"](ours, theirs)
    theirs[trackers[3].name]["seq_wise"]["Car"]["success_rate"] += 1e-6
    with pytest.raises(RuntimeError, match=r"slow_03: success_rate of a sequence differs by 1e-06"):
        script["compare"](ours, theirs)


def test_copies_differ_and_keep_their_times(files, tmp_path):
    folders = script["copied_trackers"](files[1], tmp_path / "OTB2015", 4)
    assert [f.name for f in folders] == ["fast_00", "slow_01", "fast_02", "slow_03"]
    texts = [(f / "Car.txt").read_text() for f in folders]
    assert len(set(texts)) == 4
    assert texts[0] == (files[1] / "fast/Car.txt").read_text()
    times = "times/Jogging.1_time.txt"
    assert (folders[2] / times).read_text() == (files[1] / "fast" / times).read_text()


def test_the_tree_has_what_the_toolkit_counts(files, tmp_path):
    annotations = script["named_annotations"](files[0])
    annotations["David"] = annotations.pop("Car")
    script["otb_tree"](annotations, tmp_path)
    assert (tmp_path / "Jogging/groundtruth_rect.1.txt").is_file()
    assert (tmp_path / "David/groundtruth_rect.txt").is_file()
    assert len(list((tmp_path / "Jogging/img").iterdir())) == 12
    # The toolkit takes images 300 to 770 of David.
    assert len(list((tmp_path / "David/img").iterdir())) == 299 + 20


def test_the_command_prints_a_row_for_each_measurement(files, capsys):
    annotations, results = files
    argv = ["--results", str(results), "--annotations", str(annotations)]
    script["main"]([*argv, "--trackers", "3", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 trackers, 2 sequences, 1 rounds"
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "from result files to scores",
        "scores of boxes in memory",
    ]
    assert all("ours" in line and "got10k" not in line for line in lines[1:])


def test_the_ratio_is_the_median_of_the_rounds():
    row = script["Row"]("drawn", ours_s=[1.0, 2.0, 4.0], theirs_s=[10.0, 30.0, 48.0])
    assert str(row).endswith("12.0 times as fast")  # of 10, 15 and 12


def test_folders_that_hold_nothing_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected annotation files"):
        script["named_annotations"](tmp_path)
    with pytest.raises(FileNotFoundError, match="expected a folder of result files per tracker"):
        script["copied_trackers"](tmp_path, tmp_path / "copies", 2)
    before = list(sys.path)
    with pytest.raises(FileNotFoundError, match=r"no got10k/experiments/otb\.py"):
        script["Toolkit"](tmp_path, {}, tmp_path)
    assert sys.path == before
