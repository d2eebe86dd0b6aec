import importlib.util
import json
import zipfile

import cv2
import numpy as np
import pytest

from datamodules.benchmarks.got10k import got10k_benchmark
from datamodules.benchmarks.otb import otb_benchmark
from datamodules.benchmarks.otb_sequences import VERSIONS
from lightning_trackers.boxes import xyxy_to_xywh
from lightning_trackers.evaluation.adapters.got10k import Got10kConvention, got10k_tracker
from lightning_trackers.evaluation.one_pass import TrackResult, track_one_pass
from lightning_trackers.evaluation.ope_protocol import OnePass
from lightning_trackers.evaluation.results import ResultStore
from lightning_trackers.evaluation.submission import GOT10K_SERVER
from lightning_trackers.evaluation.tracker import Prediction

TOOLKIT = importlib.util.find_spec("got10k") is not None


class Drifter:
    """Moves by what the frame says: right by its red channel, and grows by half a px."""

    def start(self, frame, box_xyxy):
        return {"box": np.asarray(box_xyxy, np.float32).copy()}

    def step(self, states, frames):
        for state, frame in zip(states, frames, strict=True):
            step = float(frame[0, 0, 0])
            state["box"] = state["box"] + np.array([step, 0, step + 0.5, 0], np.float32)
        return [Prediction(state["box"].copy(), 0.5) for state in states]


def frame(red):
    return np.full((40, 60, 3), (red, 10, 20), np.uint8)


def test_boxes_keep_the_convention_of_the_files():
    adapted = Got10kConvention(Drifter())
    adapted.init(frame(0), np.array([1.0, 1.0, 10.0, 20.0]))
    # 1-based x = 1 is the left edge 0; two to the right it is 3.
    assert adapted.update(frame(2)).tolist() == [3, 1, 10.5, 20]
    zero_based = Got10kConvention(Drifter(), one_based=False)
    zero_based.init(frame(0), np.array([0.0, 0.0, 10.0, 20.0]))
    assert zero_based.update(frame(2)).tolist() == [2, 0, 10.5, 20]


def test_the_tracker_works_inside_in_zero_based_coordinates():
    seen = []

    class Listener(Drifter):
        def start(self, frame, box_xyxy):
            seen.append(box_xyxy.tolist())
            return super().start(frame, box_xyxy)

    Got10kConvention(Listener()).init(frame(0), np.array([3, 4, 10, 20]))
    assert seen == [[2, 3, 12, 23]]


@pytest.mark.skipif(TOOLKIT, reason="the got10k toolkit is installed")
def test_without_the_toolkit_the_error_says_what_to_install():
    with pytest.raises(ImportError, match=r"pip install got10k \(see docs/adapters\.md\)"):
        got10k_tracker(Drifter(), "drifter")


@pytest.mark.skipif(not TOOLKIT, reason="the got10k toolkit is not installed")
@pytest.mark.filterwarnings("ignore")  # the toolkit is older than its dependencies
def test_the_toolkit_s_experiment_agrees_with_our_evaluation(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    from got10k.experiments import ExperimentOTB

    # The toolkit wants all folders, but reads only those that hold an annotation.
    for name in VERSIONS["2013"]:
        (tmp_path / "otb" / name.split("-")[0] / "img").mkdir(parents=True, exist_ok=True)
    wanted = ["Couple", "Deer", "Jogging-1", "Jogging-2"]
    for k, name in enumerate(wanted):
        folder, target = tmp_path / "otb" / name.split("-")[0], f".{name[-1]}" if k > 1 else ""
        for t in range(8):
            cv2.imwrite(str(folder / "img" / f"{t + 1:04d}.jpg"), frame(t % 3 * 40)[..., ::-1])
        lines = [f"{5 + k + 13 * (t > 4)},7,{20 + k},15\n" for t in range(8)]
        (folder / f"groundtruth_rect{target}.txt").write_text("".join(lines))

    experiment = ExperimentOTB(
        str(tmp_path / "otb"), 2013, str(tmp_path / "results"), str(tmp_path / "reports")
    )
    experiment.run(got10k_tracker(Drifter(), "drifter"))
    report = experiment.report(["drifter"])["drifter"]

    benchmark = otb_benchmark(tmp_path / "otb", 2013, sequences=wanted)
    results = {}
    for ours in track_one_pass(Drifter(), benchmark):
        file = tmp_path / "results/OTB2013/drifter" / f"{ours.name.replace('-', '.')}.txt"
        theirs_xywh = np.loadtxt(file, delimiter=",")
        ours_xywh = xyxy_to_xywh(ours.boxes_xyxy) + np.array([1, 1, 0, 0])
        # The toolkit writes three decimals.
        np.testing.assert_allclose(theirs_xywh, ours_xywh, rtol=0, atol=5.1e-4)
        results[ours.name] = TrackResult(ours.name, ours.boxes_xyxy, ours.scores, ours.times_s)
    scores = OnePass("got10k").score(benchmark, results).scalars
    assert scores["success_auc"] == pytest.approx(report["overall"]["success_score"], abs=1e-12)
    assert scores["precision_20px"] == pytest.approx(
        report["overall"]["precision_score"], abs=1e-12
    )
    assert 0.1 < scores["success_auc"] < 0.9
    json.loads((tmp_path / "reports/OTB2013/drifter/performance.json").read_text())


@pytest.mark.skipif(not TOOLKIT, reason="the got10k toolkit is not installed")
@pytest.mark.filterwarnings("ignore")  # the toolkit is older than its dependencies
def test_our_archive_is_the_toolkit_s(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # it lets the user read a warning
    from got10k.experiments import ExperimentGOT10k

    names = ["GOT-10k_Test_000001", "GOT-10k_Test_000002"]
    for name in names:
        folder = tmp_path / "got" / "test" / name
        folder.mkdir(parents=True)
        for t in range(4):
            cv2.imwrite(str(folder / f"{t + 1:08d}.jpg"), frame(t * 20)[..., ::-1])
        (folder / "groundtruth.txt").write_text("5.0000,7.0000,20.5000,15.0000\n")
    (tmp_path / "got" / "test" / "list.txt").write_text("\n".join(names) + "\n")

    results, reports = str(tmp_path / "results"), str(tmp_path / "reports")
    experiment = ExperimentGOT10k(str(tmp_path / "got"), "test", results, reports)
    experiment.run(got10k_tracker(Drifter(), "drifter"))
    experiment.report(["drifter"])
    theirs = contents(tmp_path / "results" / "GOT-10k" / "drifter.zip")

    benchmark = got10k_benchmark(tmp_path / "got", "test", sequences=names)
    store = ResultStore(tmp_path / "ours", "drifter")
    for result in track_one_pass(Drifter(), benchmark):
        store.save(result)
    ours = contents(GOT10K_SERVER.write_archive(benchmark, [store.folder], tmp_path / "ours.zip"))
    assert sorted(ours) == sorted(n for n in theirs if not n.endswith("/"))
    for path in ours:
        if path.endswith("_001.txt"):
            assert ours[path] == theirs[path]
        else:
            rows = [
                [len(v.partition(".")[2]) for v in row.split(",")] for row in ours[path].split()
            ]
            assert rows == [[8]] * 4  # one column of seconds with eight digits, as there
            assert [len(v.partition(".")[2]) for v in theirs[path].split()] == [8] * 4


def contents(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}
