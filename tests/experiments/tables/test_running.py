import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.config import ConfigError
from experiments.tables import running
from experiments.tables.cells import Budget, composed, row_cells
from experiments.tables.collecting import collect
from experiments.tables.finished import CHECKPOINT
from experiments.tables.running import Places, chosen_cells, make, quoted, state, training_command
from tests.experiments.tables.finished_runs import write_run
from tests.experiments.tables.test_definition import TABLES, table

BUDGET = Budget(seeds=(0, 1), sequences=2, frames=8)


def words_of(command):
    return dict(w.lstrip("+").split("=", 1) for w in command if "=" in w)


class Started:
    """Takes the place of starting a command: notes it, and leaves what a run would.

    Args:
        cells: What may be asked for.
    """

    def __init__(self):
        self.commands = []
        self.cells = []

    def __call__(self, command, folder):
        self.commands.append(command)
        words = words_of(command)
        seed = int(folder.name.removeprefix("seed_"))
        exp = words.get("exp") or words["exp_name"].strip("'")
        cell = next(c for c in self.cells if (c.exp, c.seed) == (exp, seed))
        if "experiments.run" in command:
            write_run(folder, cell, budget=BUDGET)
            (folder / "checkpoints").mkdir()
            content = {"recipe": {"network": {}, "tracker": {}}, "state_dict": {}}
            torch.save(content, folder / CHECKPOINT)
        else:
            changes = {"checkpoint": words["checkpoint"].strip("'")}
            write_run(folder, cell, budget=BUDGET, changes=changes)
        return True


@pytest.fixture
def started(monkeypatch):
    start = Started()
    monkeypatch.setattr(running, "_start", start)
    return start


def test_what_is_missing_is_made_once_and_the_second_time_nothing(started, tmp_path):
    found = table("gradnet/table3")
    places = Places(tmp_path)
    cells = chosen_cells(found, BUDGET, ["gradnet", "gradnet_no_update"])
    started.cells = cells
    assert [(c.row, c.seed) for c in cells] == [
        ("gradnet", 0),
        ("gradnet_no_update", 0),
        ("gradnet", 1),
        ("gradnet_no_update", 1),
    ]
    assert make(found, cells, places) == 0
    kinds = [next(w for w in c if w.startswith("experiments.")) for c in started.commands]
    # One training for both rows; the second row tracks with its weights.
    assert kinds == ["experiments.run", "experiments.evaluate"] * 2
    training, evaluation = (words_of(c) for c in started.commands[:2])
    assert training["exp"] == "gradnet"
    assert training["seed"] == "0"
    assert training["resume"] == "auto"
    assert training["logger.wandb.group"] == "gradnet/table3/gradnet"
    assert training["logger.wandb.name"] == "gradnet_seed0"
    assert training["benchmarks.procedural_test.count"] == "2"
    weights = torch.load(Path(evaluation["checkpoint"].strip("'")), weights_only=True)
    assert weights["recipe"]["tracker"]["settings"]["update_interval"] == 0

    assert make(found, cells, places) == 0
    assert len(started.commands) == 4
    scored = collect(found, BUDGET, places.runs()).rows["otb2015"]["gradnet_no_update"]
    assert sorted(scored.measured) == [0, 1]


def test_a_job_may_make_one_row_and_seed_alone(started, tmp_path):
    found = table("gradnet/table3")
    cells = chosen_cells(found, Budget(seeds=(1,), sequences=2, frames=8), ["gradnet_no_update"])
    # The row's weights are trained as gradnet's, in the folder where gradnet looks for them.
    started.cells = row_cells(found, found.rows["gradnet"], BUDGET) + cells
    assert make(found, cells, Places(tmp_path)) == 0
    assert words_of(started.commands[0])["exp"] == "gradnet"
    gradnet = row_cells(found, found.rows["gradnet"], BUDGET)[1]
    assert state(gradnet, Places(tmp_path).runs()) == "done"


def test_rows_share_the_stages_before_their_trainings(tmp_path):
    found = table("sintpp/ablation")

    def folders(**budget):
        cells = chosen_cells(found, Budget(**budget))
        commands = [words_of(training_command(found, cell, Places(tmp_path))) for cell in cells]
        return [words.get("stages_dir") for words in commands]

    first = folders(seeds=(0,))
    assert first[0] is None  # sint has none
    assert len(set(first[1:])) == 1
    assert len({*first, *folders(seeds=(1,)), *folders(seeds=(0,), epochs=2)}) == 4


def test_a_command_that_fails_is_kept_as_the_reason_and_the_others_go_on(tmp_path, monkeypatch):
    found = table("gradnet/table3")
    places = Places(tmp_path)
    cells = chosen_cells(found, Budget(seeds=(0,)), ["siamfc", "gradnet"])
    monkeypatch.setattr(running, "training_command", lambda *_: ["false"])
    assert make(found, cells, places) == 2
    failure = places.training(cells[0]) / "failed.txt"
    assert failure.read_text() == "exit code 1 of: false\n"


def test_a_row_whose_exp_is_not_there_is_left_out_with_a_word(tmp_path, caplog):
    found = table("gradnet/table3")
    object.__setattr__(found.rows["siamfc"], "exp", "siamfd")
    with caplog.at_level(logging.WARNING):
        assert chosen_cells(found, BUDGET, ["siamfc"]) == []
    assert "siamfc: left out: exp not there" in caplog.text


def test_an_unknown_row_is_refused():
    with pytest.raises(ConfigError, match="has no \\['gradnt'\\]"):
        chosen_cells(table("gradnet/table3"), BUDGET, ["gradnt"])


@pytest.mark.parametrize("path", ["/a b/c,d", "/it's", "/x=y{z}", "/back\\slash", "/both\\'s\\"])
def test_a_path_reaches_hydra_as_it_stands(path):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides([f"run_dir={quoted(path)}"])
    assert override.value() == path


SMALL = Budget(seeds=(0,), epochs=1, sequences=2, frames=24)  # enough to occlude a target
ONE_STEP = ("+trainer.limit_train_batches=1", "+trainer.limit_val_batches=1")
# A template learns for minutes where the network has not.
FEWER = {"gradnet/table1": ("callbacks.template_descent.max_iterations=5",)}


def learns_offline(row):
    cfg = composed([f"+exp={row.exp}", "profile=laptop", *row.overrides])
    return cfg.trainer.get("limit_train_batches") != 0


def train_and_track(name, rows, tmp_path):
    whole, places = table(name), Places(tmp_path, logger="csv")
    trained = [row for row in rows if learns_offline(whole.rows[row])]
    for part, words in ((trained, ONE_STEP), (sorted({*rows} - {*trained}), ())):
        found = replace(whole, rows={row: whole.rows[row] for row in part})
        budget = replace(SMALL, overrides=(*words, *FEWER.get(name, ())))
        assert make(found, chosen_cells(found, budget), places) == 0
        collected = collect(found, budget, places.runs())
        for row in part:
            (measured,) = collected.rows[found.stand_in.stands_for][row].measured.values()
            assert set(collected.scores.values()) <= measured.scores.keys()


def test_a_row_trains_a_step_and_tracks(tmp_path):
    train_and_track("shrinkage/figure11", ["siamfc"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_every_table_trains_a_step_and_tracks(name, tmp_path_factory):
    # One folder for all: what tables share is made once.
    folder = tmp_path_factory.getbasetemp() / "all_tables"
    rows = [r.name for r in table(name).rows.values() if r.exp and not r.unknown_exp]
    train_and_track(name, rows, folder)


def test_the_command_takes_the_profile_and_the_logger_of_the_trainings():
    words = ["table=spga/table1", "mode=plan", "seeds=[4]", "profile=overnight", "logger=csv"]
    command = [sys.executable, "-m", "experiments.tables", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "mdnet, seed 4: not run: mdnet, seed 4, profile overnight" in ended.stdout
