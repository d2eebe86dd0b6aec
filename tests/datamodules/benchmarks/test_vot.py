import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.benchmarks.vot import annotated_vot, vot_benchmark
from datamodules.errors import DatasetError
from lightning_trackers.evaluation.supervised import VOTSupervised, target_regions
from lightning_trackers.evaluation.vot_results import import_vot_results

SHARED = Path(__file__).parents[3] / "../shared"
RESULTS = SHARED / "results/vot2018"

POLYGON = "1,2,11,2,11,22,1,22\n"
RECTANGLE = "1,2,10,20\n"


@pytest.fixture
def make(tmp_path, paint):
    """Write a sequence; a file given as text replaces or adds to its files."""

    def write(name="bolt", count=3, images="color", pattern="{:08d}.jpg", **files):
        folder = tmp_path / name
        paint(folder / images, range(1, count + 1), pattern)
        (folder / "groundtruth.txt").write_text(POLYGON * count)
        for file, text in files.items():
            (folder / file.replace("__", ".")).write_text(text)
        return tmp_path

    return write


def read(root, year=2018, **options):
    (sequence,) = vot_benchmark(root, year, sequences=["bolt"], **options)
    return sequence


def test_a_sequence_of_2018_is_read_with_its_polygons_and_tags(make, shown):
    root = make(
        groundtruth__txt=POLYGON + RECTANGLE + POLYGON,
        occlusion__tag="0\n1\n",
        camera_motion__tag="1\n1\n1\n",
        motion_change__tag="0\n0\n0\n",
    )
    benchmark = vot_benchmark(root, 2018, sequences=["bolt"])
    assert (benchmark.name, benchmark.protocol) == ("vot2018", VOTSupervised(2018))
    (bolt,) = benchmark
    assert shown(bolt) == [1, 2, 3]
    assert bolt.boxes_xyxy.tolist() == [[1, 2, 11, 22]] * 3
    assert bolt.polygons[0].tolist() == [1, 2, 11, 2, 11, 22, 1, 22]
    assert np.isnan(bolt.polygons[1]).all()
    assert target_regions(bolt)[1, :4].tolist() == [1, 2, 10, 20]
    assert bolt.frame_attributes["occlusion"].tolist() == [False, True, False]  # the end is missing
    assert bolt.frame_attributes["camera_motion"].all()
    assert not bolt.frame_attributes["size_change"].any()
    assert bolt.attributes == {"occlusion", "camera_motion"}


def test_a_sequence_of_2013_has_rectangles_images_beside_them_and_other_names(make, shown):
    root = make(images=".", groundtruth__txt=RECTANGLE * 3, size__label="1\n0\n1\n")
    bolt = read(root, 2013)
    assert shown(bolt) == [1, 2, 3]
    assert bolt.polygons is None
    assert bolt.frame_attributes["size_change"].tolist() == [True, False, True]


def test_the_sequence_file_says_where_frames_are(make, shown):
    root = make(
        images="rgb", pattern="{:06d}.png", sequence="fps=30\nchannels.color=rgb/%06d.png\n"
    )
    assert shown(read(root)) == [1, 2, 3]
    (root / "bolt/sequence").write_text("channels.color=rgb/%s.png\n")
    with pytest.raises(DatasetError, match=r"bolt/sequence: expected channels\.color=.*%s\.png"):
        read(root)


def test_the_folder_of_the_year_is_found_and_the_list_gives_the_order(make):
    make("vot2018/bolt")
    root = make("vot2018/ants1")
    (root / "vot2018/list.txt").write_text("bolt\nants1\n")
    benchmark = vot_benchmark(root, 2018, sequences=["bolt", "ants1"], max_frames=2)
    assert [(s.name, len(s), s.polygons.shape) for s in benchmark] == [
        ("bolt", 2, (2, 8)),
        ("ants1", 2, (2, 8)),
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"groundtruth__txt": POLYGON * 2},
            "bolt: expected one line per image, got 3 .* and 2 lines",
        ),
        (
            {"groundtruth__txt": POLYGON + "1,2,3\n" + POLYGON},
            r"groundtruth\.txt, line 2: expected 4",
        ),
        (
            {"groundtruth__txt": POLYGON + "1;2;3;4\n" + POLYGON},
            r"groundtruth\.txt, line 2: .*1;2;3",
        ),
        ({"groundtruth__txt": "1\n" + POLYGON * 2}, r"groundtruth\.txt, line 1: expected 4 or 8"),
        ({"groundtruth__txt": POLYGON * 2 + "1,2,nan,4\n"}, r"groundtruth\.txt, line 3"),
        ({"groundtruth__txt": POLYGON * 2 + "1,2,0,4\n"}, "line 3: expected a region of positive"),
        ({"groundtruth__txt": "\n"}, r"groundtruth\.txt: expected some lines, one a frame, got 0"),
        ({"occlusion__tag": "0\n" * 4}, r"occlusion\.tag, line 4: expected at most 3 lines.*got 4"),
        ({"occlusion__tag": "0\n2\n"}, r"occlusion\.tag, line 2: expected 0 or 1, got '2'"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(make, files, message):
    with pytest.raises(DatasetError, match=message):
        read(make(**files))


def test_missing_parts_are_named(make, tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        vot_benchmark(tmp_path / "nowhere", 2018)
    root = make()
    with pytest.raises(DatasetError, match="expected the 60 sequences of VOT2018, found 1"):
        vot_benchmark(root, 2018)
    with pytest.raises(DatasetError, match=r"sequence 'bolr': .* nearest name: 'bolt'"):
        vot_benchmark(root, 2018, sequences=["bolr"])
    with pytest.raises(ValueError, match="year: expected one of"):
        vot_benchmark(root, 2021)
    names = ["bolt", *(f"s{i}" for i in range(59))]
    (root / "list.txt").write_text("\n".join(names))
    with pytest.raises(DatasetError, match="found 1; missing: s0, s1, s2, s3, s4, "):
        vot_benchmark(root, 2018)
    (root / "bolt/color/00000002.jpg").unlink()
    with pytest.raises(DatasetError, match=r"color/00000002\.jpg: no such image"):
        read(root)
    (root / "bolt/groundtruth.txt").unlink()
    with pytest.raises(DatasetError, match=r"groundtruth\.txt: missing"):
        read(root)


def write_json(tmp_path, **changes):
    entry = {
        "width": 40,
        "height": 30,
        "gt_rect": [[1, 2, 11, 2, 11, 22, 1, 22], [1, 2, 10, 20]],
        "occlusion": [0, 1],
        "camera_motion": [],
    }
    entry = {key: value for key, value in (entry | changes).items() if value is not None}
    file = tmp_path / "VOT2018.json"
    file.write_text(json.dumps({"bolt": entry}))
    return file


def test_a_json_annotation_can_be_scored_but_not_tracked(tmp_path):
    (bolt,) = annotated_vot(write_json(tmp_path), 2018, sequences=["bolt"])
    assert len(bolt) == 2
    assert bolt.frames.frame_wh == (40, 30)
    assert bolt.frame_attributes["occlusion"].tolist() == [False, True]
    assert not bolt.frame_attributes["camera_motion"].any()
    with pytest.raises(FileNotFoundError, match="sequence bolt: only its annotation was read"):
        bolt.frames[0]
    (cut,) = annotated_vot(write_json(tmp_path), 2018, sequences=["bolt"], max_frames=1)
    assert cut.frames.frame_wh == (40, 30)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": None}, "sequence bolt: expected gt_rect .* and width and height"),
        ({"gt_rect": [[1, 2, 3]]}, "sequence bolt, gt_rect: region 0: expected"),
        ({"occlusion": [0, 1, 0]}, "sequence bolt, occlusion: expected at most 2 flags"),
        ({"occlusion": [3]}, "sequence bolt, occlusion: expected at most 2 flags 0 or 1"),
    ],
)
def test_a_damaged_json_annotation_is_named(tmp_path, changes, message):
    with pytest.raises(DatasetError, match=message):
        annotated_vot(write_json(tmp_path, **changes), 2018, sequences=["bolt"])


def test_a_json_file_that_is_none_is_named(tmp_path):
    file = tmp_path / "VOT2018.json"
    with pytest.raises(DatasetError, match="no such file; expected pysot's VOT2018"):
        annotated_vot(file, 2018)
    file.write_text("{")
    with pytest.raises(DatasetError, match="not a json file"):
        annotated_vot(file, 2018)
    file.write_text("[]")
    with pytest.raises(DatasetError, match="expected one entry per sequence, got list"):
        annotated_vot(file, 2018)
    with pytest.raises(DatasetError, match="expected the 60 sequences of VOT2018, found 1"):
        annotated_vot(write_json(tmp_path), 2018)


@pytest.mark.skipif(not RESULTS.exists(), reason="needs the published results of DaSiamRPN")
@pytest.mark.parametrize(("toolkit", "tolerance"), [("pysot", 1e-15), ("matlab", 2e-9)])
def test_dasiamrpn_on_vot2018_scores_what_was_reported(toolkit, tolerance):
    """The reported digits are pysot's, whose curve has single precision."""
    protocol = VOTSupervised(2018, toolkit=toolkit)
    file = SHARED / "annotations/VOT2018.json"
    benchmark = annotated_vot(file, 2018, protocol=protocol)
    results = import_vot_results(RESULTS / "DaSiamRPN", {s.name: len(s) for s in benchmark})
    scores = protocol.score(benchmark, results).scalars
    reported = json.loads((RESULTS / "reported.json").read_text(encoding="utf-8"))["DaSiamRPN"]
    assert scores["eao"] == pytest.approx(reported["eao"], abs=tolerance, rel=0)
    assert round(scores["accuracy"], 3) == reported["accuracy"]
    assert round(scores["robustness"], 3) == reported["robustness"]
    assert scores["failures"] == reported["lost_number"]
