import numpy as np
import pytest

from lightning_trackers.evaluation import TrackingSequence
from lightning_trackers.evaluation.vot_results import (
    SupervisedResult,
    VOTResultStore,
    import_vot_results,
    read_regions,
    regions_text,
)
from lightning_trackers.metrics.functional.region_overlap import region_array

ROWS = [[1], [1.23456789, 2, 30, 40.00004], [2], [0], [0], [0], [0], [1, 2, 3, 4, 5, 6, 7, 8.5]]
TEXT = "1\n1.2346,2.0000,30.0000,40.0000\n2\n0\n0\n0\n0\n" + (
    "1.0000,2.0000,3.0000,4.0000,5.0000,6.0000,7.0000,8.5000\n"
)


def sequence(name="bolt", count=8):
    frames = [np.zeros((4, 4, 3), np.uint8)] * count
    return TrackingSequence(name, frames, np.tile([1.0, 2, 3, 4], (count, 1)), np.ones(count, bool))


def result(name="bolt", runs=2):
    times_s = np.full((8, runs), 0.125)
    times_s[3:7] = 0
    return SupervisedResult(name, (region_array(ROWS),) * runs, times_s)


def test_files_are_those_of_the_official_toolkits(tmp_path):
    VOTResultStore(tmp_path, "x").save(result())
    folder = tmp_path / "baseline/bolt"
    assert sorted(f.name for f in folder.iterdir()) == [
        "bolt_001.txt",
        "bolt_002.txt",
        "bolt_time.txt",
    ]
    assert (folder / "bolt_001.txt").read_text() == TEXT
    assert (folder / "bolt_time.txt").read_text().splitlines()[2:4] == [
        "0.12500000,0.12500000",
        "0.00000000,0.00000000",
    ]


def test_what_is_saved_is_what_is_loaded(tmp_path):
    store = VOTResultStore(tmp_path, "x")
    assert store.load(sequence()) is None
    saved = store.save(result())
    loaded = VOTResultStore(tmp_path, "x").load(sequence())
    np.testing.assert_array_equal(saved.runs, loaded.runs)
    np.testing.assert_array_equal(saved.run_times_s, loaded.run_times_s)
    assert saved.runs[0][1, 0] == 1.2346  # as rounded in the file


def test_a_result_without_its_times_is_tracked_again(tmp_path):
    store = VOTResultStore(tmp_path, "x")
    store.save(result())
    (tmp_path / "baseline/bolt/bolt_time.txt").unlink()
    assert store.load(sequence()) is None


def test_a_missing_run_is_named(tmp_path):
    store = VOTResultStore(tmp_path, "x")
    store.save(result())
    (tmp_path / "baseline/bolt/bolt_002.txt").unlink()
    with pytest.raises(
        ValueError, match=r"bolt_002\.txt: missing, though .*bolt_time\.txt names it"
    ):
        store.load(sequence())


def test_results_of_another_fingerprint_are_refused_or_removed(tmp_path):
    VOTResultStore(tmp_path, "weights a").save(result())
    with pytest.raises(FileExistsError, match="fingerprint found: weights a"):
        VOTResultStore(tmp_path, "weights b")
    store = VOTResultStore(tmp_path, "weights b", overwrite=True)
    assert store.load(sequence()) is None
    store.save(result(runs=1))
    (tmp_path / "fingerprint.txt").unlink()
    with pytest.raises(FileExistsError, match=r"no fingerprint\.txt"):
        VOTResultStore(tmp_path, "weights b")


@pytest.mark.parametrize("name", ["../bolt", "", ".."])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="expected one that can name a folder"):
        VOTResultStore(tmp_path, "x").save(result(name))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1;2;3;4", "got '1;2;3;4'"),
        ("1 2 3 4", "got '1 2 3 4'"),
        ("1,2,3", "got '1,2,3'"),
        ("1,2,3,nan", "finite numbers separated by commas, got '1,2,3,nan'"),
        ("inf,2,3,4", "finite numbers"),
        ("7", "a code 0, 1 or 2, or 4 or 8 finite numbers .* got '7'"),
        ("nan", "got 'nan'"),
        ("", "got ''"),
        ("a,b,c,d", "got 'a,b,c,d'"),
        ("1,2,3,4,", "got '1,2,3,4,'"),
    ],
)
def test_a_line_that_is_no_region_is_named(tmp_path, line, message):
    file = tmp_path / "bolt_001.txt"
    file.write_text(f"1\n{line}\n1,2,3,4\n")
    with pytest.raises(ValueError, match=rf"bolt_001\.txt, line 2: expected .*{message}"):
        read_regions(file)


@pytest.mark.parametrize("count", [2, 4])
def test_too_few_and_too_many_lines_are_named(tmp_path, count):
    file = tmp_path / "a.txt"
    file.write_text("1\n2\n0\n")
    with pytest.raises(ValueError, match=rf"a\.txt: expected {count} lines, one a frame, got 3"):
        read_regions(file, count)
    file.write_text("\n")
    with pytest.raises(ValueError, match=r"a\.txt: expected .* lines, one a frame, got 0"):
        read_regions(file)


def test_lines_are_read_however_they_end_and_codes_however_they_are_written(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbf1.0000\r\n1, 2 ,3,4\r\n2")
    np.testing.assert_array_equal(read_regions(file), region_array([[1], [1, 2, 3, 4], [2]]))
    with pytest.raises(ValueError, match="line 1: expected 4 or 8 finite numbers"):
        read_regions(file, codes=False)


def test_other_trackers_results_are_imported(tmp_path):
    folder = tmp_path / "DaSiamRPN/baseline"
    for name in ("bolt", "ball"):
        (folder / name).mkdir(parents=True)
        for number in (1, 2):
            (folder / name / f"{name}_{number:03d}.txt").write_text(
                regions_text(region_array(ROWS))
            )
    (folder / "bolt/bolt_time.txt").write_text("0.1,0.2\n" * 8)
    for given in (folder, folder.parent):
        results = import_vot_results(given, {"bolt": 8, "ball": 8})
        assert list(results) == ["bolt", "ball"]
        assert [len(r.runs) for r in results.values()] == [2, 2]
    assert results["bolt"].run_times_s[0].tolist() == [0.1, 0.2]
    assert np.isnan(results["ball"].run_times_s).all()


def test_missing_results_are_named_or_excluded(tmp_path):
    (tmp_path / "bolt").mkdir()
    (tmp_path / "bolt/bolt_001.txt").write_text("1\n")
    lengths = {"bolt": 1, "ball": 1, "ants": 1}
    with pytest.raises(FileNotFoundError, match="no result of 2 of 3 sequences: ball, ants;"):
        import_vot_results(tmp_path, lengths)
    assert list(import_vot_results(tmp_path, lengths, missing="exclude")) == ["bolt"]
    with pytest.raises(FileNotFoundError, match="no result of 1 of 1"):
        import_vot_results(tmp_path, {"ball": 1}, missing="exclude")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        import_vot_results(tmp_path / "nowhere", lengths)


def test_damaged_times_are_named(tmp_path):
    store = VOTResultStore(tmp_path, "x")
    store.save(result())
    for text in ("0.1\n" * 7, "x\n" * 8, "0.1,0.1\n" * 7 + "0.1\n"):
        (tmp_path / "baseline/bolt/bolt_time.txt").write_text(text)
        with pytest.raises(ValueError, match=r"bolt_time\.txt: expected 8 lines of times"):
            store.load(sequence())


def test_runs_and_times_must_belong_together():
    with pytest.raises(ValueError, match="result of a: expected at least one run"):
        SupervisedResult("a", (region_array(ROWS),), np.zeros((8, 2)))
    with pytest.raises(ValueError, match="result of a: expected at least one run"):
        SupervisedResult("a", (), np.zeros((8, 0)))
