"""No annotation, however damaged, ends a parser in anything but a DatasetError."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.errors import DatasetError
from datamodules.sources import (
    coco,
    folder,
    got10k,
    imagenet,
    lasot,
    text,
    youtube_bb,
    youtube_bb_csv,
)
from datamodules.sources.indexing import Entry, cleaned
from datamodules.sources.reading import NO_CATEGORY
from datamodules.tracks import Skipped, Track, covers_image
from tests.datamodules import miniature as mini

FRAMES = 6
FUZZED_FILES = 100_000


def as_track(boxes_xyxy, visible, occluded=None, image_wh=(96, 72)):
    count = len(boxes_xyxy)
    none = np.zeros(count, bool)
    wh = np.tile(image_wh, (count, 1))
    frames = np.arange(count)
    occluded = none if occluded is None else occluded
    return Track("v", "0", NO_CATEGORY, frames, boxes_xyxy, visible, occluded, wh)


def run_imagenet(data):
    image = imagenet.parse_annotation(data, "f.xml")
    yield from image.skipped
    for found in image.objects:
        yield from cleaned(as_track(np.array([found.box_xyxy]), np.ones(1, bool)), "f.xml")


def run_coco(data):
    parts = coco.parse_instances(data, "f.json")
    yield from coco.read_images(coco.group_instances(parts, "train2017", "f.json"))


def run_youtube_bb(data):
    rows = youtube_bb_csv.parse_annotations(data, "f.csv")
    image_wh = np.full((len(rows.videos), 2), 96)
    yield from youtube_bb.read_videos(youtube_bb.Videos(rows, None, image_wh, rows.skipped))


def run_sizes(data):
    _, skipped = youtube_bb_csv.parse_sizes(data, np.array(["a", "b"], object), "sizes.csv")
    return iter(skipped)


def run_got10k(data):
    flags = b"0\n" * FRAMES
    found = got10k.parse_annotation(data, flags, b"8\n" * FRAMES, "f.txt")
    yield from cleaned(as_track(found.boxes_xyxy, found.visible, found.occluded), "f.txt")


def run_meta_info(data):
    assert got10k.parse_category(data, "meta_info.ini")
    return iter(())


def run_lasot(data):
    boxes = b"1,2,10,10\n" * FRAMES
    boxes_xyxy, visible = lasot.parse_annotation(boxes, data, b"0," * FRAMES, "f.txt")
    yield from cleaned(as_track(boxes_xyxy, visible), "f.txt")


def run_trackingnet(data):
    boxes_xyxy = text.parse_boxes(data, "f.txt", origin=0)
    yield from cleaned(as_track(boxes_xyxy, np.ones(len(boxes_xyxy), bool)), "f.txt")


def run_folder(data):
    for video in folder.parse_csv(data, Path("boxes.csv")):
        yield from video.skipped


BOXES = "".join(f"{3 + t}.5,{4 + t},{20 - t},15.25\n" for t in range(FRAMES)).encode()
YTBB = [f"a-_B,{1000 * t},0,person,0,present,0.1,0.5,0.25,0.75" for t in range(FRAMES)]
COCO = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(3)],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [1.5, 2, 9, 8], "iscrowd": 0}
        for i in range(3)
    ],
    "categories": [{"id": 1, "name": "person"}],
}
XML = mini.voc_xml(
    (64, 48),
    [{"trackid": t, "name": "n02084071", "box": (1, 2, 30, 40), "occluded": t} for t in range(2)],
)
# Each parser with a file as it should be.
PARSERS = {
    "imagenet": (run_imagenet, XML.encode()),
    "coco": (run_coco, json.dumps(COCO).encode()),
    "youtube_bb": (run_youtube_bb, "\n".join(YTBB).encode()),
    "sizes": (run_sizes, b"youtube_id,width,height\na,640,480\nb,320,240\n"),
    "got10k": (run_got10k, BOXES),
    "meta_info": (run_meta_info, b"[METAINFO]\nurl: a%20b\nobject_class: bear\n"),
    "lasot": (run_lasot, b"0,1,0,0,0,0"),
    "trackingnet": (run_trackingnet, BOXES),
    "folder": (
        run_folder,
        b"video,image,target,x,y,w,h\nPark,1.jpg,a,1,2,3.5,4\nP,2.jpg,a,1,2,3,4\n",
    ),
}


def outcome(run, data) -> list[Entry] | None:
    """Return what a parser makes of a file, checked; None where it refuses the file."""
    try:
        entries = list(run(data))
    except DatasetError:
        return None
    for entry in entries:
        if isinstance(entry, Skipped):
            assert entry.count > 0
            assert entry.reason
        else:
            # What reaches an index can be trained on.
            assert entry.visible.any()
            assert covers_image(entry.boxes_xyxy, entry.image_wh)[entry.visible].all()
            assert (np.diff(entry.frames) > 0).all()
    return entries


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with one to four kinds of damage."""
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(data) + 1))
        match int(rng.integers(7)):
            case 0:  # bytes flip
                changed = bytearray(data)
                for i in rng.integers(len(data), size=int(rng.integers(1, 5))) if data else ():
                    changed[i] ^= int(rng.integers(1, 256))
                data = bytes(changed)
            case 1:  # the end is missing
                data = data[:at]
            case 2:  # lines occur again
                lines = data.splitlines(keepends=True) or [b""]
                i = int(rng.integers(len(lines)))
                data = b"".join([*lines[: i + 1], *lines[i:]])
            case 3 | 4:  # a number becomes another
                numbers = [b"1e999", b"-1e308", b"9" * 40, b"nan", b"-inf", b"0", b"-1", b"1e-320"]
                digits = [i for i, c in enumerate(data) if 48 <= c <= 57]
                if digits:
                    i = digits[int(rng.integers(len(digits)))]
                    data = data[:i] + numbers[int(rng.integers(len(numbers)))] + data[i + 1 :]
            case 5:  # noise in between
                data = data[:at] + rng.bytes(int(rng.integers(1, 9))) + data[at:]
            case 6:  # a piece is missing
                data = data[:at] + data[at + int(rng.integers(1, 20)) :]
    return data


@pytest.mark.parametrize("name", PARSERS)
def test_a_sound_file_is_read_without_complaint(name):
    run, data = PARSERS[name]
    entries = outcome(run, data)
    assert entries is not None
    assert not [e for e in entries if isinstance(e, Skipped)]


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read_or_refused(name, data):
    outcome(PARSERS[name][0], data)


@pytest.mark.parametrize("name", PARSERS)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_damaged_files_are_read_or_refused(name, seed):
    run, data = PARSERS[name]
    outcome(run, mutated(data, np.random.default_rng(seed)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    key=st.sampled_from(["images", "annotations", "categories"]),
    field=st.sampled_from(
        ["id", "file_name", "width", "image_id", "category_id", "bbox", "iscrowd"]
    ),
    value=json_values,
)
def test_any_value_in_an_instances_file_is_read_or_refused(key, field, value):
    content = json.loads(json.dumps(COCO))
    content[key][0][field] = value
    outcome(run_coco, json.dumps(content).encode())
    content[key] = value
    outcome(run_coco, json.dumps(content).encode())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(boxes=st.lists(st.tuples(*[st.floats(width=64)] * 4), min_size=1, max_size=5))
def test_any_numbers_are_read_as_they_stand(boxes):
    data = "\n".join(",".join(map(repr, box)) for box in boxes).encode()
    got = text.parse_boxes(data, "f", origin=1)
    with np.errstate(all="ignore"):
        x, y, w, h = np.array(boxes).T
        x, y = x - 1, y - 1
        np.testing.assert_array_equal(got, np.stack([x, y, x + w, y + h], axis=1))
    outcome(run_trackingnet, data)


@pytest.mark.slow
def test_a_hundred_thousand_damaged_files_end_in_no_other_error():
    accepted = 0
    for number in range(FUZZED_FILES):
        name = list(PARSERS)[number % len(PARSERS)]
        run, data = PARSERS[name]
        try:
            accepted += (
                outcome(run, mutated(data, np.random.default_rng([2015, number]))) is not None
            )
        except Exception as error:
            error.add_note(f"parser {name}, file number {number}")
            raise
    # Damage must not be so heavy that every file is refused at once.
    assert 0.2 < accepted / FUZZED_FILES < 0.95
