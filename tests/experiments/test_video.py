import logging
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from callbacks.visualisation import ClipWriter
from experiments.video import open_frames


def write_video(path, values=(20, 120, 220), size_hw=(32, 48), fps=10):
    """Frames of one grey each, their upper left quarter white; h264 in the suffix's container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "1", "g": "1"})
        stream.height, stream.width = size_hw
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        for index, value in enumerate(values):
            picture = np.full((*size_hw, 3), value, dtype=np.uint8)
            picture[: size_hw[0] // 2, : size_hw[1] // 2] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_image(path, value, size_hw=(6, 8)):
    cv2.imwrite(str(path), np.full((*size_hw, 3), value, dtype=np.uint8))


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_video_file(tmp_path, suffix):
    stream = open_frames(write_video(tmp_path / f"a.{suffix}"))
    assert (stream.name, stream.fps, stream.length) == (f"a.{suffix}", 10, 3)
    for _ in range(2):  # each pass begins anew
        frames = list(stream)
        assert [f.shape for f in frames] == [(32, 48, 3)] * 3
        assert all(f.dtype == np.uint8 for f in frames)
        assert [round(float(f[-4:].mean()), -1) for f in frames] == [20, 120, 220]


def test_colours_are_rgb(tmp_path):
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    picture[..., 0] = 255
    with ClipWriter(tmp_path / "a.mp4", crf=1) as clip:
        clip.write(picture)
    cv2.imwrite(str(tmp_path / "1.png"), picture[..., ::-1])
    for source in (tmp_path / "a.mp4", tmp_path):
        red, green, blue = next(iter(open_frames(source)))[8, 8].astype(int)
        assert red > 240
        assert max(green, blue) < 20


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_video_of_a_turned_telephone_is_upright(tmp_path, degrees):
    path = write_video(tmp_path / "a.mp4", values=(100,))
    # The matrix of the track header, 16.16 fixed point: to be shown turned clockwise.
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[matrix : matrix + 20] = struct.pack(">5i", a * one, b * one, 0, c * one, d * one)
    path.write_bytes(data)

    (frame,) = open_frames(path)
    # White was the upper left quarter; clockwise turns take it to the upper right, lower right, ...
    height, width = frame.shape[:2]
    assert (height, width) == ((32, 48) if degrees == 180 else (48, 32))
    row, column = {90: (0.25, 0.75), 180: (0.75, 0.75), 270: (0.75, 0.25)}[degrees]
    assert frame[int(row * height), int(column * width)].min() > 230
    assert (frame.min(axis=2) > 200).mean() == pytest.approx(0.25, abs=0.05)
    # OpenCV turns by itself: an independent reading of the same file.
    _, reference = cv2.VideoCapture(str(path)).read()
    assert np.abs(reference[..., ::-1].astype(int) - frame).mean() < 3


def test_image_folder_in_numeric_order(tmp_path):
    for number in (10, 2, 1):
        write_image(tmp_path / f"{number}.png", 10 * number)
    (tmp_path / "notes.txt").write_text("no image")
    stream = open_frames(str(tmp_path))
    assert (stream.length, stream.fps) == (3, 25)
    assert [int(f[0, 0, 0]) for f in stream] == [10, 20, 100]


def test_missing_file_names_the_nearest(tmp_path):
    write_video(tmp_path / "crossing.mp4")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*crossing\.mp4\?"):
        open_frames(tmp_path / "crosing.mp4")
    with pytest.raises(FileNotFoundError, match=r"videos and folders there: \['crossing.mp4'\]"):
        open_frames(tmp_path / "xyz.avi")
    with pytest.raises(FileNotFoundError, match=r"the folder nowhere does not exist in "):
        open_frames(tmp_path / "nowhere" / "deep" / "a.mp4")


def test_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match=r"no image in this folder \(expected files ending in"):
        open_frames(tmp_path)
    (tmp_path / "img").mkdir()
    write_image(tmp_path / "img" / "0001.jpg", 5)
    with pytest.raises(ValueError, match="did you mean its folder img"):
        open_frames(tmp_path)


def test_files_that_are_no_video(tmp_path):
    write_image(tmp_path / "a.png", 5)
    with pytest.raises(ValueError, match="a single image; name the folder"):
        open_frames(tmp_path / "a.png")
    for content in (b"", b"\x00\x01nothing" * 50):
        (tmp_path / "b.mp4").write_bytes(content)
        with pytest.raises(ValueError, match=r"b\.mp4: cannot be read as a video"):
            open_frames(tmp_path / "b.mp4")


def test_truncated_video_says_where_it_stops(tmp_path, caplog):
    path, rng = tmp_path / "a.avi", np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for _ in range(40):
            noise = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        count = len(list(open_frames(path)))
    assert 5 < count < 35
    assert f"a.avi: {count} frames read where the file announces 40" in caplog.text


class FakeCapture:
    def __init__(self, index):
        self.index, self.left = index, 2

    def isOpened(self):  # noqa: N802
        return self.index == 1

    def get(self, _):
        return 0.0  # what many cameras say

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((4, 4, 3), (255, 0, 0), dtype=np.uint8)  # BGR

    def release(self):
        self.index = None


def test_camera(monkeypatch, caplog):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    for source in (1, "1"):
        stream = open_frames(source)
        assert (stream.name, stream.fps, stream.length) == ("camera 1", 25, None)
        frames = list(stream)
        assert len(frames) == 2
        assert frames[0][0, 0].tolist() == [0, 0, 255]
    assert "camera 1: no more pictures" in caplog.text
    with pytest.raises(RuntimeError, match="camera 7: does not answer"):
        open_frames("7")


def test_folder_called_like_a_number_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "0").mkdir()
    write_image(tmp_path / "0" / "1.png", 5)
    monkeypatch.chdir(tmp_path)
    assert open_frames("0").length == 1
