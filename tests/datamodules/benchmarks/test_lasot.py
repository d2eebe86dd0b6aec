import pytest

from datamodules.benchmarks.lasot import lasot_benchmark
from datamodules.errors import DatasetError


@pytest.fixture
def make(tmp_path, clone):
    def write(name, lines, hidden, gone, nested=True):
        root = tmp_path / "lasot"
        folder = root / name.split("-")[0] / name if nested else root / name
        clone(folder / "img", [f"{t + 1:08d}.jpg" for t in range(len(lines))])
        (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
        (folder / "full_occlusion.txt").write_text(",".join(map(str, hidden)))
        (folder / "out_of_view.txt").write_text(",".join(map(str, gone)) + "\n")
        return root

    return write


BOX = "10,20,30,40"


def test_hidden_or_out_of_view_is_absent_whatever_the_box(make):
    root = make("tiger-6", [BOX, BOX, BOX, "613,731,247,-11"], [0, 1, 0, 0], [0, 0, 1, 0])
    (tiger,) = lasot_benchmark(root, sequences=["tiger-6"])
    assert tiger.absent.tolist() == [False, True, True, False]
    # The last frame shows the target, but its box is illegal.
    assert tiger.valid.tolist() == [True, False, False, False]
    assert tiger.frame_attributes["full_occlusion"].tolist() == [False, True, False, False]
    assert tiger.frame_attributes["out_of_view"].tolist() == [False, False, True, False]
    assert tiger.boxes_xyxy[0].tolist() == [9, 19, 39, 59]
    assert [p.name for p in tiger.frames.paths] == [f"{i:08d}.jpg" for i in range(1, 5)]


def test_the_official_list_says_what_is_in_the_test_split(make):
    names = [f"c{i}-{k}" for i in range(70) for k in (1, 5, 9, 20)]
    for name in [*names, "c0-2"]:
        root = make(name, [BOX], [0], [0], nested=name != "c3-5")
    with pytest.raises(DatasetError, match=r"testing_set\.txt: missing; .* evaluation toolkit"):
        lasot_benchmark(root)
    (root / "testing_set.txt").write_text("\n".join(names) + "\n")
    benchmark = lasot_benchmark(root)
    assert [s.name for s in benchmark] == names
    assert benchmark.name == "lasot"
    elsewhere = root.parent / "list.txt"
    elsewhere.write_text("\n".join([*names[:-1], "zebra-3"]))
    with pytest.raises(
        DatasetError, match=r"280 sequences of LaSOT.s test split, found 279; .*: ze"
    ):
        lasot_benchmark(root, testing_set=elsewhere)
    elsewhere.write_text("\n".join(names[:-1]))
    with pytest.raises(DatasetError, match=r"list\.txt: expected 280 different names, got 279"):
        lasot_benchmark(root, testing_set=elsewhere)
    with pytest.raises(DatasetError, match=r"150 sequences of LaSOT.s extension subset, found 281"):
        lasot_benchmark(root, "extension")


def test_attributes_come_from_the_toolkit_s_folder(make, tmp_path):
    root = make("bird-2", [BOX], [0], [0])
    (tmp_path / "bird-2.txt").write_text("1,0,0,0,0,0,0,0,0,0,0,0,0,1\n")
    chosen = {"sequences": ["bird-2"]}
    assert lasot_benchmark(root, **chosen).sequences[0].attributes == frozenset()
    (bird,) = lasot_benchmark(root, **chosen, attribute_folder=tmp_path)
    assert bird.attributes == {"IV", "ARC"}
    with pytest.raises(DatasetError, match=r"lasot.bird-2\.txt: missing; attribute_folder is the"):
        lasot_benchmark(root, **chosen, attribute_folder=root)


def test_flags_and_images_must_belong_to_the_annotation(make, clone):
    root = make("bird-2", [BOX, BOX], [0, 0, 0], [0, 0])
    chosen = {"sequences": ["bird-2"]}
    with pytest.raises(DatasetError, match=r"full_occlusion\.txt: expected 2 labels, .* got 3"):
        lasot_benchmark(root, **chosen)
    folder = root / "bird" / "bird-2"
    (folder / "full_occlusion.txt").write_text("0,2")
    with pytest.raises(DatasetError, match="value 2: expected a whole number from 0 to 1, got '2'"):
        lasot_benchmark(root, **chosen)
    (folder / "full_occlusion.txt").unlink()
    with pytest.raises(DatasetError, match=r"full_occlusion\.txt: missing"):
        lasot_benchmark(root, **chosen)
    clone(folder / "img", ["00000003.jpg"])
    with pytest.raises(DatasetError, match=r"00000003\.jpg: more images than the 2 lines of"):
        lasot_benchmark(root, **chosen)
    (folder / "img" / "00000003.jpg").unlink()
    (folder / "img" / "00000002.jpg").unlink()
    with pytest.raises(DatasetError, match=r"00000002\.jpg: no such image; .* holds 1 images"):
        lasot_benchmark(root, **chosen)
    with pytest.raises(DatasetError, match="nothing: no such folder"):
        lasot_benchmark(root / "nothing")
    with pytest.raises(DatasetError, match=r"no <class>/<class>-<k>/groundtruth\.txt in it"):
        lasot_benchmark(folder / "img")
    with pytest.raises(ValueError, match="subset: expected one of test, extension, got 'train'"):
        lasot_benchmark(root, "train")
