import csv
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf

from experiments.config import ConfigError
from experiments.tables.cells import Budget, composed, resolved, row_cells
from experiments.tables.collecting import collect
from experiments.tables.definition import read_table
from experiments.tables.figures import draw_figures
from experiments.tables.finished import Runs
from experiments.tables.pages import write_pages
from experiments.tables.summary import summarise
from experiments.tables.wandb_runs import fill
from tests.experiments.tables.finished_runs import write_run
from tests.experiments.tables.test_definition import content

BUDGET = Budget(seeds=(0, 1, 2), sequences=4, frames=12)
SHIFT_PX = {("siamfc", 0): 30.0, ("siamfc", 1): 34.0, ("siamfc_sl", 0): 4.0, ("siamfc_sl", 1): 5.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table of three rows and the folder of its runs; seed 2 was never run."""
    rows = {
        "siamfc_sl": {"paper": {"otb2015": {"success": 0.6, "precision": 0.8}}, "exp": "siamfc_sl"},
        "siamfc": {"paper": {"otb2015": {"success": 0.5, "precision": 0.9}}, "exp": "siamfc"},
        "atom": {"paper": {"otb2015": {"success": 0.66}}},
        "later": {"paper": {"otb2015": {"success": 0.7}}, "exp": "no_such_exp"},
    }
    described = {**content("gradnet/table3"), "metrics": ["precision", "success"], "rows": rows}
    table = read_table("gradnet/table3", described)
    folder = tmp_path_factory.mktemp("runs")
    for (name, seed), shift_px in SHIFT_PX.items():
        cell = row_cells(table, table.rows[name], BUDGET)[seed]
        write_run(folder / f"{name}_{seed}", cell, shift_px=shift_px, budget=BUDGET)
    return table, folder


@pytest.fixture
def collected(made):
    table, folder = made
    return collect(table, BUDGET, Runs.below([folder]))


def entry(collected, row, metric="success"):
    return next(e for e in summarise(collected)[row] if e.metric == metric)


def test_means_and_deviations_are_those_of_the_seeds(collected):
    found = entry(collected, "siamfc_sl").ours
    scores = [
        collected.rows["otb2015"]["siamfc_sl"].measured[s].scores["success_auc"] for s in (0, 1)
    ]
    assert list(found.values) == [0, 1]
    assert found.interval.mean == pytest.approx(np.mean(scores))
    assert found.std == pytest.approx(abs(scores[0] - scores[1]) / np.sqrt(2))
    assert found.interval.low < found.interval.mean < found.interval.high


def test_the_difference_stands_beside_the_paper_s_and_its_sign_is_compared(collected):
    (success,) = entry(collected, "siamfc_sl").differences
    assert success.baseline == "siamfc"
    assert success.paper == pytest.approx(0.1)
    assert success.ours.low > 0
    assert success.verdict == "agrees"
    assert success.power == "no number of seeds on 4 sequences, or 21 sequences with 2 seeds"
    (precision,) = entry(collected, "siamfc_sl", "precision").differences
    assert precision.paper == pytest.approx(-0.1)
    assert precision.verdict == "disagrees"
    # 0.188 and 0.188 in the paper: there is no sign that ours could have.
    assert replace(precision, paper=0.0).verdict == "equal in the paper"
    assert entry(collected, "siamfc").differences == ()


def test_a_larger_difference_in_the_paper_takes_fewer_seeds_and_sequences(collected):
    rows = dict(collected.table.rows)
    rows["siamfc_sl"] = replace(rows["siamfc_sl"], paper={"otb2015": {"success": 0.8}})
    larger = replace(collected, table=replace(collected.table, rows=rows))
    (success,) = entry(larger, "siamfc_sl").differences
    assert success.power == "1 seed on 4 sequences, or 2 sequences with 2 seeds"


def test_missing_cells_say_why_and_no_number_stands_in_them(collected):
    assert entry(collected, "siamfc").missing == ("seed 2: not run: siamfc, profile laptop",)
    later = entry(collected, "later")
    assert later.missing[0].startswith("exp not there: conf/exp/no_such_exp.yaml")
    assert not later.ours.values
    atom = entry(collected, "atom")
    assert atom.published_only
    assert not atom.ours.values
    assert atom.paper == 0.66


def test_the_pages_say_the_same_in_four_formats(collected, tmp_path):
    figures = draw_figures(collected, tmp_path / "plots")
    write_pages(tmp_path, collected, "python -m experiments.tables", figures)
    texts = {f: (tmp_path / f).read_text() for f in ("table.md", "table.tex", "index.html")}
    mean = f"{100 * entry(collected, 'siamfc_sl').ours.interval.mean:.1f} ± "
    for name, text in texts.items():
        assert mean in text, name
        assert "Not the paper" in text, name
        assert "profile=laptop" in text, name
        assert "disagrees" in text, name
        assert "0123abc" in text, name
        assert "Toy CPU, 3 cores" in text, name
    assert "| atom | – | – | 66.0 | – |" in texts["table.md"]
    assert "| later | – | missing | 70.0 | missing |" in texts["table.md"]
    assert r"\begin{tabular}{lrrrr}" in texts["table.tex"]
    assert figures == ["procedural_test_success", "procedural_test_precision", "procedural_test_normalized_precision"]  # fmt: skip
    for figure in figures:
        assert (tmp_path / "plots" / f"{figure}.png").is_file()
    with (tmp_path / "table.csv").open() as lines:
        rows = {(r["row"], r["metric"]): r for r in csv.DictReader(lines)}
    assert float(rows["siamfc_sl", "success"]["paper_difference"]) == pytest.approx(0.1)
    assert rows["siamfc_sl", "success"]["seeds"] == "0 1"
    assert rows["later", "success"]["mean"] == rows["atom", "success"]["mean"] == ""


def test_a_run_of_another_configuration_is_not_taken(made, tmp_path):
    table, _ = made
    cell = row_cells(table, table.rows["siamfc"], BUDGET)[0]
    write_run(tmp_path / "run", cell, budget=BUDGET, changes={"trainer.max_epochs": 1})
    found = collect(table, BUDGET, Runs.below([tmp_path])).rows["otb2015"]["siamfc"]
    assert 0 not in found.measured
    assert "another configuration: trainer.max_epochs is 1, expected" in found.missing[0]


def test_a_run_on_another_number_of_sequences_is_not_taken(made):
    table, folder = made
    budget = Budget(seeds=(0,), sequences=5, frames=12)
    found = collect(table, budget, Runs.below([folder])).rows["otb2015"]["siamfc"]
    assert found.missing[0].endswith(
        "not evaluated on this procedural_test: count is 4, expected 5"
    )


def test_a_run_that_has_not_ended_or_whose_results_are_gone_is_not_taken(made, tmp_path):
    table, _ = made
    first, second = row_cells(table, table.rows["siamfc"], BUDGET)[:2]
    write_run(tmp_path / "a", first, budget=BUDGET)
    (tmp_path / "a" / "scores.csv").unlink()
    write_run(tmp_path / "b", second, budget=BUDGET)
    next((tmp_path / "b" / "results" / "procedural_test" / "siamfc").glob("all_*.txt")).unlink()
    found = collect(table, BUDGET, Runs.below([tmp_path])).rows["otb2015"]["siamfc"]
    assert found.missing[0] == f"not finished: {tmp_path.name}/a"
    assert found.missing[1].startswith("1 of 4 sequences have no usable result")


def test_a_folder_of_another_version_is_left_out_and_named(made, tmp_path):
    table, _ = made
    cell = row_cells(table, table.rows["siamfc"], BUDGET)[0]
    changes = {"module._target_": "lightning_trackers.methods.siamfc.OldModule"}
    write_run(tmp_path / "old", cell, budget=BUDGET, changes=changes)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text("seed: [")
    runs = Runs.below([tmp_path])
    assert runs.found == []
    assert "OldModule" in runs.unreadable[tmp_path / "old"]
    assert "not readable" in runs.unreadable[tmp_path / "half"]


def test_a_search_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        Runs.below([tmp_path / "nothing"])


def test_a_benchmark_that_cannot_be_read_here_is_the_reason(made, tmp_path):
    table, _ = made
    budget = Budget(
        "paper", (0,), paths=(f"paths.otb_root={tmp_path}", f"paths.train_root={tmp_path}")
    )
    cell = row_cells(table, table.rows["siamfc"], budget)[0]
    write_run(tmp_path / "run", cell, budget=BUDGET)
    found = collect(table, budget, Runs.below([tmp_path])).rows["otb2015"]["siamfc"]
    assert "otb2015 cannot be read here" in found.missing[0]


def test_settings_of_a_search_fill_a_column_of_their_own(made, tmp_path):
    table, folder = made
    for name in ("siamfc", "siamfc_sl"):
        shutil.copytree(folder / f"{name}_0", tmp_path / f"{name}_0")
    best = {"settings": {"window_influence": 0.3}, "score": 0.5, "benchmark": "procedural_val"}
    (tmp_path / "siamfc_0" / "search").mkdir()
    (tmp_path / "siamfc_0" / "search" / "best.yaml").write_text(OmegaConf.to_yaml(best))
    found = collect(table, BUDGET, Runs.below([tmp_path])).rows["otb2015"]["siamfc"]
    assert "not evaluated" in found.not_searched[0]
    # An evaluation of the same weights with these settings.
    cell = row_cells(table, table.rows["siamfc"], BUDGET)[0]
    changes = {"checkpoint": str(tmp_path / "siamfc_0" / "checkpoints" / "last.ckpt"),
               "settings": best["settings"]}  # fmt: skip
    write_run(tmp_path / "again", cell, shift_px=1.0, budget=BUDGET, changes=changes)
    again = collect(table, BUDGET, Runs.below([tmp_path]))
    found = again.rows["otb2015"]["siamfc"]
    assert found.after_search[0].scores["success_auc"] > found.measured[0].scores["success_auc"]
    write_pages(tmp_path / "page", again, "command")
    assert "ours after search" in (tmp_path / "page" / "table.md").read_text()


def test_w_and_b_fills_what_is_not_on_disk(made, collected):
    table, _ = made
    cell = row_cells(table, table.rows["siamfc"], BUDGET)[2]

    cfg = composed(cell.words)
    cfg.seed = 2
    logged = SimpleNamespace(
        state="finished",
        url="https://example.org/run",
        config=resolved(cfg),
        summary={"test/procedural_test/success_auc": 0.44},
    )
    running = SimpleNamespace(**{**vars(logged), "state": "running", "summary": {}})
    fill(collected, [running, logged])
    found = collected.rows["otb2015"]["siamfc"]
    assert found.measured[2].scores == {"success_auc": 0.44}
    assert 2 not in found.missing
    assert 0.44 in entry(collected, "siamfc").ours.values.values()


def test_what_an_experiment_writes_itself_is_shown_and_a_run_without_it_is_not_taken(tmp_path):
    table = read_table("gradnet/table1", content("gradnet/table1"))
    cell = row_cells(table, table.rows["template_descent"], BUDGET)[0]
    write_run(tmp_path / "run", cell, budget=BUDGET)
    found = collect(table, BUDGET, Runs.below([tmp_path]))
    reason = found.rows["otb2015"]["template_descent"].missing[0]
    assert reason == f"without table1.csv: {tmp_path.name}/run"
    (tmp_path / "run" / "table1.csv").write_text("learning rate,iterations\n10,58\n")
    found = collect(table, BUDGET, Runs.below([tmp_path]))
    write_pages(tmp_path / "page", found, "command")
    page = (tmp_path / "page" / "table.md").read_text()
    assert "| learning rate | iterations |" in page
    assert "| 10 | 58 |" in page
