import os
import pickle

import numpy as np
import pytest

from datamodules.errors import DatasetError
from datamodules.sources.folder import FolderSource, index_folder
from datamodules.tracks import TrackIndex
from lightning_trackers.crops import exemplar_window
from tests.datamodules import miniature as mini


def lines(count):
    return "".join(f"{2 + t},3,10,20\n" for t in range(count))


@pytest.fixture
def root(make_sequence):
    make_sequence(
        "Jogging",
        range(1, 6),
        {"groundtruth_rect.1.txt": lines(5), "groundtruth_rect.2.txt": lines(5)},
    )
    return make_sequence("Mine", [8, 9, 10, 11], pattern="frame_{}.png")


def test_a_folder_becomes_an_index(root):
    index = index_folder(root)
    assert index.path == root / "tracks.arrow"
    tracks = [index.track(i) for i in range(len(index))]
    names = [(t.video, t.track) for t in tracks]
    assert names == [("Jogging", "Jogging-1"), ("Jogging", "Jogging-2"), ("Mine", "Mine")]
    assert tracks[2].frames.tolist() == [0, 1, 2, 3]
    assert tracks[2].boxes_xyxy[1].tolist() == [2, 2, 12, 22]
    assert tracks[2].image_wh.tolist() == [[64, 48]] * 4
    assert tracks[2].visible.all()


def test_frames_are_numbered_among_all_images(make_sequence):
    # Football1 has images without annotation at its end, David at its beginning.
    root = make_sequence("David", range(290, 772), {"groundtruth_rect.txt": lines(40) + lines(431)})
    source = FolderSource(root)
    track = source.index.track(0)
    assert track.frames[[0, -1]].tolist() == [10, 480]
    assert source.frame_path("David", 10).name == "0300.png"


def test_unusable_boxes_become_invisible_and_are_counted(make_sequence):
    # NaN is the layout's word for absent and no mistake; no width, and outside 64 × 48 px, are.
    text = "2,3,10,20\nNaN,NaN,NaN,NaN\n2,3,0,20\n65,3,10,20\n60,3,10,20\n"
    index = index_folder(make_sequence("Mine", range(1, 6), {"groundtruth_rect.txt": text}))
    assert index.track(0).visible.tolist() == [True, False, False, False, True]
    (skipped,) = index.skipped
    assert skipped.count == 2
    assert "groundtruth_rect.txt, track Mine, frame 2" in skipped.example
    assert "64 × 48 px" in skipped.example


def test_views_show_the_frame_and_the_box_that_the_id_names(root):
    source, rng = FolderSource(root, name="mine"), np.random.default_rng(0)
    for positive in [True, False] * 20:
        exemplar, search, pair_id = source.draw(rng, max_gap=3, positive=positive)
        for view in (exemplar, search):
            first = 8 if "Mine" in str(view.path) else 1
            frame = int(view.box_xyxy[0]) - 1  # boxes move right by one px every frame
            crop = view.crop(exemplar_window(view.box_xyxy, 15))
            assert crop[7, 7, 0] == 2 * (first + frame)  # conftest paints image n in red 2n
        frame = int(exemplar.box_xyxy[0]) - 1
        video = exemplar.path.parts[-3]
        assert pair_id.startswith(f"mine/{video}/{video}")
        assert f"/f{frame}-" in pair_id
    assert pickle.loads(pickle.dumps(source)).draw(rng, max_gap=3, positive=True)


def test_the_index_is_made_again_only_after_a_change(root, make_sequence):
    first = index_folder(root)
    made = first.path.stat().st_mtime_ns
    assert index_folder(root).path.stat().st_mtime_ns == made
    make_sequence("New", [1, 2, 3])
    assert len(index_folder(root)) == 4
    annotation = root / "Mine" / "groundtruth_rect.txt"
    annotation.write_text("7,7,9,9\n" * 4)
    os.utime(annotation, ns=(1, 1))  # an older file may replace a newer one
    index = index_folder(root)
    assert index.track(2).boxes_xyxy[0].tolist() == [6, 6, 15, 15]


def test_the_index_can_be_kept_elsewhere(root, tmp_path):
    index = index_folder(root, tmp_path / "cache" / "mine.arrow")
    assert index.path == tmp_path / "cache" / "mine.arrow"
    assert not (root / "tracks.arrow").exists()
    assert len(TrackIndex.open(index.path)) == 3


def test_an_index_that_cannot_be_written_says_what_to_do(root, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(TrackIndex, "write", refused)
    with pytest.raises(PermissionError, match=r"tracks\.arrow: .*writable file with index_path"):
        index_folder(root)


def test_a_missing_root_or_an_incomplete_layout_is_named(tmp_path, make_sequence):
    with pytest.raises(DatasetError, match="none: no such folder"):
        FolderSource(tmp_path / "none")
    root = make_sequence("Mine", [1, 2, 3])
    (root / "Mine" / "groundtruth_rect.txt").unlink()
    with pytest.raises(DatasetError, match=r"groundtruth_rect\.txt: missing; expected layout"):
        FolderSource(root)


def test_a_sequence_that_cannot_be_read_costs_no_other(root, make_sequence):
    make_sequence("Short", [1, 2, 3], {"groundtruth_rect.txt": lines(2)})
    make_sequence("Words", [1, 2, 3], {"groundtruth_rect.txt": "a,b,c,d\n" * 3})
    make_sequence("Broken", [1])
    (root / "Broken" / "img" / "0001.png").write_bytes(b"no image")
    index = index_folder(root)
    assert len(index) == 3
    found = {s.reason: (s.count, s.example) for s in index.skipped}
    count, example = found["sequence whose annotation does not fit its images"]
    assert count == 2
    assert "3 images in" in example
    assert found["image cannot be read"][0] == 1


@pytest.fixture
def csv_root(tmp_path):
    root = tmp_path / "meine Vidéos"
    for video, suffix in (("Park", "jpg"), ("Straße", "png")):
        for number in (1, 2, 10):
            mini.write_frame(root / video / f"{number}.{suffix}", [(4, 6, 20, 30)], number)
    return root


HEADER = "image,video,target,y,x,w,h,visible,category\n"


def write_csv(root, text, header=HEADER):
    (root / "boxes.csv").write_text(header + text, encoding="utf-8-sig")
    return FolderSource(root)


def test_one_csv_file_is_read_box_for_box(csv_root):
    source = write_csv(
        csv_root,
        "10.jpg,Park,a,6.5,4,16,24,1,dog\n1.jpg,Park,a,1,2,3,4,0,dog\n2.jpg,Park,b,6,4,16,24,,\n"
        '1.png,Straße,"a, the first",6,4,16,24,1,cat\n',
    )
    wh = (mini.WIDTH, mini.HEIGHT)
    mini.assert_same_tracks(
        source.index,
        [
            mini.track("Park", "a", "dog", [0, 2], [(0, 0, 0, 0), (4, 6.5, 20, 30.5)], [0, 1]),
            mini.track("Park", "b", "object", [1], [(4, 6, 20, 30)]),
            mini.track("Straße", "a, the first", "cat", [0], [(4, 6, 20, 30)], wh=wh),
        ],
    )
    assert source.frame_path("Park", 2) == csv_root / "Park" / "10.jpg"
    assert source.index.skipped == ()
    for positive in (True, False):
        views = source.draw(np.random.default_rng(0), max_gap=9, positive=positive)[:2]
        assert all(view.path.is_file() for view in views)


def test_bad_lines_are_left_out_and_counted(csv_root):
    source = write_csv(
        csv_root,
        "1.jpg,Park,a,6,4,16,24,1,\n2.jpg,Park,a,x,4,16,24,1,\n2.jpg,Park,a,6\n"
        "2.jpg,../Park,a,6,4,16,24,1,\n2.jpg,Park,a,6,4,16,24,yes,\n7.jpg,Park,a,6,4,16,24,1,\n"
        "1.jpg,Wood,a,6,4,16,24,1,\n2.jpg,Park,a,6,4,0,24,1,\n",
    )
    assert {(s.reason, s.count) for s in source.index.skipped} == {
        ("line is not a box", 4),
        ("video without frames", 1),
        ("frame missing or unreadable", 1),
        ("box not finite, without area or outside the image", 1),
    }
    first = next(s for s in source.index.skipped if s.reason == "line is not a box")
    assert "boxes.csv, line 3: could not convert string to float: 'x'" in first.example
    assert source.index.track(0).visible.tolist() == [True, False]


@pytest.mark.parametrize("header", ["", "video,image,x,y,w,h\n", "\n"])
def test_a_csv_file_without_its_header_is_refused(csv_root, header):
    with pytest.raises(DatasetError, match=r"boxes\.csv, line 1: expected a header with video"):
        write_csv(csv_root, "1.jpg,Park,a,6,4,16,24,1,\n", header)


def test_the_index_of_a_csv_file_follows_it(csv_root):
    line = "1.jpg,Park,a,6,4,16,24,1,\n"
    assert len(write_csv(csv_root, line).index) == 1
    assert len(write_csv(csv_root, line + line.replace(",a,", ",b,")).index) == 2
