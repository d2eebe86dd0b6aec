import pickle

import cv2
import numpy as np
import pytest

from datamodules.frames import FileView, FrameFiles, image_files, read_frame
from lightning_trackers.crops import Window, crop


def write(path, picture, thumbnail=b""):
    encoded = cv2.imencode(path.suffix, picture[..., ::-1])[1].tobytes()
    if thumbnail:  # an EXIF-like segment right after the start marker
        length = (len(thumbnail) + 2).to_bytes(2, "big")
        encoded = encoded[:2] + b"\xff\xe1" + length + thumbnail + encoded[2:]
    path.write_bytes(encoded)
    return encoded


@pytest.fixture
def picture():
    y, x = np.mgrid[:60, :90]
    return np.stack([x * 2, y * 3, 255 - x], axis=2).astype(np.uint8)


def test_colours_come_as_rgb(tmp_path, picture):
    write(tmp_path / "a.png", picture)
    frame = read_frame(tmp_path / "a.png")
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, picture)
    write(tmp_path / "a.jpg", picture)
    assert np.abs(read_frame(tmp_path / "a.jpg").astype(int) - picture).mean() < 3  # lossy


def test_grey_images_become_three_channels(tmp_path, picture):
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., 0])
    frame = read_frame(tmp_path / "a.png")
    np.testing.assert_array_equal(frame, picture[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9, 0.999])
def test_a_cut_off_image_is_refused(tmp_path, picture, suffix, share):
    file = tmp_path / f"a{suffix}"
    encoded = write(file, picture)
    file.write_bytes(encoded[: int(len(encoded) * share)])
    with pytest.raises(ValueError, match=rf"a\{suffix}: .*copy it again"):
        read_frame(file)


def test_a_thumbnails_end_does_not_hide_a_cut(tmp_path, picture):
    thumbnail = cv2.imencode(".jpg", picture[:16, :16])[1].tobytes()
    encoded = write(tmp_path / "a.jpg", picture, thumbnail)
    assert read_frame(tmp_path / "a.jpg").shape == picture.shape
    (tmp_path / "a.jpg").write_bytes(encoded[: int(len(encoded) * 0.8)])
    with pytest.raises(ValueError, match="cut short"):
        read_frame(tmp_path / "a.jpg")


def test_bytes_after_the_end_of_an_image_are_no_harm(tmp_path, picture):
    for name in ("a.jpg", "a.png"):
        encoded = write(tmp_path / name, picture)
        (tmp_path / name).write_bytes(encoded + b"\0" * 20)
        assert read_frame(tmp_path / name).shape == picture.shape


def test_what_is_not_an_image_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"a\.jpg: not an image"):
        read_frame(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError):
        read_frame(tmp_path / "b.jpg")


def test_images_are_listed_in_numeric_order(tmp_path):
    names = ["10.jpg", "9.jpg", "a10.PNG", "a9.png", "1.jpeg", "0002.jpg"]
    for name in [*names, "notes.txt", "._9.jpg"]:
        (tmp_path / name).touch()
    found = [f.name for f in image_files(tmp_path)]
    assert found == ["1.jpeg", "0002.jpg", "9.jpg", "10.jpg", "a9.png", "a10.PNG"]


def test_frame_files_decode_only_what_is_indexed(tmp_path, picture):
    write(tmp_path / "1.png", picture)
    frames = FrameFiles([tmp_path / "0.png", tmp_path / "1.png", tmp_path / "2.png"])
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[1], picture)
    part = frames[1:]
    assert isinstance(part, FrameFiles)
    assert len(part) == 2
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(part))[0], picture)
    with pytest.raises(FileNotFoundError):
        frames[0]
    with pytest.raises(IndexError):
        frames[3]


def test_a_view_decodes_at_the_first_crop(tmp_path, picture):
    view = FileView(tmp_path / "a.png", np.array([1, 2, 30, 40], np.float32))
    write(tmp_path / "a.png", picture)
    window = Window(20, 30, 33, 24)
    np.testing.assert_array_equal(view.crop(window), crop(picture, window))
    (tmp_path / "a.png").unlink()
    np.testing.assert_array_equal(view.crop(window), crop(picture, window))  # decoded once
