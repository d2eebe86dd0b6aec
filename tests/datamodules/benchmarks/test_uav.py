import numpy as np
import pytest

from datamodules.benchmarks.uav import SEGMENTS, VERSIONS, uav_benchmark
from datamodules.errors import DatasetError


@pytest.fixture
def make(tmp_path, paint):
    """Writes the images of a folder and the annotation of one of its sequences."""

    def write(name, folder, numbers, count, version="UAV123", images="UAV123", lines=None):
        paint(tmp_path / "data_seq" / images / folder, numbers, "{:06d}.jpg")
        annotations = tmp_path / "anno" / version
        annotations.mkdir(parents=True, exist_ok=True)
        (annotations / f"{name}.txt").write_text(lines or "10,20,30,40\n" * count)
        return tmp_path

    return write


def test_lists_and_segments_are_the_benchmark_s():
    assert {v: len(names) for v, names in VERSIONS.items()} == {
        "UAV123": 123,
        "UAV123_10fps": 123,
        "UAV20L": 20,
    }
    assert len(SEGMENTS) == 51
    # Sequences that share a border frame, and one after a gap.
    assert SEGMENTS["car6_4"] == ("car6", 2953, 3925)
    assert SEGMENTS["uav1_3"] == ("uav1", 2473, 3469)
    assert "person1" in VERSIONS["UAV123"]
    assert "car6" not in VERSIONS["UAV123"]
    assert "car6" in VERSIONS["UAV20L"]


def test_a_part_of_a_folder_is_read_by_its_numbers(make):
    root = make("car16_1", "car16", [1, 415], 415)
    make("wakeboard1", "wakeboard1", [1, 2], 2)
    cut, whole = uav_benchmark(root, sequences=["car16_1", "wakeboard1"])
    names = [p.name for p in cut.frames.paths]
    assert (names[0], names[-1], len(cut)) == ("000001.jpg", "000415.jpg", 415)
    assert [p.parent.name for p in whole.frames.paths] == ["wakeboard1"] * 2
    assert whole.boxes_xyxy[0].tolist() == [9, 19, 39, 59]


def test_ten_frames_a_second_are_every_third_image(make):
    # bird1_2 is 775 to 1477: images 1, 4, 7, ... were kept, so 775 became number 259, 1477 493.
    root = make("bird1_2", "bird1", [259, 493], 235, "UAV123_10fps", "UAV123_10fps")
    (sequence,) = uav_benchmark(root, "UAV123_10fps", sequences=["bird1_2"])
    assert sequence.frames.numbers == range(259, 494)


def test_uav20l_takes_folders_whole(make):
    root = make("bird1", "bird1", range(1, 6), 5, version="UAV20L")
    benchmark = uav_benchmark(root, "UAV20L", sequences=["bird1"])
    assert benchmark.name == "uav20l"
    assert len(benchmark.sequences[0]) == 5


def test_nan_is_absent_and_attributes_are_flags(make):
    lines = "10,20,30,40\nNaN,NaN,NaN,NaN\n0,20,30,40\n"
    root = make("boat1", "boat1", range(1, 4), 3, lines=lines)
    (root / "anno/UAV123/att").mkdir()
    (root / "anno/UAV123/att/boat1.txt").write_text("1,0,1,0,0,0,0,0,0,0,0,1\n")
    (sequence,) = uav_benchmark(root, sequences=["boat1"])
    assert sequence.absent.tolist() == [False, True, False]
    assert sequence.valid.tolist() == [True, False, False]
    assert np.isnan(sequence.boxes_xyxy[1]).all()
    assert sequence.attributes == {"SV", "LR", "SOB"}
    (root / "anno/UAV123/att/boat1.txt").write_text("1,0,1\n")
    with pytest.raises(DatasetError, match=r"boat1\.txt: expected 12 flags for SV ARC .* got 3"):
        uav_benchmark(root, sequences=["boat1"])


def test_what_is_missing_is_named(make, tmp_path):
    with pytest.raises(DatasetError, match="anno: no such folder"):
        uav_benchmark(tmp_path)
    root = make("boat1", "boat1", range(1, 4), 3)
    with pytest.raises(
        DatasetError, match=r"123 sequences of UAV123, found 1; missing: bike1, bik"
    ):
        uav_benchmark(root)
    make("boat2", "boat2", range(1, 4), 4)
    with pytest.raises(DatasetError, match=r"000004\.jpg: no such image; .* holds 3 images"):
        uav_benchmark(root, sequences=["boat2"])
    make("uav1_3", "uav1", [2473, 3469], 5)
    with pytest.raises(DatasetError, match=r"uav1_3: .* 997 images in .* and 5 lines in"):
        uav_benchmark(root, sequences=["uav1_3"])
    with pytest.raises(ValueError, match=r"version: expected one of UAV123, .* got 'uav'"):
        uav_benchmark(root, "uav")
