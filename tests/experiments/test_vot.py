import cv2
import numpy as np
import pytest

from experiments.vot import in_process, serve


def test_the_shipped_tracker_runs_in_the_toolkit_s_process(tmp_path):
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, (80, 100, 3), np.uint8), (5, 5), 0)
    cv2.imwrite(str(tmp_path / "1.png"), image)
    tracker = in_process(device="cpu")
    box, _ = tracker.init(str(tmp_path / "1.png"), ((40.0, 30.0, 20.0, 18.0), {}))
    assert box == (40.0, 30.0, 20.0, 18.0)
    box, properties = tracker.update(str(tmp_path / "1.png"))
    # Nothing moved.
    assert np.allclose(box, (40, 30, 20, 18), atol=4)
    assert 0 <= properties["confidence"] <= 1


def test_errors_are_of_the_kind_that_the_toolkit_reports(tmp_path):
    with pytest.raises(RuntimeError, match=r"nowhere\.pt: no such file"):
        in_process(str(tmp_path / "nowhere.pt"))
    with pytest.raises(ValueError, match="ckpt: no such option; there are checkpoint, device"):
        serve({"ckpt": "x"})
