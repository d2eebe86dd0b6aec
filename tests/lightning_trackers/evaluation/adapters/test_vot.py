import importlib.util
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest

from datamodules.frames import read_frame
from lightning_trackers.evaluation.adapters.vot import InProcess, rectangle_xyxy, serve_trax
from lightning_trackers.evaluation.static import StaticTracker
from lightning_trackers.evaluation.tracker import Prediction

TRAX = importlib.util.find_spec("trax") is not None


class Drifter(StaticTracker):
    """Moves right by one px a frame."""

    def step(self, states, frames):
        for state in states:
            state += np.array([1, 0, 1, 0], np.float32)
        return [Prediction(state.copy(), 0.25) for state in states]


@pytest.fixture
def images(tmp_path):
    files = []
    for t in range(4):
        files.append(str(tmp_path / f"{t + 1:08d}.png"))
        cv2.imwrite(files[-1], np.full((40, 60, 3), t, np.uint8))
    return files


def test_a_region_becomes_the_smallest_rectangle_around_it():
    assert rectangle_xyxy((3.0, 4.0, 10.0, 20.0)).tolist() == [3, 4, 13, 24]
    # A diamond.
    points = [(5.0, 2.0), (8.0, 6.0), (5.0, 10.0), (2.0, 6.0)]
    assert rectangle_xyxy(points).tolist() == [2, 2, 8, 10]
    with pytest.raises(ValueError, match=r"got shape \(2,\); set convert = rectangle"):
        rectangle_xyxy((3.0, 4.0))


def test_the_in_process_protocol_answers_rectangles_and_confidence(images):
    tracker = InProcess(Drifter(), read_frame)
    assert tracker.multiobject is False
    first = tracker.init(images[0], ((3.0, 4.0, 10.0, 20.0), {}))
    assert first == ((3.0, 4.0, 10.0, 20.0), {"confidence": 1.0})
    assert tracker.update({"color": images[1]}) == ((4.0, 4.0, 10.0, 20.0), {"confidence": 0.25})
    # A new start forgets the first target.
    tracker.init(images[2], ([(5.0, 2.0), (8.0, 2.0), (8.0, 10.0), (5.0, 10.0)], {}))
    assert tracker.update(images[3])[0] == (6.0, 2.0, 3.0, 8.0)
    with pytest.raises(ValueError, match=r"expected a colour channel, got \['depth'\]"):
        tracker.update({"depth": images[3]})


@pytest.mark.skipif(TRAX, reason="vot-trax is installed")
def test_without_vot_trax_the_error_says_what_to_install():
    with pytest.raises(ImportError, match=r"pip install vot-trax \(see docs/adapters\.md\)"):
        serve_trax(StaticTracker(), read_frame, "static")


@pytest.mark.skipif(not TRAX, reason="vot-trax is not installed")
def test_a_trax_client_starts_updates_and_starts_again(images, tmp_path):
    server = tmp_path / "server.py"
    server.write_text(
        textwrap.dedent(
            """
            import numpy as np
            from datamodules.frames import read_frame
            from lightning_trackers.evaluation.adapters.vot import serve_trax
            from lightning_trackers.evaluation.static import StaticTracker
            from lightning_trackers.evaluation.tracker import Prediction

            class Drifter(StaticTracker):
                def step(self, states, frames):
                    for state in states:
                        state += np.array([1, 0, 1, 0], np.float32)
                    return [Prediction(state.copy(), 0.25) for state in states]

            serve_trax(Drifter(), read_frame, "drifter")
            """
        )
    )
    import trax
    from trax.client import Client

    process = subprocess.Popen(
        [sys.executable, str(server)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    try:
        client = Client(
            stream=(process.stdin.fileno(), process.stdout.fileno()), timeout=60, log=str
        )
        assert client.tracker_name == "drifter"

        def image(i):
            return {"color": trax.FileImage.create(images[i])}

        def bounds(answer):
            (region, properties), *_ = answer[0]
            return region.bounds(), properties.get("confidence")

        start = [(trax.Rectangle.create(3, 4, 10, 20), {})]
        assert bounds(client.initialize(image(0), start, {}))[0] == (3, 4, 10, 20)
        box, confidence = bounds(client.frame(image(1), {}, []))
        assert box == (4, 4, 10, 20)
        assert float(confidence) == 0.25
        # A polygon's bounding rectangle starts the second target.
        polygon = trax.Polygon.create([(5, 2), (8, 2), (8, 10), (5, 10)])
        client.initialize(image(2), [(polygon, {})], {})
        assert bounds(client.frame(image(3), {}, []))[0] == (6, 2, 3, 8)
        client.quit()
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()
