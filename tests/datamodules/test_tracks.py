import dataclasses
import errno
import os
import pickle
import time

import numpy as np
import pyarrow as pa
import pytest

from datamodules.tracks import Skipped, Track, TrackIndex


def track(video="v0", name="0", count=5, seed=0, **changes):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (count, 2))
    parts = {
        "category": "dog",
        "frames": np.arange(count) * 3,
        "boxes_xyxy": np.concatenate([corner, corner + rng.uniform(5, 50, (count, 2))], axis=1),
        "visible": rng.random(count) > 0.3,
        "occluded": rng.random(count) > 0.5,
        "image_wh": np.full((count, 2), (320, 240)),
    }
    parts["visible"][0] = True
    return Track(video, name, **{**parts, **changes})


@pytest.fixture
def tracks():
    return [
        track("cats/b", "1", 4, seed=1, category="cat"),
        track("cats/a", "0", 7, seed=2, category="cat"),
        track("cats/a", "1", 1, seed=3),
    ]


def assert_same(got, given):
    assert (got.video, got.track, got.category) == (given.video, given.track, given.category)
    for field in ("frames", "boxes_xyxy", "visible", "occluded", "image_wh"):
        value, expected = getattr(got, field), getattr(given, field)
        np.testing.assert_array_equal(value, expected.astype(value.dtype))


def test_what_was_written_is_read(tmp_path, tracks):
    TrackIndex.write(tmp_path / "new" / "i.arrow", iter(tracks), origin="VID 2015")
    index = TrackIndex.open(tmp_path / "new" / "i.arrow")
    assert len(index) == 3
    assert index.boxes == 12
    assert index.origin == "VID 2015"
    for i, given in enumerate(tracks):
        assert_same(index.track(i), given)
        assert len(index.track(i)) == len(given)


def test_types_are_those_of_the_convention(tmp_path, tracks):
    got = TrackIndex.write(tmp_path / "i.arrow", tracks).track(0)
    types = {f.name: getattr(got, f.name).dtype.name for f in dataclasses.fields(got)[3:]}
    assert types == {
        "frames": "int32",
        "boxes_xyxy": "float32",
        "visible": "bool",
        "occluded": "bool",
        "image_wh": "uint16",
    }


def test_reading_a_track_copies_nothing(tmp_path, tracks):
    index = TrackIndex.write(tmp_path / "i.arrow", tracks)
    for field in ("frames", "boxes_xyxy", "visible", "occluded", "image_wh"):
        first, again = getattr(index.track(1), field), getattr(index.track(1), field)
        assert np.shares_memory(first, again)
        assert not first.flags.writeable
        # Tracks lie one behind the other in one array.
        after = getattr(index.track(2), field)
        assert after.ctypes.data == first.ctypes.data + first.nbytes


def test_video_ids_tell_videos_apart(tmp_path, tracks):
    ids = TrackIndex.write(tmp_path / "i.arrow", tracks).video_ids
    assert len(ids) == 3
    assert ids[1] == ids[2] != ids[0]


def test_tracks_are_found_by_category(tmp_path):
    given = [track(f"v{i}", category="bca"[i % 3]) for i in range(10)]
    index = TrackIndex.write(tmp_path / "i.arrow", given)
    assert index.category_ids.dtype == np.int32
    assert [index.categories[i] for i in index.category_ids] == [t.category for t in given]
    found = {c: index.tracks_of_category(i).tolist() for i, c in enumerate(index.categories)}
    assert found == {"b": [0, 3, 6, 9], "c": [1, 4, 7], "a": [2, 5, 8]}
    assert index.video(4) == "v4"


def test_what_was_left_out_is_kept(tmp_path, tracks):
    left_out = []

    def reading():
        yield from tracks
        left_out.append(Skipped("malformed XML", 3, "Straße/000001.xml"))

    TrackIndex.write(tmp_path / "i.arrow", reading(), skipped=left_out)
    assert TrackIndex.open(tmp_path / "i.arrow").skipped == tuple(left_out)
    assert TrackIndex.write(tmp_path / "j.arrow", tracks).skipped == ()


def test_pickling_carries_the_path_only(tmp_path):
    many = [track(f"v{i}", count=50, seed=i) for i in range(40)]
    index = TrackIndex.write(tmp_path / "i.arrow", many)
    carried = pickle.dumps(index)
    assert len(carried) < 1000
    assert_same(pickle.loads(carried).track(39), many[39])


def test_tracks_out_of_range_are_refused(tmp_path, tracks):
    index = TrackIndex.write(tmp_path / "i.arrow", tracks)
    for i in (-1, 3):
        with pytest.raises(IndexError, match=f"track {i}: expected 0 to 2"):
            index.track(i)


def test_invisible_boxes_may_mean_nothing(tmp_path):
    given = track(count=3, visible=np.array([True, False, True]))
    given.boxes_xyxy[1] = np.nan
    assert_same(TrackIndex.write(tmp_path / "i.arrow", [given]).track(0), given)


def changed_box(box):
    given = track(count=3, visible=np.ones(3, bool))
    given.boxes_xyxy[1] = box
    return given


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (changed_box([1, 2, np.nan, 4]), "video v0, track 0, frame 3: expected a finite box"),
        (changed_box([5, 5, 5, 9]), r"got x1 y1 x2 y2 = \[5.0, 5.0, 5.0, 9.0\]"),
        (changed_box([9, 5, 5, 9]), "frame 3"),
        (changed_box([320, 5, 330, 9]), r"covers a part of the image of \[320, 240\] px"),
        (changed_box([-9, 5, 0, 9]), "frame 3"),
        (track(frames=np.array([0, 1, 1, 2, 3])), "increasing frame numbers, got 1 then 1"),
        (track(frames=np.array([0, 4, 2, 5, 6])), "got 4 then 2"),
        (track(visible=np.zeros(5, bool)), "at least one visible frame of 5, got none"),
        (track(count=1, visible=np.zeros(1, bool)), "visible"),
        (track(boxes_xyxy=np.zeros((4, 4))), r"boxes_xyxy of shape \(5, 4\), got \(4, 4\)"),
        (track(image_wh=np.array([320, 240])), r"image_wh of shape \(5, 2\), got \(2,\)"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_and_nothing_is_written(tmp_path, bad, message):
    with pytest.raises(ValueError, match=message):
        TrackIndex.write(tmp_path / "i.arrow", [track("good"), bad])
    assert list(tmp_path.iterdir()) == []


def test_no_tracks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one track"):
        TrackIndex.write(tmp_path / "i.arrow", [])


def test_a_full_disk_keeps_the_earlier_index(tmp_path, tracks, monkeypatch):
    TrackIndex.write(tmp_path / "i.arrow", tracks)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"disk is full.*i\.arrow"):
        TrackIndex.write(tmp_path / "i.arrow", tracks[:1])
    assert len(TrackIndex.open(tmp_path / "i.arrow")) == 3
    assert [f.name for f in tmp_path.iterdir()] == ["i.arrow"]


def test_files_that_are_no_index_are_refused(tmp_path, tracks):
    file = tmp_path / "i.arrow"
    with pytest.raises(FileNotFoundError, match="prepare its source first"):
        TrackIndex.open(file)
    TrackIndex.write(file, tracks)
    whole = file.read_bytes()
    for damaged in (b"", b"not arrow at all", whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a track index, or cut short"):
            TrackIndex.open(file)
    batch = pa.RecordBatch.from_pydict({"video": ["a"]})
    with pa.ipc.new_file(str(file), batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(ValueError, match="expected a track index of version 1, got None"):
        TrackIndex.open(file)


def test_opening_takes_no_longer_for_more_boxes(tmp_path):
    # 200 tracks of 1000 boxes: reading 5 MB would show; 0.3 s is what 5.6 M boxes may take.
    TrackIndex.write(tmp_path / "i.arrow", (track(f"v{i}", count=1000) for i in range(200)))
    start = time.process_time()
    index = TrackIndex.open(tmp_path / "i.arrow")
    index.track(150)
    assert time.process_time() - start < 0.1
    assert pa.total_allocated_bytes() < 1_000_000
