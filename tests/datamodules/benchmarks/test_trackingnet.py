import numpy as np
import pytest

from datamodules.benchmarks.trackingnet import trackingnet_benchmark
from datamodules.errors import DatasetError


@pytest.fixture
def make(tmp_path, paint):
    def write(name, numbers, text="10.5,20,30,40\n"):
        paint(tmp_path / "tn" / "TEST" / "frames" / name, numbers, "{:d}.jpg")
        (tmp_path / "tn" / "TEST" / "anno").mkdir(exist_ok=True)
        (tmp_path / "tn" / "TEST" / "anno" / f"{name}.txt").write_text(text)
        return tmp_path / "tn"

    return write


def test_frames_are_in_numeric_order_from_zero_and_boxes_are_not_shifted(make, shown):
    root = make("vid", range(12))
    (video,) = trackingnet_benchmark(root, sequences=["vid"])
    assert shown(video) == list(range(12))
    assert video.start_xyxy.tolist() == [10.5, 20, 40.5, 60]
    assert np.isnan(video.boxes_xyxy[1:]).all()
    assert not video.valid.any()


def test_all_511_are_there_or_the_missing_is_named(make, tmp_path):
    for i in range(511):
        root = make(f"v{i:03d}", [0])
    assert len(trackingnet_benchmark(root)) == 511
    (root / "TEST/frames/v007").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"frames: expected the 511 .* found 510; missing: v007"):
        trackingnet_benchmark(root)


def test_what_does_not_fit_is_named(make, tmp_path):
    with pytest.raises(DatasetError, match="tn: no such folder"):
        trackingnet_benchmark(tmp_path / "tn")
    root = make("vid", [1, 2, 3])
    with pytest.raises(DatasetError, match=r"0\.jpg: no such image; expected 0\.jpg to 2\.jpg"):
        trackingnet_benchmark(root, sequences=["vid"])
    with pytest.raises(DatasetError, match=r"expected the 511 sequences of .* found 1"):
        trackingnet_benchmark(root)
    make("train", [0, 1], "1,2,3,4\n5,6,7,8\n")
    with pytest.raises(DatasetError, match=r"expected the first box alone, .* got 2 lines"):
        trackingnet_benchmark(root, sequences=["train"])
