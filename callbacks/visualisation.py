"""Boxes drawn on frames, and H.264 clips that any browser plays."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np

from lightning_trackers.files import atomic_file

# Okabe and Ito's colours: told apart by colour-blind readers too. RGB.
PALETTE = (
    (0, 158, 115),
    (230, 159, 0),
    (86, 180, 233),
    (213, 94, 0),
    (204, 121, 167),
    (240, 228, 66),
)
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class DrawnBox:
    """A box to draw.

    Args:
        box_xyxy: Box, frame px, ``(4,)``; one that is not finite is not drawn.
        label: Text at its upper edge; none if empty.
        colour: RGB.
    """

    box_xyxy: np.ndarray
    label: str = ""
    colour: tuple[int, int, int] = PALETTE[0]


def draw_boxes(frame: np.ndarray, boxes: Iterable[DrawnBox], caption: str = "") -> np.ndarray:
    """Return a copy of the frame with the boxes and a caption in its lower left corner.

    Lines and letters grow with the frame, so that they are legible in 160 × 120 and in 4K.

    Args:
        frame: Frame, uint8 RGB ``(H, W, 3)``.
        boxes: Boxes, drawn in order.
        caption: Text; none if empty.
    """
    canvas = np.ascontiguousarray(frame).copy()
    thickness = max(1, round(min(canvas.shape[:2]) / 150))
    labels = []
    for drawn in boxes:
        box = np.asarray(drawn.box_xyxy, dtype=np.float64)
        if not np.isfinite(box).all():
            continue
        # Continuous edges to pixel indices; far outside, OpenCV's integers would overflow.
        limit = 4 * max(canvas.shape[:2])
        x1, y1, x2, y2 = (int(v) for v in np.rint(box - [0, 0, 1, 1]).clip(-limit, limit))
        for colour, width in (((0, 0, 0), thickness + 2), (drawn.colour, thickness)):
            # The dark rim keeps the box visible on a background of its own colour.
            cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, width)
        if drawn.label:
            labels.append((drawn.label, x1, y1 - 2 * thickness, drawn.colour))
    for label in labels:  # over all boxes
        _text(canvas, *label)
    if caption:
        _text(canvas, caption, 2 * thickness, canvas.shape[0] - 2 * thickness, (0, 0, 0))
    return canvas


class ClipWriter:
    """Writes frames as an H.264 mp4 (yuv420p), the one format that every browser plays.

    The file appears under its name when the ``with`` block ends, also when Ctrl-C ends it, as the
    frames written so far are a valid clip. Another error, or no frame at all, leaves nothing behind.

    Args:
        path: The mp4 file; its folder is made.
        fps: Frames per second.
        max_width: Wider frames are scaled down to this, px.
        crf: Constant rate factor of x264: 23 looks like the source, 30 is small.
    """

    def __init__(
        self, path: str | Path, fps: float = 25.0, *, max_width: int | None = None, crf: int = 23
    ) -> None:
        if not 0 < fps < 1000:
            raise ValueError(f"clip {path}: expected frames per second in (0, 1000), got {fps}")
        self.path = Path(path)
        self.frames = 0
        self._rate = Fraction(fps).limit_denominator(1001)
        self._max_width, self._crf = max_width, crf
        self._file: AbstractContextManager[Path] | None = None
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._size_wh = (0, 0)

    def __enter__(self) -> "ClipWriter":
        """Return itself; the file is opened by the first frame, which says the size."""
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file and give it its name, or remove it after an error."""
        if self._container is None or self._stream is None or self._file is None:
            return
        container, stream, file = self._container, self._stream, self._file
        self._container = self._stream = self._file = None
        keep = error_type is None or issubclass(error_type, KeyboardInterrupt)
        try:
            if keep:
                container.mux(stream.encode(None))
            container.close()
        except OSError as failure:  # the disk is full: remove the file, say so
            file.__exit__(type(failure), failure, failure.__traceback__)
            raise
        if keep:
            file.__exit__(None, None, None)
        else:
            file.__exit__(error_type, error, trace)

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 RGB ``(H, W, 3)``; one of another size is scaled to the first's."""
        if self._container is None or self._stream is None:
            self._open(frame)
        assert self._container is not None
        assert self._stream is not None
        picture = av.VideoFrame.from_ndarray(self._fitted(frame), format="rgb24")
        picture.pts = self.frames
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def _open(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        if self._max_width is not None and width > self._max_width:
            height, width = round(height * self._max_width / width), self._max_width
        # The encoder halves the colour planes, hence even sizes of at least two.
        self._size_wh = (width + width % 2, max(2, height + height % 2))
        self._file = atomic_file(self.path)
        self._container = av.open(str(self._file.__enter__()), "w", format="mp4")
        self._stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"crf": str(self._crf), "preset": "veryfast"}
        )
        self._stream.width, self._stream.height = self._size_wh
        self._stream.pix_fmt = "yuv420p"

    def _fitted(self, frame: np.ndarray) -> np.ndarray:
        width, height = self._size_wh
        missing_y, missing_x = height - frame.shape[0], width - frame.shape[1]
        if (missing_x, missing_y) == (0, 0):
            return np.ascontiguousarray(frame)
        if missing_x in (0, 1) and missing_y in (0, 1):  # odd: repeat the last row or column
            return np.asarray(
                cv2.copyMakeBorder(frame, 0, missing_y, 0, missing_x, cv2.BORDER_REPLICATE)
            )
        return np.asarray(cv2.resize(frame, self._size_wh, interpolation=cv2.INTER_AREA))


def write_clip(
    path: str | Path,
    frames: Sequence[np.ndarray],
    boxes_xyxy: dict[str, np.ndarray],
    *,
    target_boxes_xyxy: np.ndarray | None = None,
    title: str = "",
    max_frames: int = 150,
    fps: float = 25.0,
    max_width: int = 480,
) -> Path:
    """Write a small annotated clip of one sequence and return its path.

    Args:
        path: The mp4 file.
        frames: Frames of the sequence; read one at a time.
        boxes_xyxy: Boxes by tracker name, each ``(T, 4)``, frame px.
        target_boxes_xyxy: Ground truth ``(T, 4)``, drawn in white; a row of NaN draws nothing.
        title: Written in a corner, beside the frame number.
        max_frames: Length of the clip, frames.
        fps: Frames per second.
        max_width: Width of the clip, px.
    """
    with ClipWriter(path, fps, max_width=max_width, crf=28) as clip:
        for t in range(min(len(frames), max_frames)):
            frame = frames[t]
            # Drawn after scaling, or the lines of a large frame would fade.
            scale = min(1.0, max_width / frame.shape[1])
            if scale < 1:
                size_wh = (max_width, max(1, round(frame.shape[0] * scale)))
                frame = np.asarray(cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA))
            drawn = []
            if target_boxes_xyxy is not None:
                drawn.append(DrawnBox(target_boxes_xyxy[t] * scale, colour=WHITE))
            for index, (name, boxes) in enumerate(boxes_xyxy.items()):
                colour = PALETTE[index % len(PALETTE)]
                drawn.append(DrawnBox(boxes[t] * scale, name, colour))
            clip.write(draw_boxes(frame, drawn, f"{title} {t + 1}/{len(frames)}"))
    return Path(path)


def _text(canvas: np.ndarray, text: str, x: int, y: int, plate: tuple[int, int, int]) -> None:
    """Write text with its lower left corner at (x, y), moved into the canvas, on a plate."""
    height, width = canvas.shape[:2]
    scale = max(0.35, min(height, width) / 900)
    thickness = max(1, round(scale * 1.5))
    font = cv2.FONT_HERSHEY_SIMPLEX
    (text_width, text_height), below = cv2.getTextSize(text, font, scale, thickness)
    x = max(0, min(x, width - text_width))
    y = max(text_height, min(y, height - below))
    canvas[max(0, y - text_height - 2) : y + below, x : x + text_width] = plate
    ink = (0, 0, 0) if sum(plate) > 300 else WHITE
    cv2.putText(canvas, text, (x, y), font, scale, ink, thickness, cv2.LINE_AA)
