import zipfile

import numpy as np
import pytest

from lightning_trackers.evaluation.one_pass import TrackResult
from lightning_trackers.evaluation.results import ResultStore
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.submission import GOT10K_SERVER, TRACKINGNET_SERVER

FRAME = np.zeros((24, 32, 3), np.uint8)


def withheld(name, count):
    boxes_xyxy = np.full((count, 4), np.nan)
    boxes_xyxy[0] = [9, 19, 39.5, 59]
    return TrackingSequence(name, [FRAME] * count, boxes_xyxy, np.zeros(count, bool))


BENCHMARK = Benchmark("hidden", [withheld("a_000001", 2), withheld("a_000002", 3)])


def result(sequence, shift=0.0):
    count = len(sequence)
    boxes_xyxy = np.tile(sequence.start_xyxy, (count, 1))
    boxes_xyxy[1:] += shift
    return TrackResult(sequence.name, boxes_xyxy, np.ones(count), np.arange(1, count + 1) / 8)


@pytest.fixture
def tracked(tmp_path):
    """Writes the results of one run, without those of the named sequences."""

    def write(run, *without, shift=0.0):
        store = ResultStore(tmp_path / run, "weights")
        for sequence in BENCHMARK:
            if sequence.name not in without:
                store.save(result(sequence, shift))
        return tmp_path / run

    return write


def contents(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_got10k_archive_is_as_the_toolkit_writes_it(tracked, tmp_path):
    runs = [tracked("one"), tracked("two", shift=1 / 3)]
    out = GOT10K_SERVER.write_archive(BENCHMARK, runs, tmp_path / "sub" / "got.zip")
    files = contents(out)
    assert sorted(files) == [
        f"{name}/{name}_{part}.txt"
        for name in ("a_000001", "a_000002")
        for part in ("001", "002", "time")
    ]
    # 0-based left edge 9 is pixel 10 of the file; commas without blanks; three digits.
    assert files["a_000001/a_000001_001.txt"] == "10.000,20.000,30.500,40.000\n" * 2
    moved = files["a_000002/a_000002_002.txt"].splitlines()
    assert moved == ["10.000,20.000,30.500,40.000"] + ["10.333,20.333,30.500,40.000"] * 2
    # One line per frame, one column per repetition, eight digits.
    assert files["a_000002/a_000002_time.txt"].splitlines() == [
        "0.12500000,0.12500000",
        "0.25000000,0.25000000",
        "0.37500000,0.37500000",
    ]


def test_trackingnet_archive_has_one_file_a_video_in_its_own_coordinates(tracked, tmp_path):
    out = TRACKINGNET_SERVER.write_archive(BENCHMARK, [tracked("one")], tmp_path / "tn.zip")
    assert contents(out) == {
        "a_000001.txt": "9.000,19.000,30.500,40.000\n" * 2,
        "a_000002.txt": "9.000,19.000,30.500,40.000\n" * 3,
    }
    with pytest.raises(ValueError, match="results of one run, got 2 result folders"):
        TRACKINGNET_SERVER.write_archive(
            BENCHMARK, [tracked("one"), tracked("two")], tmp_path / "two.zip"
        )
    assert not (tmp_path / "two.zip").exists()


def test_the_same_results_give_the_same_bytes(tracked, tmp_path):
    folder = tracked("one")
    one, two = (
        GOT10K_SERVER.write_archive(BENCHMARK, [folder], tmp_path / f"{i}.zip") for i in range(2)
    )
    assert one.read_bytes() == two.read_bytes()


def test_what_is_missing_is_named_and_no_archive_is_left(tracked, tmp_path):
    out = tmp_path / "got.zip"
    with pytest.raises(
        ValueError, match=r"1 of 2 sequences of hidden .* missing: a_000002\. The sa"
    ):
        GOT10K_SERVER.write_archive(BENCHMARK, [tracked("one", "a_000002")], out)
    with pytest.raises(
        FileNotFoundError, match=r"no folder of results; there are results in .*one"
    ):
        GOT10K_SERVER.write_archive(BENCHMARK, [tmp_path], out)
    with pytest.raises(FileNotFoundError, match="track first"):
        GOT10K_SERVER.write_archive(BENCHMARK, [tmp_path / "nowhere"], out)
    folder = tracked("nan")
    (folder / "a_000001.txt").write_text("10,20,30.5,40\nnan,20,30,40\n")
    with pytest.raises(ValueError, match=r"a_000001\.txt, line 2: expected 4 finite"):
        GOT10K_SERVER.write_archive(BENCHMARK, [folder], out)
    assert not out.exists()


def test_nothing_is_scored_but_every_sequence_must_be_tracked(caplog):
    results = {s.name: result(s) for s in BENCHMARK}
    with caplog.at_level("INFO"):
        scores = GOT10K_SERVER.score(BENCHMARK, results)
    assert scores.scalars == {}
    assert "experiments.submit benchmark=[hidden]" in caplog.text
    with pytest.raises(ValueError, match="hidden: no result of a_000001"):
        GOT10K_SERVER.score(BENCHMARK, {"a_000002": results["a_000002"]})
