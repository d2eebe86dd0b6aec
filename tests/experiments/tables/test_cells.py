from dataclasses import replace

import pytest

from experiments.config import ConfigError
from experiments.tables.cells import (
    Budget,
    composed,
    description,
    differences,
    resolved,
    row_cells,
)
from tests.experiments.tables.test_definition import TABLES, table

ONE_SEED = Budget(seeds=(0,))


def test_every_row_of_every_table_composes():
    known = {}
    for name in TABLES:
        found = table(name)
        for row in found.rows.values():
            key = (row.exp, row.overrides, row.weights_of and found.rows[row.weights_of].exp)
            if key not in known and not row.unknown_exp:
                known[key] = row_cells(found, row, ONE_SEED)
                assert len(known[key]) == (row.exp is not None), f"{name}, {row.name}"
    assert len(known) > 40


@pytest.mark.parametrize(
    "name",
    # The one that is always tried has a callback that needs more than the table's benchmark.
    [pytest.param(t, marks=[] if t == "gradnet/figures" else pytest.mark.slow) for t in TABLES],
)
def test_every_row_composes_with_the_paper_s_profile(name):
    found = table(name)
    for row in found.rows.values():
        for cell in row_cells(found, row, Budget("paper", (0,))):
            assert len(cell.benchmarks) == sum(map(len, found.benchmarks.values()))


def test_a_row_that_tracks_otherwise_with_the_same_weights_is_one_training():
    found = table("gradnet/table3")
    own, source = (
        row_cells(found, found.rows[name], ONE_SEED)[0] for name in ("gradnet_no_update", "gradnet")
    )
    assert own.training == source.training
    assert own.training_name.split("_")[-1] == source.training_name.split("_")[-1]
    assert own.tracker != source.tracker
    assert own.tracker["settings"]["update_interval"] == 0


def test_weights_of_a_row_that_trains_something_else_are_refused():
    found = table("gradnet/table3")
    row = replace(found.rows["gradnet_unshared_u1"], weights_of="gradnet")
    with pytest.raises(ConfigError, match=r"weights_of=gradnet.*module\.network\.shared_u1"):
        row_cells(found, row, ONE_SEED)


def test_the_seed_changes_the_training_and_not_its_name():
    found = table("gradnet/table3")
    first, second = row_cells(found, found.rows["siamfc"], Budget(seeds=(0, 5)))
    assert first.training != second.training
    assert second.training["datamodule"]["seed"] == 5
    assert first.training_name == second.training_name


def test_the_budget_reaches_the_run():
    budget = Budget(seeds=(0,), epochs=3, sequences=4, frames=20)
    found = table("gradnet/table3")
    (cell,) = row_cells(found, found.rows["siamfc"], budget)
    assert cell.training["trainer"]["max_epochs"] == 3
    assert cell.benchmarks["procedural_test"]["count"] == 4
    assert cell.benchmarks["procedural_test"]["length"] == 20
    assert "benchmarks.procedural_test.count=4" in cell.words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "desktop"}, "profile=desktop: expected one of"),
        ({"seeds": ()}, "seeds=.*different numbers"),
        ({"seeds": (1, 1)}, "seeds=.*different numbers"),
        ({"epochs": 0}, "epochs=0: expected a positive number"),
        ({"profile": "paper", "sequences": 3}, "benchmarks are the papers'"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Budget(**options)


def test_a_further_argument_with_its_default_leaves_a_run_recognisable():
    config = resolved(composed(["+exp=siamfc_sl"]))
    before = description(config)
    del config["module"]["loss"]["importance"]  # as if the run were older than this argument
    assert description(config) == before
    config["module"]["loss"]["importance"] = False
    changed = differences(description(config)[0], before[0])
    assert changed == ["module.loss.importance is False, expected True"]


def test_folders_and_workers_do_not_make_another_training():
    words = ["+exp=siamfc", "profile=paper", "data=vid"]
    here = resolved(composed([*words, "paths.vid_root=/here/vid", "datamodule.num_workers=1"]))
    there = resolved(composed([*words, "paths.vid_root=/there/vid", "datamodule.num_workers=8"]))
    assert description(here) == description(there)
