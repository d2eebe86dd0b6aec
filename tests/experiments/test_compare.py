import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datamodules.benchmarks.annotations import NoFrames, annotated_otb
from datamodules.errors import DatasetError
from datamodules.names import matched_names
from datamodules.raw_results import read_comparison, read_results
from experiments.compare import named_folders, scored
from experiments.config import ConfigError
from lightning_trackers.evaluation.one_pass import TrackResult
from lightning_trackers.evaluation.results import ResultStore
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.supervised import VOTSupervised

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared"
needs_results = pytest.mark.skipif(
    not (SHARED / "results").exists(), reason="../shared/results is not there"
)


def sequence(name="Deer", length=4):
    boxes = np.tile([10.0, 20, 40, 60], (length, 1)) + np.arange(length)[:, None]
    return TrackingSequence(name, NoFrames(name, length), boxes, np.ones(length, bool))


def benchmark(*names, protocol=None):
    return Benchmark("small", [sequence(name) for name in names or ("Deer",)], protocol)


def lines(count=4, separator=",", shift=0):
    """What the files hold: x,y,w,h, 1-based."""
    rows = [(11 + t + shift, 21 + t, 30, 40) for t in range(count)]
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def write(folder, **texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", "  "])
def test_otb_text_with_any_separator(tmp_path, separator):
    folder = write(tmp_path / "KCF", Deer=lines(separator=separator))
    results, bad = read_results(benchmark(), folder)
    assert bad == {}
    np.testing.assert_array_equal(results["Deer"].boxes_xyxy, sequence().boxes_xyxy)
    assert np.isnan(results["Deer"].fps)  # nobody measured it


def test_times_beside_the_boxes(tmp_path):
    folder = write(tmp_path / "KCF", Deer=lines())
    write(folder / "times", Deer_time="1.0\n0.5\n0.5\n0.5\n")
    assert read_results(benchmark(), folder)[0]["Deer"].fps == 2.0
    write(folder / "times", Deer_time="1.0\n")
    assert "expected 4 times" in read_results(benchmark(), folder)[1]["Deer"]


def test_got10k_layout_with_a_column_of_times_per_repetition(tmp_path):
    folder = tmp_path / "SiamFC"
    write(folder / "Deer", Deer_001=lines(), Deer_002=lines(shift=1), Deer_time="1,9\n.25,9\n" * 2)
    result = read_results(benchmark(), folder)[0]["Deer"]
    np.testing.assert_array_equal(result.boxes_xyxy, sequence().boxes_xyxy)
    assert result.fps == pytest.approx(3 / 1.5)


def test_own_results_are_read_by_their_own_store(tmp_path):
    folder = tmp_path / "ours"
    s = sequence()
    times = np.array([1.0, 0.5, 0.5, 0.5])
    ResultStore(folder, "weights abc").save(TrackResult("Deer", s.boxes_xyxy, np.ones(4), times))
    result = read_results(benchmark(), folder)[0]["Deer"]
    assert result.scores.tolist() == [1, 1, 1, 1]
    assert result.fps == 2.0


@pytest.mark.parametrize("name", ["Jogging-1", "Jogging_1", "Jogging.1", "jogging-1", "Jogging1"])
def test_spellings_of_split_sequences(name):
    files = {name: Path("a"), "Jogging-2": Path("b"), "Deer": Path("c")}
    found = matched_names(["Jogging-1", "Jogging-2", "Deer"], files)
    assert found == {"Jogging-1": Path("a"), "Jogging-2": Path("b"), "Deer": Path("c")}


def test_a_single_target_may_bear_the_name_of_its_folder():
    assert matched_names(["Human4-2"], {"human4": Path("a")}) == {"Human4-2": Path("a")}
    # Two targets: nobody can say which one is meant.
    assert matched_names(["Jogging-1", "Jogging-2"], {"Jogging": Path("a")}) == {}
    # The plain name is a sequence of its own.
    assert matched_names(["Girl", "Girl-2"], {"Girl": Path("a")}) == {"Girl": Path("a")}


def test_two_files_for_one_sequence_are_refused():
    with pytest.raises(DatasetError, match="Jogging-1: two files may be meant"):
        matched_names(["Jogging-1"], {"Jogging.1": Path("a"), "jogging_1": Path("b")})


BAD = {
    "too few lines": (lines(3), "expected 4 lines, one a frame, got 3"),
    "too many lines": (lines(5), "expected 4 lines, one a frame, got 5"),
    "wrong separator": (lines(separator=";"), "line 1: expected four numbers"),
    "words": (lines(2) + "lost\n" + lines(1), "line 3: expected four numbers"),
    "half NaN": (lines(3) + "NaN,NaN,30,40\n", "line 4: expected a box, or four NaN"),
    "infinite": (lines(3) + "inf,1,30,40\n", "line 4"),
    "empty": ("", "empty"),
    "another target": (lines(shift=500), "belongs to other annotations"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_named_with_line_and_reason(tmp_path, text, message):
    folder = write(tmp_path / "KCF", Deer=text)
    with pytest.raises(DatasetError, match="KCF: 1 of 1 sequences") as error:
        read_comparison(benchmark(), {"KCF": folder})
    assert message in str(error.value)
    assert "Deer" in str(error.value)


def test_lost_frames_may_be_four_nan(tmp_path):
    folder = write(tmp_path / "KCF", Deer=lines(3) + "NaN,NaN,NaN,NaN\n")
    result = read_results(benchmark(), folder)[0]["Deer"]
    assert np.isnan(result.boxes_xyxy[3]).all()
    # The OTB toolkit repeats the box before, which still overlaps.
    assert 0 < scored(benchmark(), "KCF", {"Deer": result}).headline_score < 20 / 21


def test_a_missing_sequence_is_left_out_for_all_trackers(tmp_path, caplog):
    both = write(tmp_path / "A", Deer=lines(), Girl=lines())
    one = write(tmp_path / "B", Deer=lines())
    compared = read_comparison(benchmark("Deer", "Girl"), {"A": both, "B": one}, "exclude")
    assert [s.name for s in compared.benchmark] == ["Deer"]
    assert {t: list(r) for t, r in compared.results.items()} == {"A": ["Deer"], "B": ["Deer"]}
    assert list(compared.excluded) == ["Girl"]
    assert "B: Girl: no file of this name" in compared.excluded["Girl"]
    assert "Girl is left out" in caplog.text
    with pytest.raises(DatasetError, match="missing=exclude\n  Girl: no file of this name"):
        read_comparison(benchmark("Deer", "Girl"), {"A": both, "B": one})
    with pytest.raises(DatasetError, match="no sequence has a usable result"):
        read_comparison(benchmark("Girl"), {"B": one}, "exclude")
    with pytest.raises(ValueError, match="missing: expected error or exclude"):
        read_comparison(benchmark(), {"A": both}, "ignore")


def test_unknown_folders_say_what_is_expected(tmp_path):
    with pytest.raises(DatasetError, match="no such folder; expected one of"):
        read_results(benchmark(), tmp_path / "none")
    (tmp_path / "matlab").mkdir()
    (tmp_path / "matlab" / "deer_KCF.mat").touch()
    with pytest.raises(DatasetError, match=r"(?s)no results in it.*\.mat files"):
        read_results(benchmark(), tmp_path / "matlab")


def test_zero_based_files_are_noticed(tmp_path, caplog):
    rows = "".join(f"{10 + t},{20 + t},30,40\n" for t in range(4))
    read_results(benchmark(), write(tmp_path / "KCF", Deer=rows))
    assert "seem to be 0-based" in caplog.text
    caplog.clear()
    read_results(benchmark(), write(tmp_path / "SiamFC", Deer=lines()))
    assert caplog.text == ""


def test_vot_results_are_read_as_regions(tmp_path):
    s = benchmark(protocol=VOTSupervised(2018))
    write(tmp_path / "T" / "baseline" / "Deer", Deer_001="1\n10,20,30,40\n2\n0\n")
    result = read_results(s, tmp_path / "T")[0]["Deer"]
    assert result.runs[0][:, 0].tolist() == [1, 10, 2, 0]
    write(tmp_path / "T" / "baseline" / "Deer", Deer_001="1\n10,20,30,40\n")
    assert "expected 4 lines" in read_results(s, tmp_path / "T")[1]["Deer"]


def test_benchmark_from_annotations_alone(tmp_path):
    folder = write(tmp_path / "anno", deer=lines(), tiger1=lines(354), jogging_1=lines(7))
    write(tmp_path, tb_100="a list beside the annotations")
    made = annotated_otb(tmp_path, sequences=["Deer", "Tiger1", "Jogging-1"])
    assert [(s.name, len(s)) for s in made] == [("Deer", 4), ("Tiger1", 349), ("Jogging-1", 7)]
    assert made.sequences[0].attributes == {"MB", "FM", "IPR", "BC", "LR"}
    np.testing.assert_array_equal(made.sequences[0].boxes_xyxy, sequence().boxes_xyxy)
    assert [len(s) for s in annotated_otb(folder, sequences=["Deer"], max_frames=3)] == [3]
    with pytest.raises(FileNotFoundError, match="Deer: only its annotation"):
        made.sequences[0].frames[0]
    with pytest.raises(DatasetError, match="expected the 100 sequences"):
        annotated_otb(folder)
    with pytest.raises(ValueError, match="version: expected one of"):
        annotated_otb(folder, version="2016")
    with pytest.raises(DatasetError, match="no annotation file"):
        annotated_otb(tmp_path / "none")


def test_results_of_all_frames_of_tiger1_are_cut_to_the_evaluated_ones(tmp_path):
    made = annotated_otb(write(tmp_path / "anno", Tiger1=lines(354)), sequences=["Tiger1"])
    folder = write(tmp_path / "KCF", tiger1=lines(354))
    result = read_results(made, folder)[0]["Tiger1"]
    np.testing.assert_array_equal(result.boxes_xyxy, made.sequences[0].boxes_xyxy)


def test_names_of_trackers():
    assert named_folders(["r/KCF", "r/SiamFC/"]) == {
        "KCF": Path("r/KCF"),
        "SiamFC": Path("r/SiamFC"),
    }
    assert named_folders({"ours": "x/y"}) == {"ours": Path("x/y")}
    assert list(named_folders("r/KCF")) == ["KCF"]
    with pytest.raises(ConfigError, match=r"several folders are named \['KCF'\]"):
        named_folders(["a/KCF", "b/KCF"])
    with pytest.raises(ConfigError, match="results: expected folders"):
        named_folders([])


def command(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.compare", *arguments, f"run_dir={tmp_path / 'out'}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_without_frames(tmp_path):
    anno = write(tmp_path / "anno", Deer=lines(), Girl=lines())
    good = write(tmp_path / "good", Deer=lines(), Girl=lines())
    poor = write(tmp_path / "poor", Deer=lines(shift=5), Girl=lines(shift=9))
    done = command(
        tmp_path,
        "benchmark=otb2015",
        f"annotations={anno}",
        "benchmarks.otb2015.name=two",
        "+benchmarks.otb2015.sequences=[Deer,Girl]",
        f"results={{A:{good},B:{poor}}}",
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert (out / "report.html").stat().st_size > 1e6
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["tracker"] for row in rows] == ["A", "B"]
    assert float(rows[0]["success_auc"]) == pytest.approx(20 / 21)
    assert (out / "tables" / "two.tex").is_file()
    assert (out / "plots" / "two_success.pdf").is_file()


def test_command_ends_in_one_line_on_bad_results(tmp_path):
    anno = write(tmp_path / "anno", Deer=lines())
    done = command(
        tmp_path,
        f"annotations={anno}",
        "+benchmarks.otb2015.sequences=[Deer]",
        f"results=[{tmp_path / 'nobody'}]",
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert f"{tmp_path / 'nobody'}: no such folder" in done.stderr


@needs_results
@pytest.mark.parametrize("tracker", ["kcf", "SiamFC_ytb_e48"])
def test_published_otb_scores(tracker):
    reported = json.loads((SHARED / "results/otb2015/reported.json").read_text())[tracker]
    made = annotated_otb(SHARED / "annotations/otb100")
    results, bad = read_results(made, SHARED / "results/otb2015" / tracker)
    assert bad == {}
    found = scored(made, tracker, results).scores.sequences
    # Reported by the got10k toolkit, which differs where ground truth is invalid or cut off.
    others = {"Biker", "Crowds", "Board", "Twinnings", "Tiger1"}
    names = {_published_name(name, reported["per_sequence"]): name for name in found}
    for published, name in names.items():
        if name not in others:
            value = reported["per_sequence"][published]
            assert found[name]["success_auc"] == pytest.approx(value["success_score"], abs=1e-9)
            assert found[name]["precision_20px"] == pytest.approx(
                value["precision_score"], abs=1e-9
            )


def _published_name(name, published):
    return next(
        n for n in (name, name.replace("-", "."), name.removesuffix("-2")) if n in published
    )
