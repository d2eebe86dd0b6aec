"""What every reader of a training set must do, checked on each miniature tree."""

import pickle
import shutil

import numpy as np
import pytest

from datamodules.errors import DatasetError
from datamodules.frames import read_frame
from datamodules.sources.coco import COCOSource
from datamodules.sources.det import DETSource
from datamodules.sources.got10k import GOT10kSource
from datamodules.sources.lasot import LaSOTSource
from datamodules.sources.trackingnet import TrackingNetSource
from datamodules.sources.vid import VIDSource
from datamodules.sources.youtube_bb import YouTubeBBSource
from datamodules.tracks import TrackIndex
from tests.datamodules import miniature as mini

BOTH = {"splits": ("train", "val")}
READERS = {
    "vid": (mini.vid, VIDSource, BOTH),
    "det": (mini.det, DETSource, BOTH),
    "coco": (mini.coco, COCOSource, {}),
    "youtube_bb": (mini.youtube_bb, YouTubeBBSource, {}),
    "got10k": (mini.got10k, GOT10kSource, {}),
    "lasot": (mini.lasot, LaSOTSource, {}),
    "trackingnet": (mini.trackingnet, TrackingNetSource, {"chunks": (0, 1)}),
}
# A file whose loss the state of the annotations must tell, and one frame that shows a target.
ANNOTATION = {
    "vid": "Annotations/VID/val/ILSVRC2015_val_00000000/000003.xml",
    "det": "Annotations/DET/val/ILSVRC_2_00000001.xml",
    "coco": "annotations/instances_train2017.json",
    "youtube_bb": "yt_bb_detection_train.csv",
    "got10k": "train/GOT-10k_Train_000002/groundtruth.txt",
    "lasot": "airplane/airplane-2/out_of_view.txt",
    "trackingnet": "TRAIN_0/anno/-video_0.txt",
}

every_reader = pytest.mark.parametrize("name", READERS)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "Dätensätze 数据"


def made(name, root, **options):
    write, source, defaults = READERS[name]
    expected = write(root)
    return source(root, **defaults, **options), expected


def opened(name, root, **options):
    _, source, defaults = READERS[name]
    return source(root, **defaults, **options)


@every_reader
def test_the_official_layout_is_read_box_for_box(name, root):
    source, expected = made(name, root)
    mini.assert_same_tracks(source.index, expected)
    assert [s.reason for s in source.index.skipped] == (["crowd"] if name == "coco" else [])


@every_reader
def test_the_frame_of_every_visible_row_shows_the_target_in_its_box(name, root):
    source, _ = made(name, root)
    for i in range(len(source.index)):
        track = source.index.track(i)
        # The colour says which target of its picture it is.
        peers = [source.index.track(j) for j in range(len(source.index))]
        same = [(t.category, t.track) for t in peers if t.video == track.video]
        if name == "youtube_bb":
            same.sort(key=lambda n: n[1])
        colour = mini.colour(same.index((track.category, track.track)))
        for t in np.flatnonzero(track.visible):
            frame = read_frame(source.frame_path(track.video, int(track.frames[t])))
            assert frame.shape[1::-1] == tuple(track.image_wh[t])
            x2, y2 = track.boxes_xyxy[t, 2:]
            x, y = int(x2) - 4, int(y2) - 4  # later targets are drawn over earlier ones
            near = np.abs(frame[y - 1 : y + 2, x - 1 : x + 2].astype(int) - colour).max()
            covered = any(
                t2.track != track.track and np.all(np.abs(t2.boxes_xyxy - track.boxes_xyxy[t]) < 60)
                for t2 in peers
                if t2.video == track.video and len(t2) and same.index((t2.category, t2.track))
            )
            # JPEG changes colours by a few steps.
            assert near < 60 or covered, (name, track.video, track.track, t, near)


@every_reader
def test_pairs_are_drawn_also_after_pickling(name, root):
    source, _ = made(name, root, same_category=0.5)
    copy = pickle.loads(pickle.dumps(source))
    for positive in (True, False) * 10:
        drawn = [
            s.draw(np.random.default_rng(3), max_gap=4, positive=positive) for s in (source, copy)
        ]
        assert drawn[0][2] == drawn[1][2]
        for view in drawn[1][:2]:
            assert view.path.is_file()


@every_reader
def test_the_index_is_made_again_only_after_a_change(name, root):
    source, expected = made(name, root)
    path = source.index.path
    assert path.parent == root
    first = path.stat().st_mtime_ns
    assert opened(name, root).index.path.stat().st_mtime_ns == first
    (root / ANNOTATION[name]).unlink()
    if name in ("coco", "youtube_bb"):
        with pytest.raises(DatasetError, match="no such file"):
            opened(name, root)
        mini_again = READERS[name][0](root, 2)
        assert len(opened(name, root).index) == len(mini_again) < len(expected)
    else:
        index = opened(name, root).index
        assert sum(map(len, map(index.track, range(len(index))))) < sum(map(len, expected))


@every_reader
def test_a_missing_frame_is_left_out_and_counted(name, root):
    write, source, defaults = READERS[name]
    expected = write(root)
    gone = expected[0]
    whole = source(root, **defaults)
    frame = int(gone.frames[1 if len(gone) > 1 else 0])
    whole.frame_path(gone.video, frame).unlink()
    index = source(root, **defaults).index
    found = {(t.video, t.track): t for t in map(index.track, range(len(index)))}
    key = (gone.video, gone.track)
    if len(gone) > 1:
        assert frame not in found[key].frames.tolist()
        assert len(found[key]) == len(gone) - 1
    else:
        assert key not in found
    reasons = {s.reason: s for s in index.skipped}
    assert reasons["frame missing or unreadable"].count >= 1
    assert reasons["frame missing or unreadable"].example


@every_reader
def test_a_missing_root_is_named_with_the_layout(name, root):
    with pytest.raises(DatasetError, match=r"no such (folder|file).*\n?.*expected layout") as error:
        opened(name, root / "none")
    assert str(root) in str(error.value)


@every_reader
def test_an_empty_folder_is_no_dataset(name, root):
    root.mkdir()
    with pytest.raises(DatasetError, match="expected layout"):
        opened(name, root)


@every_reader
def test_a_source_of_which_nothing_can_be_used_is_refused(name, root):
    READERS[name][0](root)
    for file in [f for f in root.rglob("*") if f.suffix.lower() in (".jpg", ".jpeg")]:
        file.unlink()
    with pytest.raises(DatasetError, match=r"no usable track in .*(without frames|missing)"):
        opened(name, root)
    assert not list(root.glob("*.arrow"))


@every_reader
def test_annotations_that_are_noise_end_in_a_dataset_error_or_are_left_out(name, root):
    write, source, defaults = READERS[name]
    expected = write(root)
    file = root / ANNOTATION[name]
    file.write_bytes(np.random.default_rng(0).bytes(500))
    if name in ("coco", "youtube_bb"):
        with pytest.raises(DatasetError, match=file.name):
            source(root, **defaults)
    else:
        index = source(root, **defaults).index
        assert index.skipped[0].count == 1
        assert file.name in index.skipped[0].example or file.parent.name in index.skipped[0].example
        assert 0 < index.boxes < sum(map(len, expected))


@every_reader
def test_the_index_can_be_kept_elsewhere(name, root, tmp_path):
    source, expected = made(name, root, index_path=tmp_path / "cache" / "mine.arrow")
    assert source.index.path == tmp_path / "cache" / "mine.arrow"
    assert not list(root.glob("*.arrow"))
    assert len(TrackIndex.open(source.index.path)) == len(expected)


@every_reader
def test_other_options_have_an_index_of_their_own(name, root):
    made(name, root)
    other = {
        "vid": {"splits": ("train",)},
        "det": {"splits": ("val",)},
        "coco": {"splits": ("val2017",)},
        "youtube_bb": {"split": "validation"},
        "got10k": {"split": "val"},
        "lasot": None,
        "trackingnet": {"chunks": (1,)},
    }[name]
    if other is None:
        pytest.skip("LaSOT has no options that change its index")
    if name == "coco":
        mini.coco(root, split="val2017")
    if name == "youtube_bb":
        mini.youtube_bb(root, split="validation")
    if name == "got10k":
        mini.got10k(root, split="val")
    READERS[name][1](root, **other)
    assert len(list(root.glob("*.arrow"))) == 2


@every_reader
def test_a_moved_dataset_keeps_its_index(name, root, tmp_path):
    source, expected = made(name, root)
    first = source.index.path.stat().st_mtime_ns
    moved = tmp_path / "moved"
    shutil.move(root, moved)
    index = opened(name, moved).index
    mini.assert_same_tracks(index, expected)
    assert index.path.stat().st_mtime_ns == first
