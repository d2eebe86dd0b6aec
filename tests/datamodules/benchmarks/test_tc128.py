import numpy as np
import pytest

from datamodules.benchmarks.tc128 import tc128_benchmark
from datamodules.errors import DatasetError


@pytest.fixture
def make(tmp_path, paint):
    """Writes a sequence whose images begin before and end behind the annotated range."""

    def write(name, first=1, last=3, lines=None, attributes=None):
        folder = tmp_path / "tc" / name
        paint(folder / "img", range(1, last + 3), "{:04d}.jpg")
        text = lines or "".join(f"{10 + t},20,30,40\n" for t in range(last - first + 1))
        (folder / f"{name}_gt.txt").write_text(text)
        (folder / f"{name}_frames.txt").write_text(f"{first},{last}\n")
        if attributes:
            (folder / f"{name}_att.txt").write_text(attributes)
        return tmp_path / "tc"

    return write


def test_the_range_file_says_which_images_are_annotated(make, shown):
    root = make("Hurdle_ce2", first=27, last=30)
    (sequence,) = tc128_benchmark(root, sequences=["Hurdle_ce2"])
    assert shown(sequence) == [27, 28, 29, 30]
    # 10,20,30,40 in 1-based pixels: left edge 9, top edge 19.
    assert sequence.boxes_xyxy[0].tolist() == [9, 19, 39, 59]
    assert sequence.boxes_xyxy[3].tolist() == [12, 19, 42, 59]


def test_valid_is_the_otb_rule_and_attributes_are_codes(make):
    root = make("Bike", lines="10,20,30,40\n0,20,30,40\nNaN,NaN,NaN,NaN\n", attributes="IV\nOCC\n")
    (sequence,) = tc128_benchmark(root, sequences=["Bike"])
    assert sequence.valid.tolist() == [True, False, False]
    assert sequence.attributes == {"IV", "OCC"}


def test_a_part_is_refused_unless_it_is_asked_for(make):
    make("Bike")
    root = make("Ball_ce1")
    with pytest.raises(DatasetError, match=r"expected the 129 sequences .* found 2"):
        tc128_benchmark(root)
    with pytest.raises(DatasetError, match=r"'Baal': not in .* holds 2; nearest name: 'Ball_ce1'"):
        tc128_benchmark(root, sequences=["Baal"])


def test_all_129_are_taken_in_alphabetical_order(make):
    for i in range(129):
        root = make(f"s{i:03d}", last=1)
    benchmark = tc128_benchmark(root, max_frames=1)
    assert [s.name for s in benchmark] == [f"s{i:03d}" for i in range(129)]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "Bike_gt.txt",
            "1,2,3,4\n1,2,3\n1,2,3,4\n",
            r"Bike_gt\.txt, line 2: expected four numbers",
        ),
        ("Bike_gt.txt", "1,2,3,4\n", r"one line per image, got 3 images in .*img and 1 lines in"),
        ("Bike_gt.txt", "1,2,0,4\n" * 3, r"line 1: expected a box of positive width and height"),
        ("Bike_frames.txt", "1\n", r"Bike_frames\.txt: expected first,last, got 1 numbers"),
        (
            "Bike_frames.txt",
            "1,9\n",
            r"0009\.jpg: no such image; .* 0001\.jpg to 0009\.jpg, .* 5 im",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, file, text, message):
    root = make("Bike")
    (root / "Bike" / file).write_text(text)
    with pytest.raises(DatasetError, match=message):
        tc128_benchmark(root, sequences=["Bike"])


def test_another_layout_or_no_folder_is_told_apart(tmp_path, paint):
    with pytest.raises(DatasetError, match=r"nowhere: no such folder .*nowhere.tc"):
        tc128_benchmark(tmp_path / "nowhere" / "tc")
    paint(tmp_path / "Bolt" / "img", [1], "{:04d}.jpg")
    with pytest.raises(DatasetError, match=r"no <Sequence>/<Sequence>_gt\.txt in it; expected lay"):
        tc128_benchmark(tmp_path)
    (tmp_path / "Bolt" / "groundtruth_rect.txt").write_text("1,2,3,4\n")
    with pytest.raises(DatasetError, match="in the layout of OTB; read it with benchmark=otb2015"):
        tc128_benchmark(tmp_path)


def test_frames_are_decoded_only_when_asked_for(make):
    root = make("Bike")
    (root / "Bike" / "img" / "0002.jpg").write_bytes(b"no image")
    (sequence,) = tc128_benchmark(root, sequences=["Bike"])
    assert isinstance(sequence.frames[0], np.ndarray)
    with pytest.raises(ValueError, match=r"0002\.jpg"):
        sequence.frames[1]
