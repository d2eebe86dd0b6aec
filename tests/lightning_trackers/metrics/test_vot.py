import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_trackers.metrics.functional import vot
from lightning_trackers.metrics.functional.region_overlap import region_array
from lightning_trackers.metrics.vot import SupervisedEvaluation


def example(seed, frames, runs):
    rng = np.random.default_rng(seed)
    target = np.full((frames, 8), np.nan)
    target[:, :4] = [20, 20, 30, 25]
    made = []
    for _ in range(runs):
        run = target.copy()
        run[:, :2] += rng.uniform(-8, 8, (frames, 2))
        run[0], run[8] = region_array([[1], [2]])
        run[9:13], run[13] = region_array([[0]] * 4), region_array([[1]])[0]
        made.append(run)
    tags = {"occlusion": rng.random(frames) < 0.5}
    return vot.Annotation(f"s{seed}", target, (100, 80), tags), made


RULE = replace(vot.RULES[2018], eao_interval=(5, 25))


def test_the_class_gives_what_the_functions_give():
    metric = SupervisedEvaluation(RULE)
    overlaps = []
    for seed, (frames, runs) in enumerate([(40, 1), (30, 2), (25, 3)]):
        annotation, made = example(seed, frames, runs)
        metric.update(annotation, made)
        overlaps.append(vot.sequence_overlaps(annotation, made, RULE))
    got = metric.compute()
    row, curve = vot.accuracy_robustness(overlaps), vot.expected_overlap_curve(overlaps)
    assert got["accuracy"].item() == row.accuracy
    assert got["robustness"].item() == row.robustness
    assert got["failures"].item() == row.failures == 3
    assert got["eao"].item() == vot.expected_average_overlap(curve, (5, 25))
    assert got["expected_overlap_curve"].tolist() == curve.tolist()


def test_what_ranks_gather_is_scored_as_if_one_had_seen_all():
    parts = [SupervisedEvaluation(RULE) for _ in range(2)]
    whole = SupervisedEvaluation(RULE)
    for seed in range(3):
        for metric in (parts[seed % 2], whole):
            metric.update(*example(seed, 30 + seed, 1))
    gathered = SupervisedEvaluation(RULE)
    gathered.kept = torch.cat([torch.cat(part.kept) for part in parts])  # what "cat" leaves
    gathered._update_count = 3
    got, expected = gathered.compute(), whole.compute()
    for key in ("accuracy", "eao"):
        assert got[key].item() == pytest.approx(expected[key].item(), abs=1e-14)
    assert got["failures"] == expected["failures"]


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")
def test_nothing_added_is_nan_not_an_error():
    got = SupervisedEvaluation(RULE).compute()
    assert math.isnan(got["eao"])
    assert len(got["expected_overlap_curve"]) == 0


def test_a_year_without_eao_has_none_and_reset_forgets():
    metric = SupervisedEvaluation(vot.RULES[2013])
    metric.update(*example(0, 30, 1))
    assert "eao" not in metric.compute()
    metric.reset()
    metric.update(*example(1, 25, 1))
    assert metric.compute()["robustness"].item() == pytest.approx(100 / 25)


def test_the_python_toolkits_reading_can_be_chosen():
    rule = replace(RULE, toolkit="python", rasterisation="vot2020")
    metric = SupervisedEvaluation(rule)
    metric.update(*example(0, 40, 1))
    assert metric.compute()["failures"].item() == 1
    assert len(metric.compute()["expected_overlap_curve"]) == 40 - 13
