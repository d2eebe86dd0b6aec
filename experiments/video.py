"""Frames from a video file, a folder of images or a camera."""

import difflib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from datamodules.frames import IMAGE_SUFFIXES, image_files, read_frame

log = logging.getLogger(__name__)

DEFAULT_FPS = 25.0
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".gif"})


@dataclass(frozen=True)
class FrameStream:
    """Frames that can be gone through, again from the start each time (a camera: from now on).

    Args:
        name: What to call it in messages and titles.
        fps: Frames per second.
        length: Number of frames, where it is known before reading them.
        read: Returns an iterator over frames, uint8 RGB ``(H, W, 3)``.
    """

    name: str
    fps: float
    length: int | None
    read: Callable[[], Iterator[np.ndarray]]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Read the frames in order."""
        return self.read()


def open_frames(source: str | Path | int) -> FrameStream:
    """Return the frames of a video file, an image folder, or a camera.

    Args:
        source: Path of a video or folder; a number, also as text, is a camera's index. A file that
            is called like a number comes first.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If it holds no frame that can be read.
        RuntimeError: If the camera does not answer.
    """
    if isinstance(source, int) or (str(source).isdecimal() and not Path(source).exists()):
        return _camera(int(str(source)))
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    raise FileNotFoundError(_missing(path))


def _missing(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        while not parent.is_dir():
            path, parent = parent, parent.parent
        return f"video {path}: the folder {path.name} does not exist in {parent.resolve()}"
    names = [f.name for f in parent.iterdir() if f.is_dir() or f.suffix.lower() in VIDEO_SUFFIXES]
    near = difflib.get_close_matches(path.name, names, n=1)
    advice = (
        f"did you mean {parent / near[0]}?" if near else f"videos and folders there: {names[:10]}"
    )
    return f"video {path}: no such file or folder; {advice}"


def _folder(path: Path) -> FrameStream:
    files = image_files(path)
    if not files:
        inside = [f.name for f in sorted(path.iterdir()) if f.is_dir() and any(image_files(f))]
        advice = f"; did you mean its folder {inside[0]}?" if inside else ""
        raise ValueError(
            f"{path}: no image in this folder (expected files ending in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}){advice}"
        )
    return FrameStream(path.name, DEFAULT_FPS, len(files), lambda: (read_frame(f) for f in files))


def _file(path: Path) -> FrameStream:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise ValueError(f"{path}: a single image; name the folder that holds the frames")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path}: the file holds no video stream")
            stream = container.streams.video[0]
            fps = float(stream.average_rate or DEFAULT_FPS)
            length = stream.frames or None
            if length is None and container.duration:
                length = round(container.duration / av.time_base * fps) or None
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{path}: cannot be read as a video ({error.strerror}); expected a file that ffmpeg "
            "reads, e.g. mp4, avi, mkv, webm"
        ) from error
    return FrameStream(path.name, fps, length, lambda: _decoded(path))


def _decoded(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video file; a damaged one ends early, with a warning."""
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                picture = frame.to_ndarray(format="rgb24")
                # Telephones store upright videos lying down, with a note to turn them.
                yield np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))
                count += 1
        except av.error.FFmpegError as error:
            if count == 0:
                raise ValueError(f"{path}: no frame can be decoded ({error.strerror})") from error
            log.warning("%s: damaged after frame %d (%s)", path, count, error.strerror)
        announced = stream.frames
    if count == 0:
        raise ValueError(f"{path}: the video holds no frame")
    if count < announced:
        log.warning("%s: %d frames read where the file announces %d", path, count, announced)


def _camera(index: int) -> FrameStream:
    def frames() -> Iterator[np.ndarray]:
        capture = _opened_camera(index)
        try:
            while True:
                ok, picture = capture.read()
                if not ok:
                    log.warning("camera %d: no more pictures", index)
                    return
                yield np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        finally:
            capture.release()

    capture = _opened_camera(index)
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return FrameStream(f"camera {index}", fps if 0 < fps < 1000 else DEFAULT_FPS, None, frames)


def _opened_camera(index: int) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        raise RuntimeError(
            f"camera {index}: does not answer; is it plugged in, is it used by another program, "
            "may you read it (Linux: group 'video', /dev/video*)? A file or folder is named by "
            "its path"
        )
    return capture
