import pytest

from datamodules.errors import DatasetError
from datamodules.sources.got10k import GOT10kSource, parse_annotation, parse_category
from datamodules.sources.reading import BadEntryError
from tests.datamodules import miniature as mini


def test_visibility_follows_absence_and_cover():
    # Absent, hidden, hardly covered, nearly whole, whole.
    boxes = b"1,1,9,9\n" * 5
    found = parse_annotation(boxes, b"1\n0\n0\n0\n0\n", b"8\n0\n1\n7\n8\n", "f")
    assert found.visible.tolist() == [False, False, True, True, True]
    assert found.occluded.tolist() == [False, False, True, True, False]
    assert found.boxes_xyxy[0].tolist() == [0, 0, 9, 9]


def test_files_of_unequal_length_leave_the_video_out(tmp_path):
    expected = mini.got10k(tmp_path)
    (tmp_path / "train/GOT-10k_Train_000001/absence.label").write_text("0\n0\n")
    (tmp_path / "train/GOT-10k_Train_000002/cover.label").unlink()
    index = GOT10kSource(tmp_path).index
    mini.assert_same_tracks(index, expected[2:])
    assert [(s.reason, s.count) for s in index.skipped] == [
        ("flags are not one whole number per frame", 1),
        ("annotation file missing", 1),
    ]
    assert "absence.label: 2 flags, 8 boxes" in index.skipped[0].example


@pytest.mark.parametrize("meta_info", [b"", b"\xff\xfe", b"[METAINFO\nx", b"[METAINFO]\nurl: %"])
def test_a_meta_info_without_class_is_named(meta_info):
    with pytest.raises(BadEntryError, match=r"meta\.ini .*no object_class"):
        parse_category(meta_info, "meta.ini")


def test_a_video_without_class_is_used_all_the_same(tmp_path):
    mini.got10k(tmp_path)
    (tmp_path / "train/GOT-10k_Train_000001/meta_info.ini").write_text("")
    index = GOT10kSource(tmp_path).index
    assert [index.track(i).category for i in range(3)] == ["object", "cart", "bear"]
    assert index.skipped[0].reason.startswith("no object_class in meta_info.ini")


def test_sequences_are_chosen_by_name_or_position_and_excluded(tmp_path):
    mini.got10k(tmp_path, videos=5)
    chosen, excluded = tmp_path / "chosen.txt", tmp_path / "excluded.txt"
    chosen.write_text("0\n3\nGOT-10k_Train_000005\n")
    excluded.write_text("GOT-10k_Train_000004\n")

    def videos(**options):
        index = GOT10kSource(tmp_path, **options).index
        return [int(index.video(i)[-6:]) for i in range(len(index))]

    assert videos() == [1, 2, 3, 4, 5]
    assert videos(sequences=chosen) == [1, 4, 5]
    assert videos(exclude=excluded) == [1, 2, 3, 5]
    assert videos(sequences=chosen, exclude=excluded) == [1, 5]
    excluded.write_text("0\n1\n2\n3\n4\n")
    with pytest.raises(DatasetError, match="no sequence is left"):
        videos(exclude=excluded)


@pytest.mark.parametrize("line", ["GOT-10k_Train_000009", "3", "-1", "x"])
def test_a_list_with_an_unknown_sequence_is_refused(tmp_path, line):
    mini.got10k(tmp_path)
    file = tmp_path / "mine.txt"
    file.write_text(f"0\n{line}\n")
    with pytest.raises(DatasetError, match=rf"mine\.txt, entry 2: expected a name .* got '{line}'"):
        GOT10kSource(tmp_path, sequences=file)


def test_a_missing_list_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DatasetError, match=r"list\.txt: no such file; expected layout"):
        GOT10kSource(tmp_path)
    (tmp_path / "train/list.txt").write_text("\n")
    with pytest.raises(DatasetError, match=r"list\.txt: expected one sequence name a line"):
        GOT10kSource(tmp_path)
    (tmp_path / "train/list.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(DatasetError, match=r"list\.txt: expected a text file"):
        GOT10kSource(tmp_path)


def test_a_video_may_change_its_resolution(tmp_path):
    mini.got10k(tmp_path)
    folder = tmp_path / "train/GOT-10k_Train_000001"
    for number in (7, 8):
        mini.write_frame(folder / f"{number:08d}.jpg", [], wh=(200, 150))
    track = GOT10kSource(tmp_path).index.track(0)
    assert track.image_wh.tolist() == [[96, 72]] * 6 + [[200, 150]] * 2


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected split train or val, got 'test'"):
        GOT10kSource(tmp_path, split="test")
