import json
import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lightning_trackers.evaluation import Benchmark, Prediction, TrackingSequence
from lightning_trackers.evaluation.supervised import (
    VOTSupervised,
    annotation_of,
    box_of_region,
    target_regions,
)
from lightning_trackers.evaluation.vot_results import SupervisedResult
from lightning_trackers.metrics.functional.region_overlap import region_array

VECTORS = Path(__file__).parents[3] / "../shared/spec/metric_vectors.json"
ONCE = VOTSupervised(2018, repetitions=1)


class Frames(Sequence):
    """Frames that carry their number and watch how they are read."""

    def __init__(self, count, broken=()):
        self.count, self.broken, self.read = count, broken, []
        self._lock = threading.Lock()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert self._lock.acquire(blocking=False), "two threads read one sequence at once"
        try:
            self.read.append(index)
            if index in self.broken:
                raise OSError("cut short")
            return np.full((60, 80, 3), (index, 0, 0), np.uint8)
        finally:
            self._lock.release()


class Loser:
    """Answers with the start box moved by the frames since the start; loses it in some frames."""

    def __init__(self, lost=(), noise=None):
        self.lost, self.noise, self.started, self.groups = set(lost), noise, [], []

    def start(self, frame, box_xyxy):
        self.started.append((int(frame[0, 0, 0]), box_xyxy.tolist()))
        return {"box": box_xyxy, "start": int(frame[0, 0, 0])}

    def step(self, states, frames):
        self.groups.append(len(states))
        predictions = []
        for state, frame in zip(states, frames, strict=True):
            number = int(frame[0, 0, 0])
            box = state["box"] + np.float32((number - state["start"]) / 16)
            if self.noise is not None:
                box = box + np.float32(self.noise.uniform(0, 5))
            if number in self.lost:
                box = np.float32([70, 50, 79, 59])
            predictions.append(Prediction(box, 0.5))
        return predictions


def sequence(name, count, **changes):
    polygon = [10.0, 10, 30, 12, 28, 32, 8, 30]
    return TrackingSequence(
        name,
        Frames(count, **changes),
        np.tile([8.0, 10, 30, 32], (count, 1)),
        np.ones(count, bool),
        frame_attributes={"occlusion": np.arange(count) > 5},
        polygons=np.tile(polygon, (count, 1)),
    )


def codes(result, run=0):
    """The run as letters: s start, f failure, - skipped, x a region."""
    letters = {1.0: "s", 2.0: "f", 0.0: "-"}
    regions = result.runs[run]
    return "".join("x" if not np.isnan(r[1]) else letters[r[0]] for r in regions)


def run(tracker, *sequences, protocol=ONCE, lanes=4):
    return {result.name: result for result in protocol.track(tracker, sequences, lanes=lanes)}


def test_a_failure_skips_four_frames_and_starts_again_in_the_fifth():
    tracker = Loser(lost=[3, 9, 18])
    result = run(tracker, sequence("a", 20))["a"]
    #                      01234567890123456789
    assert codes(result) == "sxxf----sf----sxxxf-"
    assert [frame for frame, _ in tracker.started] == [0, 8, 14]
    # The start box is the polygon's extremes.
    assert all(box == [8, 10, 30, 32] for _, box in tracker.started)
    # Frame 2: two sixteenths of a pixel from the start box 8,10 with size 22,22.
    assert result.runs[0][2, :4].tolist() == [8.125, 10.125, 22, 22]


def test_failure_is_no_common_pixel_with_the_ground_truth_inside_the_frame():
    class Answer(Loser):
        def step(self, states, frames):
            return [Prediction(np.float32(self.box), 1.0) for _ in states]

    touching, outside = Answer(), Answer()
    touching.box = [25.6, 28.6, 40, 40]  # its corner pixel (26, 29) is in the polygon
    outside.box = [30.6, 32.6, 40, 40]
    assert codes(run(touching, sequence("a", 3))["a"]) == "sxx"
    assert codes(run(outside, sequence("a", 3))["a"]) == "sf-"


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_results_do_not_depend_on_lanes_and_frames_are_read_by_one_thread_at_a_time(lanes):
    lengths = {"a": 20, "b": 7, "c": 1, "d": 30, "e": 12}
    tracker = Loser(lost=[3, 9, 18])
    got = run(tracker, *(sequence(n, c) for n, c in lengths.items()), lanes=lanes)
    alone = {n: run(Loser(lost=[3, 9, 18]), sequence(n, c))[n] for n, c in lengths.items()}
    assert set(got) == set(lengths)
    for name, result in got.items():
        np.testing.assert_array_equal(result.runs, alone[name].runs)
    assert max(tracker.groups) <= lanes
    assert max(tracker.groups) > 1 or lanes == 1


def test_the_next_sequence_is_asked_for_only_when_a_lane_is_free():
    taken = []

    def queue():
        for name in "abc":
            taken.append(name)
            yield sequence(name, 4)

    results = ONCE.track(Loser(), queue(), lanes=1)
    next(results)
    assert taken == ["a"]
    assert [r.name for r in results] == ["b", "c"]


def test_a_deterministic_tracker_runs_three_times_and_another_as_often_as_asked():
    protocol = VOTSupervised(2018, repetitions=15)
    same = run(Loser(lost=[3]), sequence("a", 10), protocol=protocol)["a"]
    assert len(same.runs) == 3
    np.testing.assert_array_equal(same.runs[0], same.runs[2])
    random = Loser(noise=np.random.default_rng(0))
    other = run(random, sequence("a", 10), protocol=protocol)["a"]
    assert len(other.runs) == 15
    assert other.run_times_s.shape == (10, 15)
    assert (
        len(run(random, sequence("a", 10), protocol=VOTSupervised(2018, repetitions=2))["a"].runs)
        == 2
    )


def test_runs_that_fail_in_different_frames_do_not_agree():
    class Restless(Loser):
        def start(self, frame, box_xyxy):
            if frame[0, 0, 0] == 0:
                self.lost = {3 + len(self.started)}
            return super().start(frame, box_xyxy)

    protocol = VOTSupervised(2018, repetitions=5)
    assert len(run(Restless(), sequence("a", 7), protocol=protocol)["a"].runs) == 5


def test_every_run_begins_in_the_first_frame_and_skipped_frames_are_not_tracked():
    frames = sequence("a", 10)
    tracker = Loser(lost=[3])
    run(tracker, frames, protocol=VOTSupervised(2018, repetitions=2))
    assert [frame for frame, _ in tracker.started] == [0, 8, 0, 8]
    assert len(tracker.groups) == 2 * 4  # frames 1, 2, 3 and 9
    assert not {5, 6, 7} & set(frames.frames.read)  # 4 was being decoded when it failed


def test_times_are_kept_for_the_frames_in_which_the_tracker_ran():
    result = run(Loser(lost=[3]), sequence("a", 10))["a"]
    assert (result.run_times_s[[0, 1, 2, 3, 8, 9], 0] > 0).all()
    assert (result.run_times_s[4:8, 0] == 0).all()
    assert len(result.times_s) == 1 + 4  # the first start, then steps only


def test_progress_is_told_of_every_tracked_frame():
    seen = []
    list(ONCE.track(Loser(lost=[3]), [sequence("a", 10)], lanes=1, on_frame=seen.append))
    assert seen == ["a"] * 6


def test_an_unreadable_frame_is_named_unless_it_is_skipped():
    with pytest.raises(
        RuntimeError, match="sequence a, frame 3 of 10 could not be read: cut short"
    ):
        run(Loser(), sequence("a", 10, broken=[2]))
    assert codes(run(Loser(lost=[2]), sequence("a", 10, broken=[3]))["a"]) == "sxf----sxx"


def test_a_trackers_bad_answer_or_refusal_is_named():
    class Bad(Loser):
        def step(self, states, frames):
            return [Prediction(np.float32([0, 0, np.nan, 1]), 1.0) for _ in states]

    class Short(Loser):
        def step(self, states, frames):
            return []

    class Refuses(Loser):
        def start(self, frame, box_xyxy):
            raise ValueError("box: too small")

    with pytest.raises(ValueError, match="sequence a, frame 2 of 4: expected a finite box"):
        run(Bad(), sequence("a", 4))
    with pytest.raises(ValueError, match="expected 1 predictions for 1 targets, got 0"):
        run(Short(), sequence("a", 4))
    with pytest.raises(ValueError, match="sequence a, frame 1 of 4: box: too small"):
        run(Refuses(), sequence("a", 4))
    with pytest.raises(ValueError, match="lanes: expected at least 1, got 0"):
        run(Loser(), sequence("a", 4), lanes=0)


def test_the_start_box_of_a_polygon():
    # A diamond around (5, 5): its square sides are 5 sqrt 2, its area 50 half of its bounding box.
    diamond = region_array([[5, 0, 10, 5, 5, 10, 0, 5]])[0]
    assert box_of_region(diamond).tolist() == [0, 0, 10, 10]
    half = (10 * math.sqrt(0.5) + 1) / 2
    expected = [5 - half, 5 - half, 5 + half, 5 + half]
    assert box_of_region(diamond, "area") == pytest.approx(expected, abs=1e-12)
    assert box_of_region(region_array([[3, 4, 10, 20]])[0], "area").tolist() == [3, 4, 13, 24]
    tracker = Loser()
    run(tracker, sequence("a", 2), protocol=VOTSupervised(2018, repetitions=1, start_box="area"))
    assert tracker.started[0][1] != [8, 10, 30, 32]


@pytest.mark.skipif(not VECTORS.exists(), reason="needs metric_vectors.json")
def test_the_area_box_is_that_of_the_got10k_toolkit():
    cases = {c["id"]: c for c in json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]}
    case = cases["got10k-VOT-corner2rect-0"]
    for corners, (x, y, w, h) in zip(case["inputs"]["corners"], case["outputs"], strict=True):
        got = box_of_region(np.array(corners), "area")
        assert got == pytest.approx([x, y, x + w, y + h], abs=1e-9)


def test_ground_truth_is_the_polygon_and_where_there_is_none_the_box():
    mixed = sequence("a", 3)
    polygons = mixed.polygons.copy()
    polygons[1] = np.nan
    mixed = TrackingSequence("a", mixed.frames, mixed.boxes_xyxy, mixed.valid, polygons=polygons)
    regions = target_regions(mixed)
    assert regions[0].tolist() == polygons[0].tolist()
    assert regions[1, :4].tolist() == [8, 10, 22, 22]
    assert np.isnan(regions[1, 4:]).all()
    assert annotation_of(mixed).frame_wh == (80, 60)


def test_scores_of_a_benchmark_by_sequence_tag_and_curve():
    sequences = [sequence("a", 30), sequence("b", 20)]
    benchmark = Benchmark("tiny", sequences, ONCE)
    results = run(Loser(lost=[3]), *sequences)
    scores = ONCE.score(benchmark, results)
    assert ONCE.headline == "eao"
    assert next(iter(scores.scalars)) == "eao"
    assert scores.scalars["failures"] == 2
    assert scores.scalars["robustness"] == pytest.approx(100 * 2 / 50)
    assert scores.sequences["b"]["robustness"] == pytest.approx(100 / 20)
    assert set(scores.attributes) == {"occlusion", "empty"}
    assert scores.attributes["empty"]["failures"] == 2  # frame 4 has no tag
    assert scores.attributes["occlusion"]["failures"] == 0
    curve = scores.curves["expected_overlap"]
    assert curve.x.tolist() == list(range(1, 31))
    assert curve.y[0] == 1
    weighted = VOTSupervised(2018, average="weighted_mean").score(benchmark, results)
    # occlusion: 24 + 14 frames without failure; empty: 12 frames with two
    assert weighted.scalars["failures"] == pytest.approx(12 * 2 / 50)
    assert weighted.scalars["eao"] == pytest.approx(scores.scalars["eao"], nan_ok=True)
    python = VOTSupervised(2018, toolkit="python").score(benchmark, results)
    assert python.scalars["failures"] == pytest.approx(1)  # per sequence
    old = VOTSupervised(2014).score(benchmark, results)
    assert next(iter(old.scalars)) == VOTSupervised(2014).headline == "reliability"
    assert old.curves == {}
    assert "eao" not in old.scalars
    with pytest.raises(ValueError, match=r"tiny: no result for \['b'\]"):
        ONCE.score(benchmark, {"a": results["a"]})
    shorter = {"a": results["a"], "b": SupervisedResult("b", results["a"].runs, np.ones((30, 1)))}
    with pytest.raises(ValueError, match="b: expected runs of 20 regions"):
        ONCE.score(benchmark, shorter)


def test_results_of_other_options_are_refused_and_those_of_the_same_continue(tmp_path):
    (result,) = run(Loser(lost=[3]), sequence("a", 10)).values()
    saved = ONCE.store(tmp_path, "weights").save(result)
    loaded = VOTSupervised(2017, repetitions=1).store(tmp_path, "weights").load(sequence("a", 10))
    np.testing.assert_array_equal(loaded.runs, saved.runs)
    # The boxes were rounded while tracking: what is loaded is what was tracked.
    np.testing.assert_array_equal(loaded.runs, result.runs)
    for other in (
        VOTSupervised(2019, repetitions=1),
        VOTSupervised(2018),
        VOTSupervised(2018, repetitions=1, start_box="area"),
    ):
        with pytest.raises(FileExistsError, match="fingerprint found: weights; vot2016, 1 runs"):
            other.store(tmp_path, "weights")


def test_names_say_what_deviates_and_options_are_checked():
    assert VOTSupervised(2018).name == "supervised experiment, VOT2018 rule"
    assert "pysot" in VOTSupervised(2018, toolkit="pysot").name
    assert "weighted_mean" in VOTSupervised(2018, average="weighted_mean").name
    for options, message in (
        ({"year": 2020}, "year: expected one of"),
        ({"year": 2018, "average": "x"}, "average: expected pooled"),
        ({"year": 2018, "repetitions": 0}, "repetitions: expected at least 1, got 0"),
        ({"year": 2018, "start_box": "x"}, "start_box: expected bounding or area"),
        ({"year": 2018, "toolkit": "x"}, "toolkit: expected matlab"),
    ):
        with pytest.raises(ValueError, match=message):
            VOTSupervised(**options)
