import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from experiments import track as track_module
from experiments.track import (
    check_display,
    friendly_argument,
    parsed_box,
    track,
)
from experiments.video import FrameStream, open_frames
from lightning_trackers.evaluation.tracker import Prediction

CONF = Path(__file__).parents[2] / "experiments" / "conf"
BOX = np.array([4.0, 6.0, 14.0, 16.0])


class Drifting:
    """Moves its box by one px to the right in each frame."""

    def start(self, frame, box_xyxy):
        return {"box": box_xyxy}

    def step(self, states, frames):
        for state in states:
            state["box"] = state["box"] + np.array([1, 0, 1, 0], dtype=np.float32)
        return [Prediction(state["box"], 0.25) for state in states]


def stream(count=5, fail_at=None, error=KeyboardInterrupt):
    def read():
        for t in range(count):
            if t == fail_at:
                raise error
            yield np.full((40, 60, 3), 90, dtype=np.uint8)

    return FrameStream("drawn", 10.0, count, read)


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def frames_in(path):
    with av.open(str(path)) as container:
        return len(list(container.decode(video=0)))


def test_writes_boxes_times_and_video(tmp_path):
    assert track(Drifting(), stream(), BOX, tmp_path) == 5
    assert lines(tmp_path / "boxes.txt")[:3] == [
        "4.000,6.000,10.000,10.000",  # x,y,w,h: the given box
        "5.000,6.000,10.000,10.000",
        "6.000,6.000,10.000,10.000",
    ]
    times = [float(line) for line in lines(tmp_path / "times.txt")]
    assert len(times) == len(lines(tmp_path / "boxes.txt")) == 5
    assert all(0 <= t < 1 for t in times)
    with av.open(str(tmp_path / "annotated.mp4")) as container:
        assert container.streams.video[0].average_rate == 10
        pictures = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)]
    assert len(pictures) == 5
    red, green, blue = pictures[4][11, 8]  # the left edge after four steps
    assert green > red + 40
    assert green > blue


def test_stops_after_max_frames(tmp_path):
    assert track(Drifting(), stream(5), BOX, tmp_path, max_frames=3) == 3
    assert frames_in(tmp_path / "annotated.mp4") == 3


def test_interruption_keeps_what_was_written(tmp_path, caplog):
    caplog.set_level("INFO")
    assert track(Drifting(), stream(5, fail_at=3), BOX, tmp_path) == 3
    assert len(lines(tmp_path / "boxes.txt")) == len(lines(tmp_path / "times.txt")) == 3
    assert frames_in(tmp_path / "annotated.mp4") == 3
    assert "interrupted; the first 3 frames are kept" in caplog.text


def test_error_of_a_frame_keeps_the_boxes(tmp_path):
    with pytest.raises(OSError, match="unreadable"):
        track(Drifting(), stream(5, fail_at=2, error=OSError("unreadable")), BOX, tmp_path)
    assert len(lines(tmp_path / "boxes.txt")) == 2


def test_bad_start_leaves_no_files(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"box that touches the frame of 60 × 40 px"):
        track(Drifting(), stream(), BOX + 100, out)
    with pytest.raises(ValueError, match="drawn: expected at least one frame, got none"):
        track(Drifting(), stream(0), BOX, out)
    assert not out.exists()


def test_live_selection(tmp_path, monkeypatch):
    monkeypatch.setattr(track_module, "check_display", lambda: None)
    monkeypatch.setattr(cv2, "destroyWindow", lambda title: None)
    monkeypatch.setattr(cv2, "selectROI", lambda *a, **k: (4, 6, 10, 10))
    track(Drifting(), stream(), None, tmp_path, max_frames=1)
    assert lines(tmp_path / "boxes.txt") == ["4.000,6.000,10.000,10.000"]
    monkeypatch.setattr(cv2, "selectROI", lambda *a, **k: (0, 0, 0, 0))
    with pytest.raises(ValueError, match="no box was drawn"):
        track(Drifting(), stream(), None, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_no_display_is_said_before_anything_else(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(RuntimeError, match="need a display, and there is none"):
        check_display()
    for box, show in ((None, False), (BOX, True)):
        with pytest.raises(RuntimeError, match="give the box as box=x,y,w,h"):
            track(Drifting(), stream(), box, tmp_path / "out", show=show)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["4,6,10,10", "4 6 10 10", [4, 6, 10, 10], "[4, 6,10,10]"])
def test_box_spellings(value):
    assert parsed_box(value).tolist() == BOX.tolist()


def test_box_select():
    assert parsed_box("select") is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1,2,3", "expected box=x,y,w,h"),
        ("1,2,3,x", "expected box=x,y,w,h"),
        (None, "expected box=x,y,w,h"),
        (7, "expected box=x,y,w,h"),
        ([1, 2, 3, float("nan")], "expected box=x,y,w,h"),
        ("1,2,0,5", "positive width and height"),
    ],
)
def test_bad_boxes(value, message):
    with pytest.raises(ValueError, match=message):
        parsed_box(value)


@pytest.mark.parametrize(
    ("key", "value", "typed"),
    [
        ("box", [1, 2.5, 3, 4], "box=1,2.5,3,4"),
        ("box", [1, 2, 3, 4], "box=[1,2,3,4]"),
        ("box", "select", "box=select"),
        ("video", "/a b/clip (1).mp4", "video=/a b/clip (1).mp4"),
        ("video", "it's, odd=yes.mp4", "video=it's, odd=yes.mp4"),
        ("video", "a,b.mp4", 'video="a,b.mp4"'),
        ("video", "0", "video=0"),
        ("checkpoint", None, "checkpoint=null"),
        ("checkpoint", "/runs/epoch=3.ckpt", "checkpoint=/runs/epoch=3.ckpt"),
        ("max_frames", 7, "max_frames=7"),
    ],
)
def test_arguments_as_people_type_them(key, value, typed):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("track", overrides=[friendly_argument(typed)])
    assert config[key] == value


@pytest.mark.parametrize("exp", sorted(f.stem for f in (CONF / "exp").glob("*.yaml")))
def test_every_exp_composes(exp):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("track", overrides=[f"+exp={exp}", "video=a.mp4", "box=select"])
    assert config.module.tracker._target_.startswith("lightning_trackers.methods.")


# --- the command itself --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained SiamRPN with its recipe, as a training would save it."""
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    import experiments.config  # noqa: F401  # registers the resolvers of conf/

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("track", overrides=["+exp=siamrpn_sl"])
    torch.manual_seed(0)
    module = instantiate(config.module)
    described = OmegaConf.to_container(config.module, resolve=True)
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    recipe = {part: described[part] for part in ("network", "tracker")}
    torch.save({"recipe": recipe, "state_dict": module.state_dict()}, path)
    return path


def command(*arguments):
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.track", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=CONF.parents[1],
        env=environment,
    )


@pytest.fixture
def folder(tmp_path):
    """Images of a moving square, enough for an interruption to come in time."""
    images = tmp_path / "my (odd) images"
    images.mkdir()
    for t in range(3000):
        if t < 20:
            picture = np.full((60, 80, 3), 90, dtype=np.uint8)
            picture[20:40, 10 + t : 30 + t] = (60, 60, 200)
            cv2.imwrite(str(images / f"{t}.png"), picture)
        else:
            (images / f"{t}.png").symlink_to(images / "19.png")
    return images


def test_command_tracks_and_survives_ctrl_c(tmp_path, folder, checkpoint):
    out = tmp_path / "out"
    process = command(
        f"video={folder}", "box=10,20,20,20", f"checkpoint={checkpoint}", f"out={out}"
    )
    deadline = time.monotonic() + 240
    while not (out / "boxes.txt").exists() or len(lines(out / "boxes.txt")) < 5:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    count = len(lines(out / "boxes.txt"))
    assert 5 <= count < 3000
    assert f"interrupted; the first {count} frames are kept" in output
    assert frames_in(out / "annotated.mp4") == count
    assert len(list(open_frames(out / "annotated.mp4"))) == count


def test_command_says_in_one_line_what_is_wrong(tmp_path):
    (tmp_path / "crossing.mp4").write_bytes(b"")
    process = command(f"video={tmp_path}/crosing.mp4", "box=1,2,3,4", f"out={tmp_path / 'out'}")
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert output.startswith("error: ")
    assert "did you mean" in output
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "message"), [("box=1,2,3,4", "^video: not given"), ("video=a.mp4", "^box: not given")]
)
def test_missing_keys_show_the_usage(given, message):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("track", overrides=[friendly_argument(given)])
    with pytest.raises(ValueError, match=message + r"\. Usage: python -m experiments\.track"):
        track_module.run(config)
