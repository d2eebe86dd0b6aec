import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lightning_trackers.evaluation import Benchmark, TrackingSequence

SCRIPT = Path(__file__).parents[2] / "measurements/accuracy_vs_opencv.py"
script = runpy.run_path(str(SCRIPT))

needs_contrib = pytest.mark.skipif(
    not hasattr(cv2, "TrackerKCF_create"), reason="OpenCV without contrib trackers"
)


def drifting_square(count=12, step=2):
    """A textured square on texture, moving right and down by ``step`` px a frame."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (160, 200, 3), np.uint8), (5, 5), 2)
    target = rng.integers(0, 2, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1) * 255
    frames, boxes = [], []
    for t in range(count):
        x, y = 40 + step * t, 50 + step * t
        frame = texture.copy()
        frame[y : y + 32, x : x + 32] = target
        frames.append(frame)
        boxes.append([x, y, x + 32, y + 32])
    return TrackingSequence("square", frames, np.array(boxes, float), np.ones(count, bool))


@needs_contrib
@pytest.mark.parametrize("name", ["KCF", "CSRT"])
def test_opencv_trackers_follow_a_square_through_the_protocol(name):
    tracker = script["OpenCVTracker"](name)
    score = script["evaluate"]([tracker, tracker], Benchmark("one", [drifting_square()]))
    # A box that never moves scores 0.37 here.
    assert score.success_auc.shape == (2, 1)
    assert score.mean == score.success_auc[0, 0] > 0.7
    assert score.fps > 0


@needs_contrib
def test_the_last_box_stays_where_opencv_reports_failure():
    tracker = script["OpenCVTracker"]("KCF")
    sequence = drifting_square(4)
    state = tracker.start(sequence.frames[0], sequence.boxes_xyxy[0])
    seen = tracker.step([state], [sequence.frames[1]])[0]
    assert seen.score == 1
    blank = np.zeros_like(sequence.frames[0])
    lost = tracker.step([state], [blank])[0]
    assert lost.score == 0
    np.testing.assert_array_equal(lost.box_xyxy, seen.box_xyxy)


def test_a_missing_opencv_tracker_says_what_to_install():
    with pytest.raises(RuntimeError, match="opencv-contrib-python"):
        script["OpenCVTracker"]("Nonexistent")


def test_the_difference_is_paired_over_sequences():
    score, rng = script["Score"], np.random.default_rng(0)
    hard = rng.uniform(0.1, 0.9, 20)  # sequences differ more than the trackers
    second = hard + rng.normal(0, 0.01, (3, 20))
    found = script["difference"](score(second + 0.03, 1.0), score(second, 1.0), True)
    assert found.mean == pytest.approx(0.03)
    assert found.low == pytest.approx(0.03)  # the same trainings, the same sequences
    apart = script["difference"](score(second + 0.03, 1.0), score(second, 1.0), False)
    assert 0.02 < apart.low < 0.03 < apart.high < 0.04


def test_a_name_that_comes_twice_is_refused():
    with pytest.raises(ValueError, match="expected another name, as in name="):
        script["ours"](["=", "ours="])


@needs_contrib
def test_the_command_prints_and_writes_its_table(make_otb, monkeypatch, capsys, tmp_path):
    root = make_otb(drifting_square())
    argv = ["--root", str(root), "--trackers", "KCF", "--max-frames", "5"]
    csv_file = tmp_path / "table.csv"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *argv, "--csv", str(csv_file)])
    threads = cv2.getNumThreads()
    script["main"]()
    cv2.setNumThreads(threads)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == ["sequence", "KCF"]
    assert [row[0] for row in printed] == ["sequence", "square", "mean", "fps"]
    assert printed[1][1] == printed[2][1]
    assert [line.split(",") for line in csv_file.read_text().splitlines()] == printed


@pytest.fixture
def make_otb(tmp_path):
    def make(sequence):
        folder = tmp_path / "otb" / sequence.name
        (folder / "img").mkdir(parents=True)
        for t, frame in enumerate(sequence, start=1):
            cv2.imwrite(str(folder / "img" / f"{t:04d}.png"), frame[..., ::-1])
        rows = [
            f"{x1 + 1:g},{y1 + 1:g},{x2 - x1:g},{y2 - y1:g}"
            for x1, y1, x2, y2 in sequence.boxes_xyxy
        ]
        (folder / "groundtruth_rect.txt").write_text("\n".join(rows))
        return tmp_path / "otb"

    return make
