import numpy as np
import pytest

from datamodules.benchmarks.got10k import got10k_benchmark
from datamodules.errors import DatasetError


@pytest.fixture
def make(tmp_path, clone):
    def write(subset, index, count=4, lines=None):
        name = f"GOT-10k_{subset.capitalize()}_{index:06d}"
        folder = tmp_path / "got" / subset / name
        clone(folder, [f"{t + 1:08d}.jpg" for t in range(count)])
        lines = lines or ["10.0000,20.0000,30.5000,40.0000"] * (count if subset == "val" else 1)
        (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
        if subset == "val":
            (folder / "cover.label").write_text("\n".join(["8", "0", "3", "8"][:count]))
            (folder / "absence.label").write_text("\n".join(["0", "1", "0", "0"][:count]))
            (folder / "cut_by_image.label").write_text("\n".join(["0", "0", "0", "1"][:count]))
            (folder / "meta_info.ini").write_text(
                "[METAINFO]\nurl: https://example.org\nanno_fps: 10Hz\nobject_class: jet plane\n"
                "resolution: (32, 24)\n"
            )
        with (folder.parent / "list.txt").open("a") as file:
            file.write(name + "\n")
        return tmp_path / "got"

    return write


def test_cover_says_what_counts(make):
    root = make("val", 1)
    (sequence,) = got10k_benchmark(root, sequences=["GOT-10k_Val_000001"])
    assert sequence.valid.tolist() == [True, False, True, True]
    assert sequence.absent.tolist() == [False, True, False, False]
    assert sequence.frame_attributes["occluded"].tolist() == [False, True, True, False]
    assert sequence.frame_attributes["cut_by_image"].tolist() == [False, False, False, True]
    assert sequence.attributes == {"jet_plane"}
    assert sequence.boxes_xyxy[0].tolist() == [9, 19, 39.5, 59]


def test_the_test_split_has_the_first_box_alone(make):
    root = make("test", 7)
    (sequence,) = got10k_benchmark(root, "test", sequences=["GOT-10k_Test_000007"])
    assert len(sequence) == 4
    assert sequence.start_xyxy.tolist() == [9, 19, 39.5, 59]
    assert np.isnan(sequence.boxes_xyxy[1:]).all()
    assert not sequence.valid.any()


@pytest.mark.parametrize("subset", ["val", "test"])
def test_all_180_are_there_or_the_missing_is_named(make, subset):
    for i in range(1, 181):
        root = make(subset, i, count=2)
    benchmark = got10k_benchmark(root, subset)
    assert len(benchmark) == 180
    assert benchmark.name == f"got10k_{subset}"
    name = benchmark.sequences[41].name
    (root / subset / name).rename(root / subset / "elsewhere")
    with pytest.raises(DatasetError, match=f"180 sequences of .*, found 179; missing: {name}. Un"):
        got10k_benchmark(root, subset)


def test_what_does_not_fit_is_named(make, tmp_path):
    chosen = {"sequences": ["GOT-10k_Val_000001"]}
    with pytest.raises(DatasetError, match="got: no such folder"):
        got10k_benchmark(tmp_path / "got")
    root = make("val", 1)
    with pytest.raises(DatasetError, match="expected the 180 sequences of GOT-10k val, found 1"):
        got10k_benchmark(root)
    folder = root / "val" / "GOT-10k_Val_000001"
    (folder / "00000002.jpg").rename(folder / "00000009.jpg")
    (folder / "00000003.jpg").rename(folder / "00000010.jpg")
    (folder / "00000004.jpg").rename(folder / "00000011.jpg")
    with pytest.raises(DatasetError, match=r"00000004\.jpg: no such image; .* holds 4 images"):
        got10k_benchmark(root, **chosen)
    (root / "val" / "list.txt").unlink()
    with pytest.raises(DatasetError, match=r"list\.txt: missing"):
        got10k_benchmark(root, **chosen)
    with pytest.raises(ValueError, match="subset: expected one of val, test, got 'train'"):
        got10k_benchmark(root, "train")
    root = make("test", 1, lines=["1,2,3,4"] * 4)
    with pytest.raises(DatasetError, match=r"groundtruth\.txt: expected the first box alone"):
        got10k_benchmark(root, "test", sequences=["GOT-10k_Test_000001"])
