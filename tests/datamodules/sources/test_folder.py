import os
import pickle

import numpy as np
import pytest

from datamodules.sources.folder import FolderSource, index_folder
from datamodules.tracks import TrackIndex
from lightning_trackers.crops import exemplar_window


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


def test_unusable_boxes_become_invisible_and_are_reported(make_sequence, caplog):
    text = "2,3,10,20\nNaN,NaN,NaN,NaN\n2,3,0,20\n65,3,10,20\n60,3,10,20\n"
    root = make_sequence("Mine", range(1, 6), {"groundtruth_rect.txt": text})
    (track,) = [index_folder(root).track(0)]
    assert track.visible.tolist() == [True, False, False, False, True]
    (message,) = caplog.messages
    assert "groundtruth_rect.txt: 3 of 5 boxes are absent" in message
    assert "64 × 48 px" in message
    assert "line 2: x,y,w,h = [nan, nan, nan, nan]" in message


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


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        FolderSource(tmp_path / "none")


def test_unequal_counts_are_refused(make_sequence):
    root = make_sequence("Mine", [1, 2, 3], {"groundtruth_rect.txt": lines(2)})
    with pytest.raises(ValueError, match=r"3 images in .* and 2 lines"):
        index_folder(root)
