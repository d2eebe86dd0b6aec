import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightning_trackers.boxes import xywh_to_xyxy, xyxy_to_xywh
from lightning_trackers.evaluation.one_pass import track_one_pass
from lightning_trackers.evaluation.ope_protocol import AverageOverlapOnePass, OnePass
from lightning_trackers.evaluation.robustness import (
    base_name,
    read_no_start,
    segment_starts,
    spatial_robustness,
    temporal_robustness,
)
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.static import StaticTracker

VECTORS = Path(__file__).parents[3] / "../shared/spec/metric_vectors.json"
needs_vectors = pytest.mark.skipif(not VECTORS.exists(), reason="../shared/spec is not there")
ONE_BASED = np.array([1.0, 1, 0, 0])


class Counted:
    """Frames that tell how many of them were read; each shows its number."""

    def __init__(self, count, height=240, width=320):
        self.read, self.count, self.size = [], count, (height, width, 3)

    def __getitem__(self, index):
        self.read.append(range(self.count)[index])
        return np.full(self.size, self.read[-1], np.uint8)

    def __len__(self):
        return self.count


def sequence(name="Bolt", count=60, first_xywh=(100, 80, 30, 41), frames=None):
    boxes = np.array([first_xywh], dtype=float) + np.arange(count)[:, None] * [0.5, 0, 0, 0]
    return TrackingSequence(
        name,
        frames or Counted(count),
        xywh_to_xyxy(boxes - ONE_BASED),
        np.ones(count, dtype=bool),
        frozenset({"OCC"}),
        frame_attributes={"even": np.arange(count) % 2 == 0},
    )


def case_of(name):
    return next(c for c in json.loads(VECTORS.read_text())["cases"] if c["id"] == name)


@needs_vectors
@pytest.mark.parametrize("box", ["100,80,30,41", "3,2,55,24", "280,200,40,40"])
def test_first_boxes_of_sre_are_the_toolkits(box):
    expected = case_of("otb-SRE-shiftInitBB-0")["outputs"][box]
    original = sequence(first_xywh=[float(value) for value in box.split(",")])
    derived = spatial_robustness(Benchmark("otb", [original]))
    assert len(derived) == len(expected) == 12
    for (kind, box_xywh), run in zip(expected.items(), derived, strict=True):
        assert run.name == f"Bolt_sre_{kind.lower()}"
        assert (xyxy_to_xywh(run.start_xyxy) + ONE_BASED).tolist() == box_xywh
        assert run.boxes_xyxy is original.boxes_xyxy  # scored against what is there


def test_first_boxes_of_sre_move_by_a_tenth_and_stay_in_the_image():
    derived = spatial_robustness(Benchmark("otb", [sequence(first_xywh=(2, 100, 25, 50))]))
    boxes = {run.name: (xyxy_to_xywh(run.start_xyxy) + ONE_BASED).tolist() for run in derived}
    # ceil(2.5) = 3 to the left would be -1; the size stays.
    assert boxes["Bolt_sre_left"] == [1, 100, 25, 50]
    assert boxes["Bolt_sre_down"] == [2, 105, 25, 50]
    # Half away from zero: 2 + 12.5 - 15 = -0.5 becomes -1, then 1; 125 - 30 = 95; 30 x 60.
    assert boxes["Bolt_sre_scale_12"] == [1, 95, 30, 60]


@needs_vectors
@pytest.mark.parametrize("case", ["nosuchseq-start1", "tiger1-start1", "nosuchseq-start300"])
def test_segments_of_tre_are_the_toolkits(case, tmp_path):
    found = case_of(f"otb-TRE-splitSeq-{case}-0")
    inputs, expected = found["inputs"], found["outputs"]
    annotation, first = np.array(inputs["rect_anno"], dtype=float), inputs["startFrame"]
    possible = (annotation > 0).all(axis=1)
    if inputs["initOmit"]:
        file = tmp_path / "tiger1.txt"
        file.write_text("\n".join(inputs["initOmit"]))
        possible &= ~read_no_start(file, len(annotation), first)
    assert [start + first for start in segment_starts(possible)] == expected["start_frames"]


def test_segments_run_to_the_end_and_read_nothing_before_they_are_tracked():
    frames = Counted(60)
    original = replace(sequence(frames=frames), absent=np.zeros(60, dtype=bool))
    derived = temporal_robustness(Benchmark("otb", [original]))
    assert (derived.name, len(derived)) == ("otb_tre", 20)
    assert frames.read == []
    # 41 frames leave 20 to the end; ranks floor(1 + i * 41 / 19), and 41 itself.
    starts = [60 - len(run) for run in derived]
    assert starts == [int(i * 41 / 19) for i in range(19)] + [40]
    third = derived.sequences[2]
    assert third.name == "Bolt_tre03"
    assert third.boxes_xyxy.tolist() == original.boxes_xyxy[4:].tolist()
    assert third.frames[0][0, 0, 0] == 4
    assert third.frames[-1][0, 0, 0] == 59
    assert [f[0, 0, 0] for f in third.frames[1:3]] == [5, 6]
    assert third.frame_attributes["even"].tolist() == [True, False] * 28
    assert third.absent.shape == (56,)


def test_no_segment_begins_where_the_target_is_hidden_or_unknown():
    valid = np.ones(60, dtype=bool)
    valid[10:20] = False
    hidden = np.zeros(60, dtype=bool)
    hidden[:3] = True
    original = replace(sequence(), valid=valid)
    derived = temporal_robustness(Benchmark("otb", [original]), {"Bolt": hidden})
    starts = {60 - len(run) for run in derived}
    assert min(starts) == 3
    assert starts & set(range(10, 20)) == set()
    with pytest.raises(ValueError, match=r"TRE: expected a frame .* at least 20 .* 19 frames"):
        segment_starts(np.ones(19, dtype=bool))


def test_short_sequences_repeat_a_start():
    assert segment_starts(np.ones(20, dtype=bool)) == [0] * 20


@pytest.mark.parametrize("transform", [temporal_robustness, spatial_robustness])
def test_runs_start_where_they_should_and_are_scored_by_sequence(transform):
    bench = Benchmark("otb", [sequence("Bolt"), sequence("Car_2", count=45)])
    derived = transform(bench)
    results = {r.name: r for r in track_one_pass(StaticTracker(), derived, lanes=3)}
    for run in derived:
        # A box that never moves is where the run started, and that is not always the ground truth.
        assert results[run.name].boxes_xyxy[-1] == pytest.approx(run.start_xyxy, abs=1e-4)
    scores = derived.protocol.score(derived, results)
    assert list(scores.sequences) == ["Bolt", "Car_2"]
    ours = [run for run in derived if base_name(run.name) == "Bolt"]
    apart = OnePass().score(Benchmark("bolt", ours), results).sequences
    lengths = np.array([len(run) for run in ours])
    auc = np.array([apart[run.name]["success_auc"] for run in ours])
    assert len(set(auc)) > 5
    expected = (lengths * auc).sum() / lengths.sum()  # successes over frames
    assert scores.sequences["Bolt"]["success_auc"] == pytest.approx(expected, abs=1e-12)
    assert scores.attributes["OCC"] == pytest.approx(scores.scalars)
    assert "otb" not in derived.protocol.name
    assert "OTB rule" in derived.protocol.name


def test_only_what_is_evaluated_in_one_pass_can_be_derived():
    other = Benchmark("got", [sequence()], AverageOverlapOnePass())
    with pytest.raises(ValueError, match=r"benchmark got: spatial .* got one-pass .*GOT-10k"):
        spatial_robustness(other)
    with pytest.raises(ValueError, match="needs one that is evaluated in one pass"):
        temporal_robustness(temporal_robustness(Benchmark("otb", [sequence()])))
    lasot = Benchmark("lasot", [sequence()], OnePass("lasot"))
    assert temporal_robustness(lasot).protocol.rule == "lasot"


def test_omitted_ranges_count_images_and_reach_beyond_the_sequence(tmp_path):
    file = tmp_path / "david3.txt"
    file.write_text("1 301\r\n304,305\n\n309 400 \n")
    # Images 300 to 309.
    got = np.flatnonzero(read_no_start(file, 10, first_image=300))
    assert got.tolist() == [0, 1, 4, 5, 9]
    file.write_text("1 5\n7 to 8\n")
    with pytest.raises(ValueError, match=r"david3\.txt, line 2: expected two image numbers, got"):
        read_no_start(file, 10)


def test_names_of_runs_give_way_to_names_of_sequences():
    names = ["Bolt_tre03", "Bolt_sre_left", "Bolt_sre_scale_12", "Skating2-1_tre20", "a_b"]
    assert [base_name(n) for n in names] == ["Bolt"] * 3 + ["Skating2-1", "a_b"]
