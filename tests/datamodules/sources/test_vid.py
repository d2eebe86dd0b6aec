import numpy as np
import pytest

from datamodules.errors import DatasetError
from datamodules.sources.imagenet import parse_annotation
from datamodules.sources.reading import BadEntryError
from datamodules.sources.vid import VIDSource
from tests.datamodules import miniature as mini

SNIPPET = "train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000"


def edit(root, frame, change, snippet=SNIPPET):
    file = root / "Annotations/VID" / snippet / f"{frame:06d}.xml"
    file.write_text(change(file.read_text()))
    return file


def test_an_annotation_is_read_by_name_whatever_the_order():
    # Width 20 − 10 = 10: the edges as they stand, nothing added.
    xml = mini.voc_xml(
        (64, 48), [{"trackid": 3, "name": "n1", "box": (10, 5, 20, 9), "occluded": 1}]
    )
    image = parse_annotation(xml.encode(), "f")
    assert image.image_wh == (64, 48)
    (found,) = image.objects
    assert (found.track, found.category, found.occluded) == ("3", "n1", True)
    assert found.box_xyxy == (10, 5, 20, 9)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (b"", "malformed XML"),
        (b"<annotation><size>", "malformed XML"),
        (b"<?xml version='1.0' encoding='nonsense'?><a/>", "malformed XML"),
        (b"<annotation></annotation>", "image size is not usable"),
        (b"<a><size><width>nan</width><height>4</height></size></a>", "image size is not usable"),
        (b"<a><size><width>9e9</width><height>4</height></size></a>", "image size is not usable"),
    ],
)
def test_files_that_cannot_be_used_say_why(xml, reason):
    with pytest.raises(BadEntryError, match=f"000001.xml.*: {reason}"):
        parse_annotation(xml, "000001.xml")


def test_a_bad_object_leaves_the_others():
    good = {"trackid": 0, "name": "n1", "box": (1, 2, 3, 4)}
    xml = mini.voc_xml((64, 48), [{**good, "box": (1, "x", 3, 4)}, good, {**good, "name": ""}])
    image = parse_annotation(xml.encode(), "f.xml")
    assert len(image.objects) == 1
    assert [s.example for s in image.skipped] == [
        "f.xml: expected a number in bndbox/ymin, got 'x'",
        "f.xml: expected object/name, got none",
    ]


def test_occluded_frames_are_drawn_only_if_wanted(tmp_path):
    mini.vid(tmp_path)
    with_them = VIDSource(tmp_path).index.track(1)
    without = VIDSource(tmp_path, use_occluded=False).index.track(1)
    assert with_them.visible.all()
    assert with_them.occluded.tolist() == [False] * 5 + [True]
    assert without.visible.tolist() == [True] * 5 + [False]


def test_bad_entries_are_left_out_and_counted(tmp_path):
    mini.vid(tmp_path)
    broken = edit(tmp_path, 1, lambda x: x[:50])
    edit(tmp_path, 3, lambda x: x.replace("<trackid>0</trackid>", "", 1))
    edit(tmp_path, 4, lambda x: x.replace("<trackid>1</trackid>", "<trackid>0</trackid>", 1))
    edit(tmp_path, 5, lambda x: x.replace("n02691156", "n0", 1))
    (tmp_path / "Annotations/VID" / SNIPPET / "about.xml").touch()
    # Inverted: xmax and xmin change places.
    edit(tmp_path, 6, lambda x: x.replace("xmax", "?").replace("xmin", "xmax").replace("?", "xmin"))
    index = VIDSource(tmp_path).index
    assert {(s.reason, s.count) for s in index.skipped} == {
        ("malformed XML", 1),
        ("object without trackid", 1),
        ("target changes its category", 2),
        ("file name is no frame number", 1),
        ("box not finite, without area or outside the image", 2),
    }
    assert str(broken) in next(s.example for s in index.skipped if s.reason == "malformed XML")
    track = index.track(0)
    assert track.frames.tolist() == [0, 2, 4, 6, 7]
    assert track.visible.tolist() == [True, True, True, False, True]


def test_a_trackid_that_occurs_twice_in_a_frame_counts_once(tmp_path):
    mini.vid(tmp_path)

    def repeat(xml):
        element = xml[xml.index("<object>") : xml.index("</object>") + len("</object>")]
        return xml.replace("</annotation>", f"{element}</annotation>")

    edit(tmp_path, 2, repeat)
    index = VIDSource(tmp_path).index
    assert [(s.reason, s.count) for s in index.skipped] == [
        ("target is annotated twice in a frame", 1)
    ]
    assert index.track(0).frames.tolist() == list(range(8))


def test_sizes_may_change_inside_a_snippet(tmp_path):
    mini.vid(tmp_path)
    edit(tmp_path, 3, lambda x: x.replace("<width>96", "<width>48"))
    track = VIDSource(tmp_path).index.track(0)
    assert track.image_wh[2:5].tolist() == [[96, 72], [48, 72], [96, 72]]


def test_a_track_of_a_single_frame_pairs_it_with_itself(tmp_path):
    mini.vid(tmp_path, videos=2, frames=3)
    for frame in (1, 2):
        edit(tmp_path, frame, lambda _: mini.voc_xml((96, 72), []))
    source = VIDSource(tmp_path)
    exemplar, search, _ = source.draw(np.random.default_rng(2), max_gap=100, positive=True)
    assert len(source.index.track(0)) == 1
    assert {exemplar.path, search.path}


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected splits of train, val, got 'test'"):
        VIDSource(tmp_path, splits=("test",))


def test_a_split_without_snippets_is_refused(tmp_path):
    for top in ("Data", "Annotations"):
        (tmp_path / top / "VID/train/ILSVRC2015_VID_train_0000").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no snippet in it"):
        VIDSource(tmp_path)
