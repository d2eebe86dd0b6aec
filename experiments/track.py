"""Follow one target in a video file, an image folder or a camera: boxes as text, annotated video.

python -m experiments.track video=clip.mp4 box=10,20,64,48
"""

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import cv2
import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from callbacks.progress import FrameProgress
from callbacks.visualisation import PALETTE, ClipWriter, DrawnBox, draw_boxes
from experiments.config import chosen_device, run_checked
from experiments.settings import given_settings
from experiments.video import FrameStream, open_frames
from lightning_trackers.boxes import xywh_to_xyxy, xyxy_to_xywh
from lightning_trackers.evaluation.tracker import (
    LiveTracker,
    Prediction,
    Tracker,
    checked_start_box,
)
from lightning_trackers.methods.loading import SHIPPED, load_tracker, read_recipe

log = logging.getLogger(__name__)

BOX_HELP = (
    "expected box=x,y,w,h, the target in the first frame in px from the upper left corner "
    "(e.g. box=10,20,64,48), or box=select to draw it with the mouse"
)


def track(
    tracker: Tracker[Any],
    stream: FrameStream,
    box_xyxy: np.ndarray | None,
    out: str | Path,
    *,
    max_frames: int | None = None,
    show: bool = False,
) -> int:
    """Follow a target and write ``boxes.txt``, ``times.txt`` and ``annotated.mp4``.

    Each line of ``boxes.txt`` is ``x,y,w,h`` in px, 0-based, and of ``times.txt`` the tracker's
    time in s; the first line belongs to the given box. Both grow frame by frame. Ctrl-C stops, and
    what was tracked until then is kept, the video included.

    Args:
        tracker: Any tracker.
        stream: The frames.
        box_xyxy: The target in the first frame, ``(4,)``, px; None asks for it with the mouse.
        out: Folder for the three files.
        max_frames: Stop after so many frames.
        show: Show the frames in a window as well.

    Returns:
        How many frames were tracked.

    Raises:
        ValueError: If the stream is empty or the tracker cannot start from the box.
        RuntimeError: If a window is asked for and there is no display.
    """
    if show or box_xyxy is None:
        check_display()
    frames = islice(stream, max_frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{stream.name}: expected at least one frame, got none")
    if box_xyxy is None:
        box_xyxy = selected_box(first)
    checked_start_box(box_xyxy, (first.shape[0], first.shape[1]))  # before any file is made
    total = stream.length if max_frames is None else min(max_frames, stream.length or max_frames)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    count, spent_s = 0, 0.0
    with (
        (out / "boxes.txt").open("w", encoding="utf-8", buffering=1) as boxes_file,
        (out / "times.txt").open("w", encoding="utf-8", buffering=1) as times_file,
        ClipWriter(out / "annotated.mp4", stream.fps) as clip,
        FrameProgress(stream.name, total) as progress,
        _BetweenFrames() as interrupt,
    ):
        try:
            for frame, prediction, time_s in _predictions(
                tracker, chain([first], frames), box_xyxy
            ):
                x, y, w, h = xyxy_to_xywh(np.asarray(prediction.box_xyxy, dtype=np.float64))
                boxes_file.write(f"{x:.3f},{y:.3f},{w:.3f},{h:.3f}\n")
                times_file.write(f"{time_s:.6f}\n")
                label = f"{100 * prediction.score:.0f} %"
                picture = draw_boxes(
                    frame,
                    [DrawnBox(prediction.box_xyxy, label, PALETTE[0])],
                    caption=str(count + 1) if total is None else f"{count + 1}/{total}",
                )
                clip.write(picture)
                progress.advance()
                spent_s += time_s if count else 0.0
                count += 1
                interrupt.check()
                if show and not _shown(picture):
                    break
        except KeyboardInterrupt:
            log.info("interrupted; the first %d frames are kept", count)
    if show:
        cv2.destroyAllWindows()
    rate = f", {(count - 1) / spent_s:.1f} frames/s in the tracker" if spent_s else ""
    log.info("%s: %d frames tracked%s; results in %s", stream.name, count, rate, out)
    return count


class _BetweenFrames:
    """Holds Ctrl-C back until a frame is written to all files; a second Ctrl-C acts at once."""

    def __init__(self) -> None:
        self._asked = False
        self._previous: Any = None

    def __enter__(self) -> "_BetweenFrames":
        if threading.current_thread() is threading.main_thread():  # others get no signals
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def check(self) -> None:
        """Act on a Ctrl-C that came meanwhile.

        Raises:
            KeyboardInterrupt: If one came.
        """
        if self._asked:
            raise KeyboardInterrupt

    def _note(self, *_: object) -> None:
        self.check()
        self._asked = True


def _predictions(
    tracker: Tracker[Any], frames: Iterable[np.ndarray], box_xyxy: np.ndarray
) -> Iterator[tuple[np.ndarray, Prediction, float]]:
    """Yield each frame with its prediction and the time it took, s; the first is the given box."""
    live = LiveTracker(tracker)
    for index, frame in enumerate(frames):
        clock_start = time.perf_counter()
        if index == 0:
            live.init(frame, box_xyxy)
            prediction = Prediction(box_xyxy, 1.0)
        else:
            prediction = live.update(frame)
        yield frame, prediction, time.perf_counter() - clock_start


def parsed_box(value: Any) -> np.ndarray | None:
    """Return the box xyxy of the ``box`` key, float64 ``(4,)``; None for ``select``.

    Raises:
        ValueError: If it is not four numbers, or has no area.
    """
    if isinstance(value, str):
        if value.strip() == "select":
            return None
        value = re.split(r"[,;\s]+", value.strip().strip("[]()"))
    try:
        box_xywh = np.array([float(v) for v in value], dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"box: {BOX_HELP}; got {value}") from None
    if box_xywh.shape != (4,) or not np.isfinite(box_xywh).all():
        raise ValueError(f"box: {BOX_HELP}; got {value}")
    if (box_xywh[2:] <= 0).any():
        raise ValueError(f"box: expected a positive width and height (x,y,w,h), got {value}")
    return np.asarray(xywh_to_xyxy(box_xywh))


def check_display() -> None:
    """Check that a window can be opened; without this check OpenCV ends the whole process.

    Raises:
        RuntimeError: If there is no display, or OpenCV was built without windows.
    """
    remedy = "give the box as box=x,y,w,h and leave show=false; annotated.mp4 shows the result"
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise RuntimeError(f"box=select and show=true need a display, and there is none: {remedy}")
    if "GUI:                           NONE" in cv2.getBuildInformation():
        raise RuntimeError(f"this OpenCV (headless) cannot open windows: {remedy}")


def selected_box(frame: np.ndarray) -> np.ndarray:
    """Let the user draw a box and return it xyxy, float64 ``(4,)``.

    Raises:
        ValueError: If the selection was cancelled.
    """
    title = "Draw the target, then press Enter"
    box_xywh = cv2.selectROI(title, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), showCrosshair=False)
    cv2.destroyWindow(title)
    if box_xywh[2] <= 0 or box_xywh[3] <= 0:
        raise ValueError("box=select: no box was drawn")
    return np.asarray(xywh_to_xyxy(np.array(box_xywh, dtype=np.float64)))


def _shown(picture: np.ndarray) -> bool:
    """Show a frame; return False when the user pressed q."""
    cv2.imshow("tracking (q stops)", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return (cv2.waitKey(1) & 0xFF) != ord("q")


def friendly_argument(argument: str) -> str:
    """Return a command-line argument as Hydra's grammar needs it.

    To Hydra ``box=1,2,3,4`` is a sweep over four values, and a blank or bracket in a path an error.
    """
    key, equals, value = argument.partition("=")
    if not equals or not value or value == "null" or value[0] in "'\"[":
        return argument
    if key == "box" and "," in value:
        return f"box=[{value}]"
    if key in ("video", "checkpoint", "out"):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"{key}='{escaped}'"
    return argument


def run(config: DictConfig) -> int:
    """Track what the configuration says; return the number of frames."""
    missing = [key for key in ("video", "box") if OmegaConf.is_missing(config, key)]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)}: not given. Usage: python -m experiments.track "
            "video=clip.mp4 box=x,y,w,h [checkpoint=run/checkpoints/last.ckpt] [out=folder]"
        )
    box = config.box
    box_xyxy = parsed_box(list(box) if isinstance(box, ListConfig) else box)
    stream = open_frames(config.video)
    checkpoint = None if config.checkpoint is None else Path(config.checkpoint)
    if HydraConfig.get().runtime.choices.get("exp") is not None:
        check_method(checkpoint or SHIPPED, config)
    settings = given_settings(config.settings)
    tracker = load_tracker(checkpoint, settings, chosen_device(config.device), config.runtime)
    return track(
        tracker, stream, box_xyxy, config.out, max_frames=config.max_frames, show=config.show
    )


def check_method(checkpoint: Path, config: DictConfig) -> None:
    """Check that a checkpoint is of the method that ``+exp=`` names.

    Its constants are the checkpoint's own, as they belong to its weights.

    Raises:
        ValueError: If it is of another one.
    """
    found = read_recipe(checkpoint, config.runtime)["tracker"]["_target_"]
    expected = config.module.tracker._target_
    if found != expected:
        raise ValueError(
            f"checkpoint {checkpoint}: holds a {found.rpartition('.')[2]}, but exp="
            f"{config.exp_name} describes a {expected.rpartition('.')[2]}; leave +exp= out, or name "
            "another checkpoint"
        )


@hydra.main(version_base="1.3", config_path="conf", config_name="track")
def _hydra_main(config: DictConfig) -> None:
    try:
        run(config)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error


def main() -> None:
    """Run from the command line."""
    sys.argv[1:] = [friendly_argument(argument) for argument in sys.argv[1:]]
    run_checked(_hydra_main)


if __name__ == "__main__":
    main()
