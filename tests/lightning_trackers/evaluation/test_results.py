import errno
import os

import numpy as np
import pytest

from lightning_trackers.evaluation import ResultStore, TrackingSequence, TrackResult
from lightning_trackers.evaluation.results import ResultFileError, read_boxes, write_boxes


def drawn_result(name="Bolt", count=12, seed=0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 90, (count, 2))], axis=1)
    return TrackResult(name, boxes, rng.uniform(0, 1, count), rng.uniform(1e-3, 0.1, count))


def sequence_of(result):
    count = len(result.boxes_xyxy)
    frames = [np.zeros((4, 4, 3), np.uint8)] * count
    return TrackingSequence(result.name, frames, result.boxes_xyxy, np.ones(count, bool))


def assert_same(a, b):
    assert a.name == b.name
    for part in ("boxes_xyxy", "scores", "times_s"):
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part))


def test_files_hold_the_hand_worked_lines(tmp_path):
    result = TrackResult(
        "Bolt",
        np.array([[335.0, 163.0, 361.0, 224.0], [336.5, 164.25, 362.5, 225.25]]),
        np.array([1.0, 0.75]),
        np.array([0.5, 0.0123]),
    )
    ResultStore(tmp_path, "net 1").save(result)
    # 1-based x, y, w, h
    lines = "336.000000,164.000000,26.000000,61.000000\n337.500000,165.250000,26.000000,61.000000\n"
    assert (tmp_path / "Bolt.txt").read_text() == lines
    assert (tmp_path / "times/Bolt_time.txt").read_text() == "0.50000000\n0.01230000\n"
    assert (tmp_path / "scores/Bolt_score.txt").read_text() == "1.000000\n0.750000\n"
    assert (tmp_path / "fingerprint.txt").read_text() == "net 1\n"
    # The way the got10k toolkit reads them.
    assert np.loadtxt(tmp_path / "Bolt.txt", delimiter=",").shape == (2, 4)


def test_what_save_returns_is_what_load_returns(tmp_path):
    result = drawn_result()
    kept = ResultStore(tmp_path, "net 1").save(result)
    assert_same(kept, ResultStore(tmp_path, "net 1").load(sequence_of(result)))
    # 1e-6: six decimals for two numbers whose sum is x2.
    np.testing.assert_allclose(kept.boxes_xyxy, result.boxes_xyxy, rtol=0, atol=1.1e-6)
    np.testing.assert_allclose(kept.times_s, result.times_s, rtol=0, atol=5e-9)


def test_what_was_not_saved_is_none(tmp_path):
    store = ResultStore(tmp_path / "new", "net 1")
    assert store.load(sequence_of(drawn_result())) is None
    assert not (tmp_path / "new").exists()


def test_a_result_without_times_was_not_finished(tmp_path):
    store = ResultStore(tmp_path, "net 1")
    store.save(drawn_result())
    (tmp_path / "times/Bolt_time.txt").unlink()
    assert store.load(sequence_of(drawn_result())) is None


def test_another_fingerprint_is_refused_and_both_are_shown(tmp_path):
    ResultStore(tmp_path, "net 1").save(drawn_result())
    with pytest.raises(FileExistsError, match=r"(?s)overwrite=True.*expected: net 2.*found: net 1"):
        ResultStore(tmp_path, "net 2")


def test_results_without_a_fingerprint_are_refused(tmp_path):
    write_boxes(tmp_path / "Bolt.txt", drawn_result().boxes_xyxy)
    with pytest.raises(FileExistsError, match="no fingerprint"):
        ResultStore(tmp_path, "net 1")


def test_overwrite_removes_results_and_nothing_else(tmp_path):
    ResultStore(tmp_path, "net 1").save(drawn_result())
    (tmp_path / "report.html").write_text("mine")
    store = ResultStore(tmp_path, "net 2", overwrite=True)
    assert store.load(sequence_of(drawn_result())) is None
    left = sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file())
    assert left == ["report.html"]
    store.save(drawn_result())
    ResultStore(tmp_path, "net 2")


def test_a_full_disk_leaves_no_half_result(tmp_path, monkeypatch):
    store, result = ResultStore(tmp_path, "net 1"), drawn_result()
    calls = []

    def full_at_the_last_file(descriptor):
        calls.append(descriptor)
        if len(calls) == 4:  # fingerprint, times, scores, boxes
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_at_the_last_file)
    with pytest.raises(OSError, match=r"disk is full.*Bolt\.txt"):
        store.save(result)
    assert store.load(sequence_of(result)) is None
    assert not (tmp_path / "Bolt.txt").exists()
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.undo()
    assert_same(store.save(result), store.load(sequence_of(result)))


@pytest.mark.parametrize(
    "line",
    ["12.0,13.0,oops", "1;2;3;4", "1,2,3", "1,2,3,4,5", "1,2,nan,4", "1,2,3,inf", "", "\xff\xfe"],
)
def test_a_damaged_line_is_named(tmp_path, line):
    result = drawn_result()
    store = ResultStore(tmp_path, "net 1")
    store.save(result)
    file = tmp_path / "Bolt.txt"
    lines = file.read_text().splitlines()
    lines[4] = line
    file.write_bytes("\n".join(lines).encode("latin-1"))  # not always UTF-8
    message = r"Bolt\.txt, line 5: expected 4 finite number\(s\), separated by .*Remove the file"
    with pytest.raises(ResultFileError, match=message):
        store.load(sequence_of(result))


@pytest.mark.parametrize("file", ["Bolt.txt", "times/Bolt_time.txt", "scores/Bolt_score.txt"])
def test_a_wrong_number_of_lines_is_named(tmp_path, file):
    result = drawn_result()
    store = ResultStore(tmp_path, "net 1")
    store.save(result)
    lines = (tmp_path / file).read_text().splitlines()
    for changed in (lines[:-1], [*lines, lines[-1]], []):
        (tmp_path / file).write_text("\n".join(changed))
        message = f"txt: expected 12 lines, one a frame, got {len(changed)}"
        with pytest.raises(ResultFileError, match=message):
            store.load(sequence_of(result))


def test_a_result_of_other_annotations_is_refused(tmp_path):
    result = drawn_result()
    store = ResultStore(tmp_path, "net 1")
    store.save(result)
    with pytest.raises(ResultFileError, match="belongs to other annotations"):
        store.load(sequence_of(drawn_result(seed=1)))


@pytest.mark.parametrize("name", ["../Bolt", "a/b", "", "fingerprint"])
def test_a_name_that_cannot_name_a_file_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="can name a file"):
        ResultStore(tmp_path, "net 1").save(drawn_result(name=name))


@pytest.mark.parametrize(
    "text", ["2,3,4,5\r\n2,3,4,6", "2\t3\t4\t5\n2\t3\t4\t6\n", "2 3 4 5\n2 3,4 6\n"]
)
def test_files_of_other_tools_are_read(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    assert read_boxes(tmp_path / "a.txt", 2).tolist() == [[1, 2, 5, 7], [1, 2, 5, 8]]
