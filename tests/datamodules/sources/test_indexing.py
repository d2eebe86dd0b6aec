import errno
import logging
import os
import threading

import numpy as np
import pytest

from datamodules.errors import DatasetError
from datamodules.sources import indexing, trackingnet
from datamodules.sources.indexing import build_index, cleaned, state_of
from datamodules.tracks import Skipped, Track
from tests.datamodules import miniature as mini


def read_number(unit):
    """A reader whose units are numbers: 5 is bad, 7 repeats a track."""
    if unit == 5:
        yield Skipped("five", 1, "unit 5")
    else:
        yield mini.track(f"v{6 if unit == 7 else unit}", "0", "c", [0, 1], [(1, 1, 9, 9)] * 2)


def build(path, units=range(10), **options):
    return build_index(path, read_number, lambda: list(units), "state", "the layout", **options)


def test_tracks_keep_their_order_and_what_was_left_out_is_kept(tmp_path, caplog):
    build(tmp_path / "i.arrow")
    index = build(tmp_path / "i.arrow", units=[])  # opened, not made
    assert [index.track(i).video for i in range(8)] == [f"v{u}" for u in (0, 1, 2, 3, 4, 6, 8, 9)]
    assert index.skipped == (
        Skipped("five", 1, "unit 5"),
        Skipped("duplicate track", 1, "video v6, track 0"),
    )
    assert "i.arrow: left out 1 × five; the first: unit 5" in caplog.text


def test_equal_reasons_are_summed_and_the_first_example_kept(tmp_path):
    index = build(tmp_path / "i.arrow", units=[1, 5, 5, 5])
    assert index.skipped == (Skipped("five", 3, "unit 5"),)


def test_processes_make_the_same_index(tmp_path):
    expected = mini.trackingnet(tmp_path, videos=4, frames=3)
    units = trackingnet._videos(tmp_path, "TRAIN_0") + trackingnet._videos(tmp_path, "TRAIN_1")
    indices = [
        build_index(
            tmp_path / f"{jobs}.arrow", trackingnet.read_video, lambda: units, "s", "", jobs=jobs
        )
        for jobs in (1, 2)
    ]
    for index in indices:
        mini.assert_same_tracks(index, expected)
    one, two = (i.path.read_bytes() for i in indices)
    assert one == two


def test_an_error_of_the_code_is_not_counted_away(tmp_path):
    def broken(unit):
        raise KeyError("a mistake of ours")
        yield

    with pytest.raises(KeyError):
        build_index(tmp_path / "i.arrow", broken, lambda: [1], "s", "")
    assert not (tmp_path / "i.arrow").exists()


def test_nothing_usable_is_an_error_that_says_why(tmp_path):
    with pytest.raises(DatasetError, match=r"no usable track in 2 units.*2 × five.*the layout"):
        build(tmp_path / "i.arrow", units=[5, 5])


def test_a_damaged_index_is_made_again(tmp_path, caplog):
    path = build(tmp_path / "i.arrow").path
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert len(build(path)) == 8
    assert "cut short" in caplog.text
    assert path.read_bytes() == whole


def test_processes_that_ask_at_once_make_the_index_once(tmp_path):
    made = []

    def units():
        made.append(threading.get_ident())
        return list(range(4))

    def ask():
        build_index(tmp_path / "i.arrow", read_number, units, "state", "")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_an_index_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch, number):
    class Refused:
        def __init__(self, path):
            raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(indexing, "FileLock", Refused)
    with pytest.raises(PermissionError, match=r"i\.arrow: .*writable file with index_path"):
        build(tmp_path / "i.arrow")


def test_progress_is_logged_where_there_is_no_terminal(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(indexing, "_LOG_INTERVAL_S", 0.0)
    with caplog.at_level(logging.INFO):
        build(tmp_path / "i.arrow", units=range(4))
    assert "indexing i.arrow: 2 of 4 units" in caplog.text


def test_the_state_changes_with_settings_content_and_folders(tmp_path):
    file, folder = tmp_path / "a.txt", tmp_path / "f"
    file.write_text("1")
    folder.mkdir()
    states = [state_of("a", tmp_path, [file, folder]), state_of("b", tmp_path, [file, folder])]
    file.write_text("12")
    states.append(state_of("a", tmp_path, [file, folder]))
    os.utime(file, ns=(1, 1))
    states.append(state_of("a", tmp_path, [file, folder]))
    (folder / "new.xml").touch()
    states.append(state_of("a", tmp_path, [file, folder]))
    file.unlink()
    states.append(state_of("a", tmp_path, [file, folder]))
    assert len(set(states)) == 6
    assert state_of("a", tmp_path, [file, folder]) == states[-1]


def rows(count=4, **changes):
    given = mini.track("v", "0", "c", range(count), [(1, 2, 30, 40)] * count)
    return Track(**{**vars(given), **changes})


def test_a_row_with_a_bad_box_becomes_invisible():
    boxes = [
        (1, 2, 30, 40),
        (30, 2, 1, 40),
        (np.nan, 0, 1, 1),
        (200, 2, 220, 40),
        (1e39, 0, 2e39, 9),
    ]
    track = rows(5, boxes_xyxy=np.array(boxes))
    skipped, got = cleaned(track, "file.txt")
    assert got.visible.tolist() == [True, False, False, False, False]
    assert skipped.count == 4
    assert skipped.reason == "box not finite, without area or outside the image"
    assert "file.txt, track 0, frame 1: x1 y1 x2 y2 = [30.0, 2.0, 1.0, 40.0]" in skipped.example
    assert "96 × 72 px" in skipped.example


def test_a_bad_box_of_an_invisible_row_is_no_mistake():
    track = rows(
        2, boxes_xyxy=np.array([(1, 2, 30, 40), (0, 0, 0, 0)]), visible=np.array([1, 0], bool)
    )
    (got,) = cleaned(track, "f")
    assert got.visible.tolist() == [True, False]


def test_boxes_that_leave_the_image_in_part_are_kept_as_they_are():
    (got,) = cleaned(rows(1, boxes_xyxy=np.array([(-20.5, -3, 200, 300)])), "f")
    assert got.boxes_xyxy.tolist() == [[-20.5, -3, 200, 300]]


def test_a_second_row_of_a_frame_is_left_out():
    skipped, got = cleaned(rows(4, frames=np.array([1, 3, 3, 4])), "f")
    assert got.frames.tolist() == [1, 3, 4]
    assert skipped == Skipped("target is annotated twice in a frame", 1, "f, track 0, frame 3")


def test_rows_without_a_frame_leave_the_track():
    skipped, got = cleaned(rows(4), "f", np.array([True, False, False, True]))
    assert got.frames.tolist() == [0, 3]
    assert skipped == Skipped("frame missing or unreadable", 2, "f, track 0, frame 1")


def test_a_single_usable_frame_is_enough_and_none_is_not():
    visible = np.array([False, True, False, False])
    assert next(cleaned(rows(4, visible=visible), "f")).visible.tolist() == visible.tolist()
    (skipped,) = cleaned(rows(4, visible=visible & False), "f")
    assert skipped == Skipped("target without a usable frame", 1, "f, track 0")
    *_, last = cleaned(rows(4), "f", np.zeros(4, bool))
    assert last.reason == "target without a usable frame"


def test_names_that_are_no_text_are_left_out(tmp_path):
    def read(unit):
        yield mini.track(unit, "0", "c", [0], [(1, 1, 9, 9)])

    index = build_index(tmp_path / "i.arrow", read, lambda: ["a\udcff", "b"], "s", "")
    assert len(index) == 1
    assert index.skipped[0].reason == "name is not valid text"
