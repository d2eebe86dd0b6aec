import cv2
import pytest
from PIL import Image

from datamodules.sources import reading
from datamodules.sources.reading import (
    BadEntryError,
    FramePattern,
    check_size,
    file_names,
    image_size,
    image_sizes,
    subfolders,
)
from tests.datamodules import miniature as mini


def test_sizes_come_from_two_headers_unless_these_differ(tmp_path, monkeypatch):
    files = [tmp_path / f"{i}.png" for i in range(5)]
    for file in files:
        mini.write_frame(file, [], wh=(30, 20))
    read = []
    monkeypatch.setattr(reading, "image_size", lambda f: (read.append(f), image_size(f))[1])
    assert image_sizes(files).tolist() == [[30, 20]] * 5
    assert read == [files[0], files[4]]
    mini.write_frame(files[3], [], wh=(40, 20))
    mini.write_frame(files[4], [], wh=(40, 20))
    assert image_sizes(files).tolist() == [[30, 20]] * 3 + [[40, 20]] * 2


def test_an_unreadable_frame_has_size_0_and_costs_no_other(tmp_path):
    files = [tmp_path / f"{i}.jpg" for i in range(3)]
    for file in files:
        mini.write_frame(file, [], wh=(30, 20))
    files[0].write_bytes(b"")
    assert image_sizes(files).tolist() == [[0, 0], [30, 20], [30, 20]]
    for file in files:
        file.write_bytes(b"\xff\xd8\xffnothing")
    with pytest.raises(BadEntryError, match=r"0\.jpg .*image cannot be read"):
        image_sizes(files)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_decoded_frame_also_when_a_camera_was_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    height, width = cv2.imread(str(tmp_path / "a.jpg")).shape[:2]
    assert image_size(tmp_path / "a.jpg") == (width, height)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (70000, 5), (5.5, 5), (float("nan"), 5)])
def test_sizes_that_no_image_has_are_refused(size):
    with pytest.raises(BadEntryError, match="image size is not usable"):
        check_size(*size, "f")


def test_listing_passes_over_leftovers_and_missing_folders(tmp_path):
    for name in ("b.xml", "a.xml", "._a.xml", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "z").mkdir()
    (tmp_path / ".git").mkdir()
    assert file_names(tmp_path, ".xml") == ["a.xml", "b.xml"]
    assert file_names(tmp_path / "none") == []
    assert subfolders(tmp_path) == [tmp_path / "z"]


def test_a_pattern_takes_braces_in_names_as_they_are(tmp_path):
    path = FramePattern(tmp_path, "{video}/{frame:06d}.JPEG")("a{0}", 12)
    assert path == tmp_path / "a{0}" / "000012.JPEG"
