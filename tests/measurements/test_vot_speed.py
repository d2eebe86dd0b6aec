import json
import sys

import pytest

from lightning_trackers.evaluation.vot_results import regions_text
from lightning_trackers.metrics.functional.region_overlap import region_array
from measurements import vot_speed
from measurements.vot_speed import Scored, main, measured, our_side, table


def scored(eao=0.4, seconds=0.001):
    return Scored(eao, 0.6, 59, seconds, 2 * seconds, seconds)


@pytest.fixture
def files(tmp_path):
    """One sequence of 120 frames, as many times as VOT2018 has sequences."""
    target = [[10 + t / 4, 12, 20, 16] for t in range(120)]
    entry = {"width": 100, "height": 80, "gt_rect": target}
    annotations = tmp_path / "VOT2018.json"
    annotations.write_text(json.dumps({f"s{i}": entry for i in range(60)}))
    run = region_array([[1], *target[1:]])
    for i in range(60):
        (tmp_path / f"mine/baseline/s{i}").mkdir(parents=True)
        (tmp_path / f"mine/baseline/s{i}/s{i}_001.txt").write_text(regions_text(run))
    return annotations, tmp_path / "mine"


def test_our_side_scores_what_the_files_say(files):
    score = our_side(*files)
    result = score("files")
    assert (result.eao, result.accuracy, result.failures) == (1.0, 1.0, 0.0)
    assert result.all_s >= result.eao_s > 0
    assert score("memory").eao == 1.0


def test_sides_with_other_scores_are_refused():
    sides = {"ours": lambda what: scored(), "pysot": lambda what: scored(eao=0.4 + 1e-8)}
    with pytest.raises(ValueError, match="scores differ"):
        measured(sides, rounds=1)


def test_the_table_shows_medians_and_the_median_ratio():
    times = iter([0.001, 0.001, 0.002, 0.002, 0.004, 0.004])
    sides = {
        "ours": lambda what: scored(seconds=next(times)),
        "pysot": lambda what: scored(seconds=0.02),
    }
    text = table(measured(sides, rounds=3)).splitlines()
    # EAO: ours 1, 2, 4 ms; ratios 20, 10, 5
    assert text[2] == "| EAO | 2.0 | 20.0 | 10.0 |"
    assert text[3].startswith("| A, R, EAO | 4.0 | 40.0 |")


def test_it_runs_alone_and_names_a_dead_companion(files, capsys, tmp_path, monkeypatch):
    annotations, results = files
    arguments = ["--annotations", str(annotations), "--results", str(results), "--rounds", "1"]
    main(arguments)
    assert "| EAO | " in capsys.readouterr().out
    companion = tmp_path / "dead.py"
    companion.write_text("raise SystemExit(3)")
    monkeypatch.setattr(vot_speed, "WORKER", companion)
    with pytest.raises((RuntimeError, BrokenPipeError)):
        main([*arguments, "--pysot", str(tmp_path), "--python", sys.executable])
