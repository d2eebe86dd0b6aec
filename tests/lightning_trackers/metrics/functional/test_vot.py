import json
import math
from pathlib import Path

import numpy as np
import pytest

from lightning_trackers.metrics.functional.region_overlap import region_array
from lightning_trackers.metrics.functional.vot import (
    RULES,
    TAGS,
    AccuracyRobustness,
    Annotation,
    Rule,
    SequenceOverlaps,
    accuracy_robustness,
    expected_average_overlap,
    expected_overlap_curve,
    frame_accuracies,
    python_accuracy_robustness,
    rule_of,
    sequence_overlaps,
    tag_mean,
    tag_table,
)

SHARED = Path(__file__).parents[4] / "../shared"
VECTORS = SHARED / "spec/metric_vectors.json"


def overlaps_of(runs, tags=None):
    """Runs as lists: a number is an overlap, 's' a start, 'f' a failure, '-' no result."""
    values = np.array([[x if isinstance(x, float | int) else np.nan for x in run] for run in runs])
    flags = {c: np.array([[x == c for x in run] for run in runs]) for c in "sf"}
    tags = np.zeros((5, values.shape[1]), bool) if tags is None else np.array(tags, bool)
    return SequenceOverlaps(values, values, flags["s"], flags["f"], tags)


FAILS = ["s", 0.8, 0.6, "f", "-", "-", "-", "-", "s", 0.4]


def test_a_survivor_counts_as_long_as_its_sequence_and_a_failure_as_zero_for_ever():
    # Survivor: means of frames 2..N = .5, .5 then its sequence ends.
    # Failed fragment .8 .6 0 0 0 0 0 0 (0): sums .8 1.4 1.4 ... over N - 1 = 1, 2, 3 ...
    # Second fragment starts with the new start: .4 and ends with the sequence.
    sequences = [overlaps_of([["s", 0.5, 0.5]]), overlaps_of([FAILS])]
    curve = expected_overlap_curve(sequences)
    expected = [
        1,
        (0.5 + 0.8 + 0.4) / 3,  # N = 2: all three
        (0.5 + 0.7) / 2,  # N = 3: the second fragment has two frames
        *[1.4 / (n - 1) for n in range(4, 11)],  # only what failed
    ]
    np.testing.assert_allclose(curve, expected, rtol=0, atol=1e-15)
    # EAO over the lengths 2 to 4
    assert expected_average_overlap(curve, (2, 4)) == pytest.approx(
        (1.7 / 3 + 0.6 + 1.4 / 3) / 3, abs=1e-15
    )


def test_python_toolkit_cuts_fragments_at_the_failure_and_the_interval_one_later():
    sequences = [overlaps_of([["s", 0.5, 0.5]]), overlaps_of([FAILS])]
    curve = expected_overlap_curve(sequences, toolkit="python")
    # The longest fragment has 3 frames: s .5 .5 | s .8 .6 (failed) | s .4
    np.testing.assert_allclose(curve, [0, 1.7 / 3, (0.5 + 0.7) / 2], atol=1e-7)  # single precision
    assert expected_average_overlap(curve, (1, 2), "python") == pytest.approx(
        (1.7 / 3 + 0.6) / 2, abs=1e-7
    )


def test_a_failure_too_late_for_a_new_start_leaves_its_fragment_as_if_it_survived():
    long = overlaps_of([["s", *[0.5] * 19]])
    late = overlaps_of([["s", *[0.5] * 6, "f", "-", "-"]])  # frame 8 of 10
    curve = expected_overlap_curve([long, late])
    assert curve[9] == pytest.approx((0.5 + 6 * 0.5 / 9) / 2)
    assert curve[10] == pytest.approx(0.5)  # the late one has ended; zeros would make it 0.4
    # frame 6 of 10: a start in frame 11, just behind the end, counts for pysot only
    behind = overlaps_of([["s", *[0.5] * 4, "f", "-", "-", "-", "-"]])
    assert expected_overlap_curve([long, behind])[10] == pytest.approx(0.5)
    weight = 10 / 11  # pysot divides by the 11 frames that the fragment should have had
    assert expected_overlap_curve([long, behind], toolkit="pysot")[10] == pytest.approx(
        (0.5 + weight * 2 / 10) / (1 + weight), abs=1e-7
    )


def test_runs_of_a_sequence_share_its_weight():
    twice = overlaps_of([["s", 0.2], ["s", 0.4]])
    once = overlaps_of([["s", 0.9]])
    assert expected_overlap_curve([twice, once])[1] == pytest.approx((0.3 + 0.9) / 2)
    assert expected_overlap_curve([twice, once], toolkit="python")[1] == pytest.approx(
        (0.2 + 0.4 + 0.9) / 3
    )


def test_a_tag_weighs_fragments_by_their_share_of_tagged_frames():
    tags = np.zeros((5, 4), bool)
    tags[0, :1] = True  # camera_motion in one of four frames
    a, b = overlaps_of([["s", 0.2, 0.2, 0.2]], tags), overlaps_of([["s", 0.8]], np.ones((5, 2)))
    curve = expected_overlap_curve([a, b], "camera_motion")
    assert curve[1] == pytest.approx((0.25 * 0.2 + 0.8) / 1.25)
    assert expected_overlap_curve([a, b], "empty")[1] == pytest.approx(0.2)


def test_the_empty_tag_counts_the_frames_of_the_whole_sequence():
    tags = np.zeros((5, 10), bool)
    tags[0, 5:] = True  # five frames without a tag, all in the first fragment of nine
    curve = expected_overlap_curve([overlaps_of([FAILS], tags)], "empty")
    first, second = 5 / 9, 5 / 2  # sic: the second fragment of two has none of them
    assert curve[1] == pytest.approx((first * 0.8 + second * 0.4) / (first + second))


def test_accuracy_leaves_out_ten_frames_from_each_start():
    run = ["s", *[0.1] * 9, 0.5, 0.7]
    assert accuracy_robustness([overlaps_of([run])]).accuracy == pytest.approx(0.6)
    assert accuracy_robustness([overlaps_of([run])], burn_in=1).accuracy == pytest.approx(
        (0.9 + 1.2) / 11
    )


def test_accuracy_averages_runs_in_a_frame_before_frames():
    # Frame 11: both runs count, mean .4; frame 12: only the first, 1.0; the mean of frames is .7.
    runs = [["s", *[0.1] * 9, 0.2, 1.0], ["s", *[0.1] * 9, 0.6, "f"]]
    result = accuracy_robustness([overlaps_of(runs)])
    assert result.accuracy == pytest.approx(0.7)
    assert result.failures == 0.5
    assert result.frames == 12
    assert result.robustness == pytest.approx(100 * 0.5 / 12)
    assert result.reliability == pytest.approx(math.exp(-30 * 0.5 / 12))


def test_burn_in_is_counted_over_the_frames_that_a_tag_leaves():
    tags = np.zeros((5, 14), bool)
    tags[2, [0, 12, 13]] = True  # occlusion: the start and two frames long after it
    tags[3, [12, 13]] = True  # size change: without the start
    one = overlaps_of([["s", *[0.1] * 11, 0.5, 0.7]], tags)
    # The start and the two frames after it *among the tagged* are within ten: nothing counts.
    assert np.isnan(frame_accuracies(one, "occlusion")).all()
    assert math.isnan(accuracy_robustness([one], "occlusion").accuracy)
    assert accuracy_robustness([one], "size_change").accuracy == pytest.approx(0.6)


def test_the_mean_over_tags_weighs_by_frames_and_leaves_unknown_accuracies_out():
    table = {
        "all": AccuracyRobustness(9.0, 9.0, 9),
        "occlusion": AccuracyRobustness(0.2, 1.0, 10),
        "empty": AccuracyRobustness(0.6, 4.0, 30),
        "size_change": AccuracyRobustness(math.nan, 0.0, 20),
        "motion_change": AccuracyRobustness(math.nan, 0.0, 0),
    }
    mean = tag_mean(table)
    assert mean.accuracy == pytest.approx((10 * 0.2 + 30 * 0.6) / 40)
    assert mean.failures == pytest.approx((10 * 1 + 30 * 4) / 60)
    assert tag_mean(table, weighted=False).accuracy == pytest.approx(0.4)
    assert tag_mean(table, weighted=False).failures == pytest.approx(5 / 3)
    assert math.isnan(tag_mean({"all": table["all"]}).accuracy)


def test_eao_asks_only_for_lengths_that_exist():
    curve = expected_overlap_curve([overlaps_of([["s", 0.5, 0.5]])])
    assert expected_average_overlap(curve, (3, 9)) == pytest.approx(0.5)
    assert math.isnan(expected_average_overlap(curve, (4, 9)))


def test_the_two_bounds_differ_by_the_last_row_and_column():
    """Accuracy counts up to W and H, EAO up to W - 1 and H - 1."""
    # Columns 0-8 of the prediction and 4-8 of the target; bounds of 8 keep all, of 7 one less.
    annotation = Annotation("a", region_array([[0, 0, 4, 4], [4, 0, 4, 4]]), (8, 8))
    run = region_array([[1], [0, 0, 8, 4]])
    got = sequence_overlaps(annotation, [run], RULES[2018])
    assert got.accuracy[0, 1] == pytest.approx(5 / 9, abs=1e-7)
    assert got.eao[0, 1] == pytest.approx(4 / 8, abs=1e-7)
    unbounded = sequence_overlaps(annotation, [run], Rule("vot2016", bounded_eao=False))
    assert unbounded.eao[0, 1] == pytest.approx(5 / 9, abs=1e-7)


def test_the_years_differ_as_documented():
    assert rule_of(2018) == Rule("vot2016", (100, 356))
    assert rule_of(2019).rasterisation == "vot2019"
    assert rule_of(2019).eao_interval == (46, 291)
    assert rule_of(2019, "pysot").rasterisation == "vot2016"
    assert rule_of(2015).bounded_eao is False
    assert rule_of(2013).eao_interval is None
    assert rule_of(2018, "python").rasterisation == "vot2020"
    with pytest.raises(ValueError, match=r"year: expected one of \[2013, .*2019\], got 2020"):
        rule_of(2020)
    with pytest.raises(ValueError, match="toolkit: expected matlab, pysot or python, got 'x'"):
        rule_of(2018, "x")
    with pytest.raises(ValueError, match="expected 1 <= low <= high"):
        Rule("vot2016", (9, 3))


def test_bad_runs_and_tags_are_named():
    annotation = Annotation("bolt", region_array([[0, 0, 4, 4]] * 3), (8, 8))
    with pytest.raises(ValueError, match=r"bolt: expected runs of 3 regions.*got \[\(2, 8\)\]"):
        sequence_overlaps(annotation, [region_array([[1], [2]])], RULES[2018])
    with pytest.raises(ValueError, match=r"bolt: .* got no run"):
        sequence_overlaps(annotation, [], RULES[2018])
    with pytest.raises(ValueError, match=r"tag: expected one of .* got 'fog'"):
        accuracy_robustness([overlaps_of([["s", 0.2]])], "fog")


# --- vectors of the official toolkits ------------------------------------------------------------


def load_cases():
    if not VECTORS.exists():
        return {}
    cases = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
    return {case["id"]: case for case in cases}


CASES = load_cases()
needs_vectors = pytest.mark.skipif(not CASES, reason="needs metric_vectors.json")


def sequences_of(name, rule):
    inputs = CASES[name]["inputs"]
    inputs = CASES[inputs["same_as"]]["inputs"] if "same_as" in inputs else inputs
    found = []
    for key, value in inputs.items():
        tags = {tag: np.array(flags, bool) for tag, flags in value.get("tags", {}).items()}
        size = (value["width"], value["height"])
        annotation = Annotation(key, region_array(value["gt"]), size, tags)
        runs = value["trajectories"] if "trajectories" in value else [value["trajectory"]]
        found.append(sequence_overlaps(annotation, [region_array(run) for run in runs], rule))
    return found


def eaos(sequences, intervals, toolkit, tags=("all",)):
    curves = [expected_overlap_curve(sequences, tag, toolkit) for tag in tags]
    return [[expected_average_overlap(c, pair, toolkit) for c in curves] for pair in intervals]


def no_nan(values):
    return np.array([math.nan if value is None else value for value in values], dtype=float)


@needs_vectors
@pytest.mark.parametrize("repetitions", [1, 2])
def test_pysot_accuracy_robustness_and_eao(repetitions):
    case = CASES.get(f"pysot-AR-EAO-reps{repetitions}-0")
    sequences = sequences_of(case["id"], rule_of(2018, "pysot"))
    expected = case["outputs"]
    result = accuracy_robustness(sequences)
    assert result.accuracy == pytest.approx(expected["accuracy"], abs=1e-12)
    assert result.failures == expected["lost_number"]
    assert result.robustness == pytest.approx(expected["robustness"], abs=1e-12)
    for sequence, (key, per_frame) in zip(
        sequences, expected["per_video_overlaps"].items(), strict=True
    ):
        np.testing.assert_allclose(frame_accuracies(sequence), no_nan(per_frame), atol=1e-12)
        assert sequence.failed.sum(axis=1).tolist() == expected["failures"][key]
    (got,) = eaos(sequences, [(8, 30)], "pysot", expected["eao"])
    assert got == pytest.approx(list(expected["eao"].values()), abs=1e-9)


@needs_vectors
@pytest.mark.parametrize(("era", "year"), [("pre", 2018), ("post", 2019)])
@pytest.mark.parametrize("repetitions", [1, 2])
def test_matlab_accuracy_failures_tags_and_eao(era, year, repetitions):
    expected = CASES[f"votlegacy-{era}-AR-EAO-reps{repetitions}-0"]["outputs"]
    sequences = sequences_of(f"votlegacy-{era}-AR-EAO-reps{repetitions}-0", rule_of(year))
    (got,) = eaos(sequences, [(8, 30)], "matlab", expected["eao_tags"])
    assert got == pytest.approx(expected["eao"], abs=1e-9)
    curves = [expected_overlap_curve(sequences, tag) for tag in expected["eao_tags"]]
    np.testing.assert_allclose(np.transpose(curves), expected["eao_curve"], atol=1e-9)
    assert_ar(tag_table(sequences), expected["ar"])
    for sequence, runs in zip(sequences, expected["per_sequence"].values(), strict=True):
        for r, run in enumerate(runs.values()):
            np.testing.assert_allclose(sequence.eao[r], no_nan(run["frames_eao"]), atol=1e-9)
            frames = run["failure_frames_1based"]
            frames = frames if isinstance(frames, list) else [frames]
            assert (np.flatnonzero(sequence.failed[r]) + 1).tolist() == frames


def assert_ar(table, expected):
    for tag, accuracy, failures, frames in zip(
        expected["tags"],
        expected["accuracy"],
        expected["failures"],
        expected["frames"],
        strict=True,
    ):
        row = table[tag.removeprefix("tag_")]
        assert row.accuracy == pytest.approx(accuracy, abs=1e-9)
        assert (row.failures, row.frames) == (failures, frames)
    pooled = expected["pooled"]
    assert table["all"].accuracy == pytest.approx(pooled["accuracy"], abs=1e-9)
    assert table["all"].robustness == pytest.approx(pooled["per100"], abs=1e-9)
    for weighted, key in ((True, "weighted_mean"), (False, "mean")):
        mean = tag_mean(table, weighted=weighted)
        assert mean.accuracy == pytest.approx(expected[key]["accuracy"], abs=1e-9)
        assert mean.failures == pytest.approx(expected[key]["failures"], abs=1e-9)


@needs_vectors
def test_matlab_with_the_settings_of_2015():
    expected = CASES["votlegacy-vot2015-settings-0"]["outputs"]
    sequences = sequences_of("votlegacy-vot2015-settings-0", rule_of(2015))
    (got,) = eaos(sequences, [(8, 30)], "matlab")
    assert got == [pytest.approx(expected["eao"], abs=1e-9)]
    assert_ar(tag_table(sequences), expected["ar"])


@needs_vectors
@pytest.mark.parametrize(
    ("name", "year", "toolkit"),
    [
        ("pysot-EAO", 2018, "pysot"),
        ("votlegacy-pre-EAO", 2018, "matlab"),
        ("votlegacy-post-EAO", 2019, "matlab"),
    ],
)
def test_late_failures_and_official_intervals(name, year, toolkit):
    rule = rule_of(year, toolkit)
    expected = CASES[f"{name}-late-failure-0"]["outputs"]["eao"]
    expected = expected["all"] if toolkit == "pysot" else expected
    (got,) = eaos(sequences_of(f"{name}-late-failure-0", rule), [(5, 28)], toolkit)
    assert got == [pytest.approx(expected, abs=1e-9)]
    expected = CASES[f"{name}-official-intervals-0"]["outputs"]
    expected = list(expected.values()) if toolkit == "pysot" else np.ravel(expected["eao"])
    intervals = [RULES[y].eao_interval for y in (2016, 2018, 2019)]
    got = eaos(sequences_of(f"{name}-official-intervals-0", rule), intervals, toolkit)
    assert np.ravel(got) == pytest.approx(expected, abs=1e-9)


@needs_vectors
def test_pysot_expected_overlap_of_given_fragments():
    case = CASES["pysot-expected_overlap-0"]
    fragments = np.array([no_nan(row) for row in case["inputs"]["fragments"]])
    weights = np.array(case["inputs"]["fweights"])
    # One run a fragment that survives to where its NaN begin. A tag carried by a share w of the
    # frames weighs a fragment by w, so weights become tags over a thousand times longer sequences
    # elsewhere; here they are compared through the weighted mean itself.
    sums = np.zeros(fragments.shape[1])
    totals = np.zeros(fragments.shape[1])
    for row, weight in zip(fragments, weights, strict=True):
        length = int(np.isfinite(row).sum())
        curve = expected_overlap_curve([overlaps_of([row[:length].tolist()])])
        sums[:length] += weight * curve
        totals[:length] += weight
    assert sums / totals == pytest.approx(case["outputs"], abs=2e-6)


@needs_vectors
def test_pysot_failures_of_a_trajectory():
    case = CASES["pysot-calculate_failures-0"]
    run = region_array(case["inputs"]["trajectory"])
    annotation = Annotation("a", region_array([[0, 0, 9, 9]] * len(run)), (20, 20))
    got = sequence_overlaps(annotation, [run], rule_of(2018, "pysot"))
    assert np.flatnonzero(got.failed[0]).tolist() == case["outputs"]["indices"]
    assert accuracy_robustness([got]).failures == case["outputs"]["count"]


@needs_vectors
def test_vot_toolkit_accuracy_robustness_and_eao():
    case = CASES["vot-supervised-AR-EAO-0"]
    sequences = sequences_of(case["id"], rule_of(2018, "python"))
    expected = case["outputs"]
    result = python_accuracy_robustness(sequences)
    assert result.accuracy == pytest.approx(expected["accuracy"], abs=1e-9)
    assert result.failures == pytest.approx(expected["failures_weighted"], abs=1e-9)
    assert [result.reliability, result.accuracy] == pytest.approx(expected["ar_point"], abs=1e-9)
    curve = expected_overlap_curve(sequences, toolkit="python")
    assert curve == pytest.approx(expected["eao_curve"], abs=2e-6)
    eao = expected_average_overlap(curve, (8, 30), "python")
    assert eao == pytest.approx(expected["eao"], abs=2e-6)


@needs_vectors
def test_vot_toolkit_command_line_analysis():
    case = CASES["vot-cli-analysis-0"]
    sequences = []
    for key, value in case["inputs"].items():
        annotation = Annotation(key, region_array(value["gt"]), (value["width"], value["height"]))
        runs = [region_array(run) for run in value["baseline"]]
        sequences.append(sequence_overlaps(annotation, runs, rule_of(2018, "python")))
    expected = case["outputs"]["baseline"]
    result = python_accuracy_robustness(sequences)
    assert result.accuracy == pytest.approx(expected["accuracy"], abs=1e-9)
    assert result.failures == pytest.approx(expected["robustness_failures"], abs=1e-9)
    assert [result.reliability, result.accuracy] == pytest.approx(expected["ar_point"], abs=1e-9)


def test_every_tag_has_its_own_row():
    sequence = overlaps_of([["s", 0.5]], np.eye(5, 2))
    assert [sequence.tagged(tag).tolist() for tag in TAGS[:2]] == [[True, False], [False, True]]
    assert list(tag_table([sequence])) == ["all", *TAGS, "empty"]
