import pytest

from datamodules.errors import DatasetError
from datamodules.sources.trackingnet import TrackingNetSource
from tests.datamodules import miniature as mini


def test_frames_are_in_numeric_order(tmp_path):
    mini.trackingnet(tmp_path)
    source = TrackingNetSource(tmp_path, chunks=(1,))
    assert source.index.track(0).frames.tolist() == list(range(12))
    path = source.frame_path("TRAIN_1/-video_1", 10)
    assert path == tmp_path / "TRAIN_1/frames/-video_1/10.jpg"


def test_boxes_leave_the_image_and_those_outside_are_not_used(tmp_path):
    mini.trackingnet(tmp_path, videos=1)
    file = tmp_path / "TRAIN_0/anno/-video_0.txt"
    lines = file.read_text().splitlines()
    lines[5], lines[6] = "-30.5,2,20,20", "5,5,0,9"
    file.write_text("\n".join(lines))
    track = TrackingNetSource(tmp_path, chunks=[0]).index.track(0)
    assert track.visible.tolist() == [True] * 5 + [False] * 2 + [True] * 5
    assert track.boxes_xyxy[0].tolist() == [-8.5, 3, 14.25, 20]


def test_a_missing_or_empty_part_is_named(tmp_path):
    mini.trackingnet(tmp_path)
    with pytest.raises(DatasetError, match="TRAIN_2: no such folder"):
        TrackingNetSource(tmp_path)
    for folder in ("anno", "frames"):
        (tmp_path / "TRAIN_2" / folder).mkdir(parents=True)
    with pytest.raises(DatasetError, match="anno: no annotation in it"):
        TrackingNetSource(tmp_path, chunks=(2,))


def test_more_lines_than_frames_are_counted(tmp_path):
    mini.trackingnet(tmp_path, videos=1)
    file = tmp_path / "TRAIN_0/anno/-video_0.txt"
    file.write_text(file.read_text() + "1,1,5,5\n2,2,5,5\n")
    index = TrackingNetSource(tmp_path, chunks=(0,)).index
    assert len(index.track(0)) == 12
    assert [(s.reason, s.count) for s in index.skipped] == [("frame missing or unreadable", 2)]
