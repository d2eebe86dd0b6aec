import numpy as np
import pytest

from datamodules.benchmarks.otb_robustness import otb_spatial_robustness, otb_temporal_robustness
from datamodules.errors import DatasetError


@pytest.fixture
def root(make_sequence):
    """Images 247 to 306 of BlurCar1: 60 frames whose numbers do not begin at 1."""
    lines = "".join(f"{10 + t},12,10,20\n" for t in range(60))
    return make_sequence("BlurCar1", range(247, 307), {"groundtruth_rect.txt": lines})


def starts(benchmark):
    return [round(s.boxes_xyxy[0, 0]) - 9 for s in benchmark]


def test_segments_begin_where_the_toolkit_s_folder_allows(root, tmp_path):
    chosen = {"sequences": ["BlurCar1"]}
    free = otb_temporal_robustness(root, **chosen)
    assert free.name == "otb2015_tre"
    assert len(free) == 20
    assert starts(free)[0] == 0
    omit = tmp_path / "initOmit"
    omit.mkdir()
    # Numbers of images: 247 to 249 are the frames 0 to 2.
    (omit / "blurCar1.txt").write_text("247 249\n")
    bound = otb_temporal_robustness(root, **chosen, init_omit=omit)
    assert starts(bound)[0] == 3
    assert starts(bound)[-1] == starts(free)[-1] == 40
    with pytest.raises(DatasetError, match="expected the toolkit's folder initOmit"):
        otb_temporal_robustness(root, **chosen, init_omit=tmp_path / "nowhere")


def test_spatial_robustness_starts_beside_the_target(root):
    benchmark = otb_spatial_robustness(root, sequences=["BlurCar1"])
    assert (benchmark.name, len(benchmark)) == ("otb2015_sre", 12)
    left = next(s for s in benchmark if s.name == "BlurCar1_sre_left")
    # A tenth of the width of 10 px.
    assert np.allclose(left.start_xyxy - left.boxes_xyxy[0], [-1, 0, -1, 0])
