import pytest

from datamodules.errors import DatasetError
from datamodules.sources.lasot import TEST_SPLIT, LaSOTSource, parse_annotation
from datamodules.sources.reading import BadEntryError
from tests.datamodules import miniature as mini


def test_the_test_split_has_four_sequences_of_each_of_70_classes():
    classes = [name.rpartition("-")[0] for name in TEST_SPLIT]
    assert len(TEST_SPLIT) == 280
    assert len(set(classes)) == 70
    assert all(classes.count(c) == 4 for c in set(classes))
    # Sequences of the test split that the toolkit's notes name.
    assert {"monkey-17", "tiger-6", "lion-5", "microphone-6"} <= TEST_SPLIT


def test_visible_is_neither_hidden_nor_outside():
    boxes, visible = parse_annotation(b"1,1,9,9\n" * 4, b"0,1,0,1", b"0,0,1,1", "f")
    assert visible.tolist() == [True, False, False, False]
    assert boxes[0].tolist() == [0, 0, 9, 9]


def test_visible_frames_with_illegal_boxes_are_left_out(tmp_path):
    # Such boxes occur in the dataset: tiger-6 has 613,731,247,-11, lion-5 1,1,-1,-1.
    mini.lasot(tmp_path)
    file = tmp_path / "bear/bear-1/groundtruth.txt"
    lines = file.read_text().splitlines()
    lines[2], lines[3] = "613,731,247,-11", "1,1,-1,-1"
    file.write_text("\n".join(lines))
    index = LaSOTSource(tmp_path).index
    assert index.track(2).visible.tolist() == [True, False, False, False, False, True, True, True]
    assert [(s.reason, s.count) for s in index.skipped] == [
        ("box not finite, without area or outside the image", 2)
    ]


def test_flags_of_another_length_leave_the_sequence_out(tmp_path):
    mini.lasot(tmp_path)
    (tmp_path / "bear/bear-1/full_occlusion.txt").write_text("0,1")
    index = LaSOTSource(tmp_path).index
    assert len(index) == 2
    assert "full_occlusion.txt: 2 flags, 8 boxes" in index.skipped[0].example
    with pytest.raises(BadEntryError, match=r"out_of_view\.txt: 1 flags, 2 boxes"):
        parse_annotation(b"1,1,9,9\n" * 2, b"0,1", b"0", "f")


def test_a_root_of_test_sequences_alone_is_refused(tmp_path):
    (tmp_path / "airplane" / "airplane-1").mkdir(parents=True)
    with pytest.raises(DatasetError, match="only sequences of the test split in it"):
        LaSOTSource(tmp_path)
