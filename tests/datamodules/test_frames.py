import pickle

import cv2
import numpy as np
import pytest

from datamodules.frames import (
    FileView,
    FrameError,
    FrameFiles,
    JpegView,
    decode_image,
    image_files,
    read_frame,
    share_picture,
)
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


@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bits_the_upper_eight_are_shown(tmp_path, picture, channels):
    deep = picture[..., :channels].astype(np.uint16) * 256 + 77
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    frame = read_frame(tmp_path / "a.png")
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, np.broadcast_to(picture[..., :channels], picture.shape))


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


def jpeg(picture, quality=95):
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[
        1
    ].tobytes()


def waves(height, width):
    """A smooth picture, so that sampling it twice differs little, with a slope to find shifts by."""
    y, x = np.mgrid[:height, :width]
    red, green, blue = 128 + 90 * np.sin(x / 23), 128 + 90 * np.cos(y / 31), (x + y) % 512 / 2
    return np.stack([red, green, np.minimum(blue, 255 - blue) * 2], axis=2).astype(np.uint8)


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_a_reduced_pixel_shows_the_mean_of_its_square(reduction):
    # Sides that are no multiple of 8: the last row and column show less than a whole square.
    frame = waves(241, 325)
    found = decode_image(jpeg(frame), "a", reduction)
    rows, columns = 241 // reduction, 325 // reduction
    assert found.shape == (-(-241 // reduction), -(-325 // reduction), 3)
    whole = frame[: rows * reduction, : columns * reduction].astype(float)
    squares = whole.reshape(rows, reduction, columns, reduction, 3).mean(axis=(1, 3))
    difference = found[:rows, :columns] - squares
    # A shift by half a reduced pixel of 8 would move red and green by up to 90 / 23 * 4 = 16.
    assert np.abs(difference).mean() < 1.5
    assert np.abs(difference.mean(axis=(0, 1))).max() < 1


@pytest.mark.parametrize("step", [1.9, 2.0, 3.3, 4.7, 8.0, 11.0])
def test_a_crop_of_a_reduced_decoding_is_the_crop_of_the_frame(step):
    frame = waves(1077, 1283)
    encoded = jpeg(frame)
    full = decode_image(encoded, "a")
    for centre in [(600.3, 500.8), (40.0, 1060.5)]:  # inside; over a corner
        window = Window(*centre, side=64 * step, size=64)
        view = JpegView(encoded, np.array([1, 2, 30, 40], np.float32), "a")
        difference = view.crop(window).astype(float) - crop(full, window)
        assert np.abs(difference).mean() < 1.5
        # Nothing is shifted: an error of a tenth of a crop px would correlate with the slope.
        slope = np.gradient(crop(full, window).astype(float), axis=1)
        inner = (slice(8, -24), slice(24, -8))  # away from the frame's border in the second window
        shift = (difference[inner] * slope[inner]).sum() / (slope[inner] ** 2).sum()
        assert abs(shift) < 0.06


def test_only_what_a_crop_shows_is_decoded(monkeypatch):
    reductions = []

    def decode(data, name, reduction):
        reductions.append(reduction)
        return decode_image(data, name, reduction)

    monkeypatch.setattr("datamodules.frames.decode_image", decode)
    view = JpegView(jpeg(waves(400, 400)), np.zeros(4), "a")
    for side in (127 * 3, 127 * 5, 127 * 1.5, 127 * 9):  # finer is decoded anew, coarser is not
        view.crop(Window(200, 200, side, 127))
    assert reductions == [2, 1]


def test_a_png_is_never_reduced(tmp_path, picture):
    write(tmp_path / "a.png", picture)
    window = Window(45, 30, 60, 12)
    view = FileView(tmp_path / "a.png", np.zeros(4))
    np.testing.assert_array_equal(view.crop(window), crop(picture, window))
    with pytest.raises(ValueError, match="2, 4 or 8 for a JPEG, got 2"):
        decode_image((tmp_path / "a.png").read_bytes(), "a.png", 2)
    with pytest.raises(ValueError, match="got 3"):
        decode_image(jpeg(picture), "a.jpg", 3)


def test_views_of_one_image_read_it_once(tmp_path, picture):
    write(tmp_path / "a.png", picture)
    write(tmp_path / "b.png", picture)
    first, same, other = (FileView(tmp_path / f"{n}.png", np.zeros(4)) for n in "aab")
    for view in (same, other):
        share_picture(first, view)
    first.crop(Window(20, 30, 33, 24))
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    assert same.crop(Window(20, 30, 33, 24)).any()
    with pytest.raises(FrameError, match=r"b\.png: No such file"):
        other.crop(Window(20, 30, 33, 24))
    packed = [JpegView(jpeg(picture), np.zeros(4), "a") for _ in range(2)]
    share_picture(*packed)
    assert packed[0].picture is packed[1].picture
    share_picture(packed[0], first)  # of two kinds: nothing to share


def test_an_image_cut_off_behind_its_thumbnail_is_refused(tmp_path, picture):
    thumbnail = jpeg(picture[:16, :16])
    encoded = write(tmp_path / "a.jpg", picture, thumbnail)
    (tmp_path / "a.jpg").write_bytes(encoded[: 6 + len(thumbnail)])  # ends as a whole file does
    with pytest.raises(FrameError, match=r"a\.jpg: "):
        read_frame(tmp_path / "a.jpg")
