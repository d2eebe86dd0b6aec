import re
from pathlib import Path

import numpy as np
import pytest

from datamodules.benchmarks.otb import (
    find_annotated_folders,
    is_valid,
    otb_benchmark,
    otb_layout_benchmark,
    read_annotation,
)
from datamodules.benchmarks.otb_sequences import ATTRIBUTES, MATLAB_DIFFERENCES, VERSIONS
from datamodules.benchmarks.reading import OTB_ATTRIBUTES, read_attributes
from datamodules.errors import DatasetError

SHARED = Path(__file__).parents[3] / "../shared"


def lines(count):
    return "".join(f"{2 + t},3,10,20\n" for t in range(count))


def shown(sequence):
    """The image numbers that a sequence reads: conftest paints number n in red 2n."""
    return [int(frame[0, 0, 0]) // 2 for frame in sequence]


def test_a_sequence_is_read_into_the_projects_convention(make_sequence):
    root = make_sequence("Bolt", range(1, 4))
    benchmark = otb_layout_benchmark(root, name="mine")
    assert benchmark.name == "mine"
    (bolt,) = benchmark
    assert bolt.name == "Bolt"
    assert shown(bolt) == [1, 2, 3]
    # In the file 2,3,10,20 and 1-based: the first pixel of the image has its edge at 0.
    assert bolt.boxes_xyxy.tolist() == [[1, 2, 11, 22], [2, 2, 12, 22], [3, 2, 13, 22]]
    assert bolt.valid.tolist() == [True] * 3


@pytest.mark.parametrize(
    "text",
    [
        "2,3,10,20\n4,5,11,21\n",
        "2\t3\t10\t20\r\n4\t5\t11\t21\r\n",
        "2 3 10 20\n4\t5,11 , 21",
        "  2,3,10,20  \n4.0,5.0,1.1e1,21\n\n\n",
    ],
)
def test_annotations_are_read_however_they_are_separated(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert read_annotation(tmp_path / "a.txt").tolist() == [[2, 3, 10, 20], [4, 5, 11, 21]]


@pytest.mark.parametrize("bad", ["4,5,11", "4,5,11,21,7", "4,5,x,21", "", "4,5,inf,21"])
def test_a_line_that_is_not_a_box_is_named(tmp_path, bad):
    (tmp_path / "a.txt").write_text(f"2,3,10,20\n{bad}\n2,3,10,20\n")
    with pytest.raises(ValueError, match=r"a\.txt, line 2: expected four numbers x,y,w,h, got '"):
        read_annotation(tmp_path / "a.txt")


def test_an_empty_annotation_is_refused(make_sequence):
    root = make_sequence("Bolt", range(1, 4), {"groundtruth_rect.txt": "\n"})
    with pytest.raises(ValueError, match=r"groundtruth_rect\.txt: expected one line .* empty file"):
        otb_layout_benchmark(root)


def test_valid_follows_the_otb_rule_in_file_coordinates(make_sequence):
    text = "2,3,10,20\n1,1,1,1\n0,3,10,20\n2,-1,10,20\n2,3,0,20\n2,3,10,0\nNaN,NaN,NaN,NaN\n"
    root = make_sequence("Bolt", range(1, 8), {"groundtruth_rect.txt": text})
    (bolt,) = otb_layout_benchmark(root)
    assert bolt.valid.tolist() == [True, True] + [False] * 5


def test_frames_are_sorted_by_number(make_sequence):
    root = make_sequence("Mine", [9, 10, 100, 1], pattern="frame{}.png")
    assert shown(otb_layout_benchmark(root).sequences[0]) == [1, 9, 10, 100]


def test_two_targets_are_two_sequences(make_sequence):
    root = make_sequence(
        "Jogging",
        range(1, 4),
        {"groundtruth_rect.1.txt": lines(3), "groundtruth_rect.2.txt": "5,6,7,8\n" * 3},
    )
    one, two = otb_layout_benchmark(root)
    assert (one.name, two.name) == ("Jogging-1", "Jogging-2")
    assert two.boxes_xyxy[0].tolist() == [4, 5, 11, 13]


def test_an_empty_file_of_a_first_target_is_passed_over(make_sequence):
    root = make_sequence(
        "Human4", range(1, 4), {"groundtruth_rect.1.txt": "", "groundtruth_rect.2.txt": lines(3)}
    )
    assert [s.name for s in otb_layout_benchmark(root)] == ["Human4-2"]


@pytest.mark.parametrize(
    ("name", "images", "count", "first", "last"),
    [
        ("David", range(290, 772), 471, 300, 770),
        ("Football1", range(1, 82), 74, 1, 74),
        ("Freeman4", range(1, 298), 283, 1, 283),
        ("BlurCar3", range(1, 360), 357, 3, 359),
        ("BlurCar3", range(1, 358), 357, 1, 357),  # a copy that renumbers
        ("Tiger1", range(1, 355), 354, 6, 354),  # the toolkit omits five
        ("Tiger1", range(1, 21), 20, 1, 20),  # somebody's own video of that name
    ],
)
def test_known_frame_ranges(make_sequence, name, images, count, first, last):
    root = make_sequence(name, images, {"groundtruth_rect.txt": lines(count)})
    (sequence,) = otb_layout_benchmark(root)
    names = [path.stem for path in sequence.frames.paths]
    assert (names[0], names[-1]) == (f"{first:04d}", f"{last:04d}")
    assert len(sequence) == last - first + 1
    skipped = 5 if (name, count) == ("Tiger1", 354) else 0
    assert sequence.boxes_xyxy[0].tolist() == [1 + skipped, 2, 11 + skipped, 22]


def test_five_digit_numbers_and_a_last_empty_box_as_in_board(make_sequence):
    root = make_sequence(
        "Board", range(1, 5), {"groundtruth_rect.txt": lines(3) + "0,0,0,0\n"}, "{:05d}.png"
    )
    (board,) = otb_layout_benchmark(root)
    assert shown(board) == [1, 2, 3, 4]
    assert board.valid.tolist() == [True] * 3 + [False]


def test_max_frames_cuts_from_the_end(make_sequence):
    root = make_sequence("Bolt", range(1, 8))
    make_sequence("Tiger1", range(1, 355), {"groundtruth_rect.txt": lines(354)})
    bolt, tiger = otb_layout_benchmark(root, max_frames=3)
    assert shown(bolt) == [1, 2, 3]
    assert len(bolt.boxes_xyxy) == len(bolt.valid) == 3
    assert [path.stem for path in tiger.frames.paths] == ["0006", "0007", "0008"]
    with pytest.raises(ValueError, match="max_frames: expected at least 1, got 0"):
        otb_layout_benchmark(root, max_frames=0)


def test_sequences_are_chosen_by_name_in_the_order_asked(make_sequence):
    for name in ("Bolt", "Basketball", "Car4"):
        root = make_sequence(name, [1, 2])
    assert [s.name for s in otb_layout_benchmark(root)] == ["Basketball", "Bolt", "Car4"]
    asked = ["Car4", "Bolt"]
    assert [s.name for s in otb_layout_benchmark(root, sequences=asked)] == asked
    with pytest.raises(ValueError, match=r"'basketbal': not in .* nearest name: 'Basketball'"):
        otb_layout_benchmark(root, sequences=["basketbal"])


def test_a_broken_sequence_does_not_matter_to_others(make_sequence):
    root = make_sequence("Bolt", [1, 2])
    make_sequence("Broken", [1, 2], {"groundtruth_rect.txt": "x\n"})
    assert len(otb_layout_benchmark(root, sequences=["Bolt"])) == 1
    with pytest.raises(ValueError, match=r"Broken.groundtruth_rect\.txt, line 1"):
        otb_layout_benchmark(root)


def test_attributes_are_read_where_they_are(make_sequence):
    root = make_sequence(
        "Bolt", [1], {"groundtruth_rect.txt": lines(1), "attrs.txt": "IV ,SV, OCC"}
    )
    make_sequence("Car4", [1])
    bolt, car = otb_layout_benchmark(root)
    assert bolt.attributes == {"IV", "SV", "OCC"}
    assert car.attributes == frozenset()


def test_the_first_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        otb_layout_benchmark(tmp_path / "data" / "otb" / "inner")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'data'}: no such folder")
    assert "<root>/<Sequence>/img/0001.jpg" in message


def test_an_empty_root_shows_the_expected_layout(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"(?s)no sequence folder.*groundtruth_rect\.txt"):
        find_annotated_folders(tmp_path)


def test_a_sequence_given_as_root_is_recognised(make_sequence):
    root = make_sequence("Bolt", [1, 2])
    with pytest.raises(FileNotFoundError, match=f"is a sequence itself: give {root}"):
        otb_layout_benchmark(root / "Bolt")


@pytest.mark.parametrize(
    ("missing", "message"),
    [("groundtruth_rect.txt", r"Bolt.groundtruth_rect\.txt: missing"), ("img", "img: missing")],
)
def test_a_missing_part_of_a_sequence_is_named(make_sequence, missing, message):
    root = make_sequence("Bolt", [1, 2])
    path = root / "Bolt" / missing
    path.rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=message):
        otb_layout_benchmark(root)


def test_unequal_counts_name_sequence_counts_and_files(make_sequence):
    root = make_sequence("Bolt", range(1, 6), {"groundtruth_rect.txt": lines(4)})
    with pytest.raises(
        ValueError, match=r"sequence Bolt: .* got 5 images in .*img and 4 lines in "
    ):
        otb_layout_benchmark(root)
    root = make_sequence("David", range(1, 6), {"groundtruth_rect.txt": lines(4)})
    with pytest.raises(ValueError, match="sequence David"):
        otb_layout_benchmark(root, sequences=["David"])


def test_a_first_box_without_size_is_refused_by_line(make_sequence):
    root = make_sequence("Bolt", [1, 2], {"groundtruth_rect.txt": "2,3,0,9\n2,3,9,9\n"})
    with pytest.raises(ValueError, match=r"line 1: expected a box of positive width and height"):
        otb_layout_benchmark(root)


def test_a_cut_off_image_is_named_only_when_it_is_read(make_sequence):
    root = make_sequence("Bolt", [1, 2])
    file = root / "Bolt" / "img" / "0002.png"
    file.write_bytes(file.read_bytes()[:60])
    (bolt,) = otb_layout_benchmark(root)
    assert bolt.frames[0].shape == (48, 64, 3)
    with pytest.raises(ValueError, match=r"0002\.png: the image is cut short"):
        bolt.frames[1]


def test_names_that_occur_twice_are_refused(make_sequence):
    root = make_sequence("Jogging", [1], {"groundtruth_rect.1.txt": lines(1)})
    make_sequence("Jogging-1", [1])
    with pytest.raises(ValueError, match=r"names occur twice: .*Jogging-1"):
        otb_layout_benchmark(root)


@pytest.mark.skipif(not (SHARED / "sequences").exists(), reason="../shared/sequences is not there")
def test_real_sequences_are_read():
    benchmark = otb_layout_benchmark(SHARED / "sequences")
    assert len(benchmark) == 19
    lengths = {s.name: len(s) for s in benchmark}
    assert (lengths["Football1"], lengths["Jogging-1"], lengths["Walking2"]) == (74, 307, 500)
    couple = next(s for s in benchmark if s.name == "Couple")
    assert couple.frames[0].shape == (240, 320, 3)
    assert couple.boxes_xyxy[0].tolist() == [50, 46, 75, 108]  # 51,47,25,62 in the file


ANNOTATIONS = SHARED / "annotations/otb100/anno"


@pytest.mark.skipif(not ANNOTATIONS.exists(), reason="../shared/annotations is not there")
def test_non_positive_ground_truth_of_otb100_is_what_is_known_of_it():
    invalid = {}
    frames = 0
    for file in ANNOTATIONS.glob("*.txt"):
        boxes = read_annotation(file)
        frames += len(boxes)
        lines_at_fault = (np.flatnonzero(~is_valid(boxes)) + 1).tolist()
        if lines_at_fault:
            invalid[file.stem] = lines_at_fault
    assert frames == 59_040
    assert invalid == {
        "Biker": [72, 73, 74, 75, 76, 77, 78],
        "Board": [698],
        "Crowds": [346],
        "Twinnings": [472],
    }


def make_otb(root, clone, version):
    """Writes every folder of a version with two images each; two targets share a folder."""
    for name in VERSIONS[version]:
        folder = root / name.removesuffix("-1").removesuffix("-2")
        target = f".{name[-1]}" if "-" in name else ""
        if not folder.is_dir():
            clone(folder / "img", ["0001.jpg", "0002.jpg"])
        (folder / f"groundtruth_rect{target}.txt").write_text("10,20,30,40\n" * 2)
    return root


@pytest.mark.parametrize(("version", "count"), [("2013", 51), ("50", 50), (2015, 100)])
def test_versions_are_read_from_a_root_that_holds_all(tmp_path, clone, version, count):
    root = make_otb(tmp_path / "otb", clone, "2015")
    (root / "Human4" / "groundtruth_rect.1.txt").write_text("")
    benchmark = otb_benchmark(root, version)
    assert benchmark.name == f"otb{version}"
    assert [s.name for s in benchmark] == list(VERSIONS[str(version)])
    assert len(benchmark) == count
    woman = benchmark.sequences[-1]
    assert woman.attributes == {"IV", "SV", "OCC", "DEF", "MB", "FM", "OPR"}


def test_a_root_of_a_smaller_version_is_told_by_its_missing_sequences(tmp_path, clone):
    root = make_otb(tmp_path / "otb", clone, "50")
    message = "expected the 100 sequences of otb2015, found 50; missing: Bird2, BlurCar1, .* Unpack"
    with pytest.raises(DatasetError, match=message):
        otb_benchmark(root)
    part = otb_benchmark(root, sequences=["Skating2-2", "Human4-2"], max_frames=1)
    assert [s.name for s in part] == ["Skating2-2", "Human4-2"]
    assert [len(s) for s in part] == [1, 1]
    with pytest.raises(DatasetError, match=r"'Doll': not in .* which holds 50"):
        otb_benchmark(root, sequences=["Doll"])
    with pytest.raises(ValueError, match="version: expected one of 2013, 50, 2015, got 'tb100'"):
        otb_benchmark(root, "tb100")


def test_other_spellings_of_folders_are_the_same_sequences(tmp_path, clone):
    for folder in ("jogging.1", "Human4", "faceocc1"):
        clone(tmp_path / folder / "img", ["0001.jpg"])
        (tmp_path / folder / "groundtruth_rect.txt").write_text("10,20,30,40\n")
    wanted = ["Jogging-1", "Human4-2", "FaceOcc1"]
    assert [s.name for s in otb_benchmark(tmp_path, sequences=wanted)] == wanted


def test_matlab_attributes_are_an_option(tmp_path, clone):
    root = make_otb(tmp_path / "otb", clone, "50")
    chosen = {"sequences": ["Freeman4", "Deer"]}
    freeman, deer = otb_benchmark(root, **chosen)
    assert ("LR" in freeman.attributes, "LR" in deer.attributes) == (False, True)
    freeman, deer = otb_benchmark(root, **chosen, matlab_attributes=True)
    assert ("LR" in freeman.attributes, "LR" in deer.attributes) == (True, False)


def test_two_folders_of_one_sequence_are_refused(tmp_path, clone):
    root = make_otb(tmp_path / "otb", clone, "50")
    clone(root / "Skating2-1" / "img", ["0001.jpg"])
    (root / "Skating2-1" / "groundtruth_rect.txt").write_text("10,20,30,40\n")
    with pytest.raises(DatasetError, match=r"names occur twice: .*Skating2-1"):
        otb_benchmark(root)


def test_special_cases_hold_for_a_folder_in_small_letters(make_sequence):
    root = make_sequence("david", range(290, 772), {"groundtruth_rect.txt": lines(471)})
    (david,) = otb_benchmark(root, sequences=["David"])
    assert [david.frames.paths[i].stem for i in (0, -1)] == ["0300", "0770"]


def test_a_root_of_temple_color_is_told_apart(tmp_path, clone):
    clone(tmp_path / "Board" / "img", ["0001.jpg"])
    (tmp_path / "Board" / "Board_gt.txt").write_text("10,20,30,40\n")
    with pytest.raises(DatasetError, match=r"Board_gt\.txt: .* read it with benchmark=tc128"):
        otb_benchmark(tmp_path)


def test_a_missing_image_folder_is_named(tmp_path):
    (tmp_path / "Bolt").mkdir()
    (tmp_path / "Bolt" / "groundtruth_rect.txt").write_text("10,20,30,40\n")
    with pytest.raises(DatasetError, match=r"Bolt.img: missing; expected layout"):
        otb_benchmark(tmp_path, sequences=["Bolt"])


def test_attribute_flags_are_read_in_the_toolkit_s_order(make_sequence):
    flags = {"groundtruth_rect.txt": lines(1), "attrs.txt": "1,1,0,0,0,0,0,0,0,0,1\n"}
    root = make_sequence("Mine", [1], flags)
    assert otb_layout_benchmark(root).sequences[0].attributes == {"IV", "OPR", "LR"}
    root = make_sequence("Bad", [1], {**flags, "attrs.txt": "1,1,0\n"})
    with pytest.raises(DatasetError, match=r"attrs\.txt: expected 11 flags"):
        otb_layout_benchmark(root, sequences=["Bad"])


OFFICIAL = SHARED / "annotations" / "otb100"
needs_official = pytest.mark.skipif(
    not OFFICIAL.is_dir(), reason="the official annotations of OTB-2015 are not on this machine"
)


def official_list(file):
    """Names and attributes of a list of the Python toolkit, which once writes BasketBall."""
    rows = (line.partition("\t") for line in (OFFICIAL / file).read_text().splitlines() if line)
    return {n.replace("BasketBall", "Basketball"): set(re.findall(r"\w+", a)) for n, _, a in rows}


@needs_official
@pytest.mark.parametrize(
    ("version", "file"), [("2013", "cvpr13.txt"), ("50", "tb_50.txt"), ("2015", "tb_100.txt")]
)
def test_lists_and_attributes_are_the_official_ones(version, file):
    official = official_list(file)
    assert set(VERSIONS[version]) == set(official)
    assert {n: set(ATTRIBUTES[n]) for n in official} == official


@needs_official
def test_matlab_attributes_are_the_toolkit_s_rows():
    rows = {f.stem.lower(): f for f in (OFFICIAL / "anno" / "att").glob("*.txt")}
    for name, attributes in ATTRIBUTES.items():
        expected = attributes ^ MATLAB_DIFFERENCES.get(name, frozenset())
        assert read_attributes(rows[name.lower()], OTB_ATTRIBUTES) == expected, name


@needs_official
def test_official_annotations_give_the_official_frames(tmp_path, clone):
    # 59,040 annotated frames, of which Tiger1's first five are not evaluated.
    files = {f.stem.lower(): f for f in (OFFICIAL / "anno").glob("*.txt")}
    special = ["David", "Tiger1", "BlurCar1", "Board", "Twinnings", "Human4-2", "Skating2-2"]
    images = {"David": range(1, 771), "BlurCar1": range(247, 989)}
    for name in special:
        folder, suffix = tmp_path / name.split("-")[0], f".{name[-1]}" if "-" in name else ""
        text = files[name.lower()].read_text()
        numbers = images.get(name, range(1, len(text.strip().splitlines()) + 1))
        pattern = "{:05d}.jpg" if name == "Board" else "{:04d}.jpg"
        clone(folder / "img", [pattern.format(n) for n in numbers])
        (folder / f"groundtruth_rect{suffix}.txt").write_text(text)
    found = {s.name: s for s in otb_benchmark(tmp_path, sequences=special)}
    assert {n: len(s) for n, s in found.items()} == {
        "David": 471,
        "Tiger1": 349,
        "BlurCar1": 742,
        "Board": 698,
        "Twinnings": 472,
        "Human4-2": 667,
        "Skating2-2": 473,
    }
    # The last line of both is 0,0,0,0.
    assert [np.flatnonzero(~found[n].valid).tolist() for n in ("Board", "Twinnings")] == [
        [697],
        [471],
    ]
