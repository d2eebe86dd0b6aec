import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_trackers.evaluation.one_pass import TrackResult
from lightning_trackers.evaluation.ope_protocol import AverageOverlapOnePass, OnePass
from lightning_trackers.evaluation.results import ResultStore
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.static import StaticTracker
from lightning_trackers.metrics import AverageOverlap, OnePassEvaluation

FRAME = np.zeros((60, 80, 3), np.uint8)


def sequence(name, count, speed, *attributes):
    """A target of 20 x 20 px that moves to the right, ``speed`` px a frame."""
    left = 5 + speed * np.arange(count, dtype=float)
    boxes = np.stack([left, np.full(count, 10.0), left + 20, np.full(count, 30.0)], axis=1)
    valid = np.ones(count, dtype=bool)
    return TrackingSequence(name, [FRAME] * count, boxes, valid, frozenset(attributes))


def benchmark(protocol=None):
    slow, fast = sequence("slow", 11, 1, "SV"), sequence("fast", 4, 10, "SV", "FM")
    return Benchmark("drawn", [slow, fast], protocol)


def tracked(protocol, sequences):
    return {r.name: r for r in protocol.track(StaticTracker(), sequences, lanes=2)}


@pytest.mark.parametrize("rule", ["otb", "lasot", "trackingnet", "got10k"])
def test_scores_are_those_of_the_metric(rule):
    protocol, bench = OnePass(rule), benchmark()
    results = tracked(protocol, bench)
    scores = protocol.score(bench, results)
    metric = OnePassEvaluation(rule)
    for s in bench:
        alone = metric(
            torch.from_numpy(results[s.name].boxes_xyxy),
            torch.from_numpy(s.boxes_xyxy),
            torch.from_numpy(s.valid),
        )
        for key, value in scores.sequences[s.name].items():
            assert value == pytest.approx(alone[key].item(), abs=1e-12)
    expected = metric.compute()
    assert next(iter(scores.scalars)) == protocol.headline
    for key, value in scores.scalars.items():
        assert value == pytest.approx(expected[key].item(), abs=1e-12)
    for key, curve in scores.curves.items():
        np.testing.assert_allclose(curve.y, expected[f"{key}_curve"], rtol=0, atol=1e-12)
        assert curve.x.shape == curve.y.shape
    assert list(scores.sequences) == ["slow", "fast"]
    # FM is carried by one sequence, SV by both.
    assert scores.attributes["FM"] == scores.sequences["fast"]
    assert scores.attributes["SV"] == pytest.approx(scores.scalars)


def test_absent_frames_reach_the_rule():
    bench = benchmark()
    absent = np.array([False] * 6 + [True] * 5)
    hidden = Benchmark("drawn", [replace(bench.sequences[0], absent=absent)])
    result = TrackResult("slow", hidden.sequences[0].boxes_xyxy, np.ones(11), np.ones(11))
    scores = OnePass("lasot").score(hidden, {"slow": result})
    # Perfect in 6 of 11 frames, at 20 of 21 thresholds.
    assert scores.scalars["success_auc"] == pytest.approx(6 / 11 * 20 / 21)
    assert scores.scalars["precision_20px"] == pytest.approx(6 / 11)


def test_runs_of_one_sequence_are_scored_together():
    bench = benchmark()
    protocol = OnePass(base_name=lambda name: "both", title="drawn")
    results = tracked(protocol, bench)
    together = protocol.score(bench, results)
    apart = OnePass().score(bench, results).sequences
    assert list(together.sequences) == ["both"]
    expected = (11 * apart["slow"]["success_auc"] + 4 * apart["fast"]["success_auc"]) / 15
    assert together.scalars["success_auc"] == pytest.approx(expected)
    assert protocol.name == "drawn, OTB rule"


def test_average_overlap_scores_are_those_of_the_metric():
    protocol, bench = AverageOverlapOnePass(), benchmark()
    results = tracked(protocol, bench)
    scores = protocol.score(bench, results)
    metric = AverageOverlap()
    for s in bench:
        alone = metric(
            torch.from_numpy(results[s.name].boxes_xyxy),
            torch.from_numpy(s.boxes_xyxy),
            torch.from_numpy(s.valid),
            FRAME.shape[:2],
        )
        for key, value in scores.sequences[s.name].items():
            assert value == pytest.approx(alone[key].item(), abs=1e-12)
    expected = metric.compute()
    # Two attributes on one sequence are no class.
    assert scores.scalars == pytest.approx({k: expected[k].item() for k in scores.scalars})
    assert next(iter(scores.scalars)) == protocol.headline == "average_overlap"
    np.testing.assert_allclose(scores.curves["success"].y, expected["success_curve"], atol=1e-12)


def test_classes_weigh_alike_in_the_means_over_classes():
    sequences = [
        sequence("a", 11, 0, "dog"),
        sequence("b", 3, 0, "dog"),
        sequence("c", 4, 9, "cat"),
    ]
    bench, protocol = Benchmark("drawn", sequences), AverageOverlapOnePass()
    results = tracked(protocol, bench)
    results["b"].boxes_xyxy[1:] += 500  # outside: overlap 0
    scores = protocol.score(bench, results)
    # dog: (1 + 0) / 2. cat: shifts of 9, 18 and 27 of 20 px: 11 / 29, 2 / 38 and 0.
    cat = (11 / 29 + 2 / 38) / 3
    assert scores.scalars["mean_average_overlap"] == pytest.approx((0.5 + cat) / 2)
    pooled = (10 * 1 + 2 * 0 + 3 * cat) / 15
    assert scores.scalars["average_overlap"] == pytest.approx(pooled)
    assert scores.attributes["dog"]["success_rate_50"] == 0.5


@pytest.mark.parametrize("protocol", [OnePass(), AverageOverlapOnePass()])
def test_missing_and_foreign_results_are_named(protocol):
    bench = benchmark()
    results = tracked(protocol, bench)
    with pytest.raises(ValueError, match="benchmark drawn: no result for fast"):
        protocol.score(bench, {"slow": results["slow"]})
    results["fast"] = replace(results["slow"], name="fast")
    with pytest.raises(ValueError, match=r"sequence fast: expected .* 4 frames, got 11"):
        protocol.score(bench, results)


def test_a_protocol_tracks_and_stores(tmp_path):
    protocol, bench = OnePass(), benchmark()
    seen = []
    results = list(protocol.track(StaticTracker(), bench, lanes=1, on_frame=seen.append))
    assert seen == ["slow"] * 11 + ["fast"] * 4
    store = protocol.store(tmp_path, "weights")
    assert isinstance(store, ResultStore)
    saved = store.save(results[1])
    loaded = protocol.store(tmp_path, "weights").load(bench.sequences[1])
    np.testing.assert_array_equal(saved.boxes_xyxy, loaded.boxes_xyxy)
    with pytest.raises(FileExistsError):
        protocol.store(tmp_path, "other weights")


def test_a_target_that_is_never_visible_has_no_average_overlap():
    hidden = replace(sequence("hidden", 5, 0, "dog"), valid=np.zeros(5, dtype=bool))
    bench, protocol = Benchmark("drawn", [hidden]), AverageOverlapOnePass()
    scores = protocol.score(bench, tracked(protocol, bench))
    assert all(math.isnan(value) for value in scores.sequences["hidden"].values())


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match=r"rule: expected one of .*, got 'vot'"):
        OnePass("vot")
