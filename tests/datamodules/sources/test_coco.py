import json

import pytest

from datamodules.errors import DatasetError
from datamodules.sources.coco import COCOSource, group_instances, parse_instances
from tests.datamodules import miniature as mini


def content(**changes):
    """One image with one object; boxes x y w h from 0."""
    whole = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 1.5, 10, 20]}],
        "categories": [{"id": 3, "name": "cat"}],
    }
    return whole | changes


def grouped(**changes):
    data = json.dumps(content(**changes)).encode()
    return group_instances(parse_instances(data, "f.json"), "train2017", "f.json")


def test_boxes_are_counted_from_0():
    (image,) = grouped().images
    assert (image.name, image.image_wh) == ("train2017/a.jpg", (64, 48))
    ((number, category, box_xyxy),) = image.objects
    assert (number, category, box_xyxy.tolist()) == ("1", "cat", [0, 1.5, 10, 21.5])


def test_outlines_are_dropped_while_parsing():
    annotation = content()["annotations"][0] | {"segmentation": [[1, 2, 3]]}
    _, (parsed,), _ = parse_instances(json.dumps(content(annotations=[annotation])).encode(), "f")
    assert "segmentation" not in parsed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"iscrowd": 1}, "crowd"),
        ({"bbox": [1, 2, 3]}, "annotation is not described as expected"),
        ({"bbox": [1, 2, 3, "4"]}, "annotation is not described as expected"),
        ({"bbox": None}, "annotation is not described as expected"),
        ({"id": 1.5}, "annotation is not described as expected"),
        ({"image_id": 8}, "annotation of an unknown image"),
        ({"category_id": 4}, "annotation of an unknown category"),
    ],
)
def test_annotations_that_cannot_be_used_are_counted(change, reason):
    found = grouped(annotations=[content()["annotations"][0] | change])
    assert [s.reason for s in found.skipped] == [reason]
    assert found.images[0].objects == []


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"id": 7}, "entry without id, file_name, width, height"),
        ("a.jpg", "entry without id, file_name, width, height"),
        (
            {"id": 7, "file_name": "../a.jpg", "width": 4, "height": 4},
            "image is not described as expected",
        ),
        ({"id": 7, "file_name": "a.jpg", "width": 0, "height": 4}, "image size is not usable"),
    ],
)
def test_images_that_cannot_be_used_are_counted(image, reason):
    found = grouped(images=[image])
    assert [s.reason for s in found.skipped] == [reason, "annotation of an unknown image"]


def test_a_second_image_of_an_id_is_left_out():
    found = grouped(images=content()["images"] * 2)
    assert [s.reason for s in found.skipped] == ["duplicate image id"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "f.json: malformed JSON"),
        (b"{", "malformed JSON"),
        (b"\xff", "malformed JSON"),
        (b"[" * 100_000, "malformed JSON"),
        (b"[]", "expected a list 'images' at the top"),
        (b'{"images": []}', "expected a list 'annotations' at the top"),
    ],
)
def test_files_that_are_no_instances_are_refused(data, message):
    with pytest.raises(DatasetError, match=message):
        parse_instances(data, "f.json")


def test_numbers_beyond_any_float_and_boxes_outside_are_left_out(tmp_path):
    mini.coco(tmp_path)
    file = tmp_path / "annotations/instances_train2017.json"
    given = json.loads(file.read_text())
    given["annotations"][2]["bbox"] = [10**400, 0, 10**400, 1]
    given["annotations"][3]["bbox"] = [200, 0, 5, 5]
    given["annotations"][4]["bbox"] = [5, 5, 0, 5]
    file.write_text(json.dumps(given))
    index = COCOSource(tmp_path).index
    assert {(s.reason, s.count) for s in index.skipped} == {
        ("crowd", 1),
        ("box not finite, without area or outside the image", 3),
        ("target without a usable frame", 3),
    }
    assert len(index) == 3
