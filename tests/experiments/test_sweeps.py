import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import experiments
from experiments.check_sweep import check_sweep
from experiments.config import CONF, ConfigError
from experiments.tables.cells import composed, resolved
from tests.experiments.wandb_server import wandb_server

ROOT = Path(experiments.__file__).parents[1]
SWEEPS = sorted((ROOT / "experiments" / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(f, marks=[] if f.stem in ("siamrpn_sl", "spga") else pytest.mark.slow)
        for f in SWEEPS
    ],
    ids=lambda f: f.stem,
)
def test_every_parameter_of_a_sweep_is_one_that_the_run_has(file):
    words = check_sweep(file)
    assert f"+exp={file.stem}" in words


def test_every_method_has_a_sweep():
    methods = {p.stem for p in (CONF / "method").glob("*.yaml")} - {"dslt"} | {"dslt_star"}
    assert methods <= {f.stem for f in SWEEPS}


def test_a_sweep_chooses_on_sequences_that_are_not_reported():
    for file in SWEEPS:
        sweep = yaml.safe_load(file.read_text())
        assert "procedural_val" in sweep["metric"]["name"], file.name
        assert "benchmarks.procedural_test.split=val" in sweep["command"], file.name


@pytest.mark.parametrize("name", ["gradnet", "sintpp"])
def test_a_sweep_that_changes_what_its_stages_were_made_with_says_so(name):
    default = composed([f"+exp={name}"])
    changed = composed(check_sweep(ROOT / "experiments" / "sweeps" / f"{name}.yaml"))
    differs = resolved(default)["pipeline"] != resolved(changed)["pipeline"]
    assert changed.stages == ["tracker"]
    assert changed.stages_as_made == differs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"parameters": {"loss.aa": {"value": 1}}},
            "unknown parameter 'loss.aa'; nearest: 'loss.a'",
        ),
        ({"parameters": {"loss.a": {"mean": 1}}}, "loss.a: expected value, values, or min and max"),
        ({"command": ["${env}", "${args}"]}, "command: expected"),
    ],
)
def test_a_sweep_that_would_fail_is_refused(change, message, tmp_path):
    sweep = yaml.safe_load((ROOT / "experiments/sweeps/siamrpn_sl.yaml").read_text())
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({**sweep, **change}))
    with pytest.raises(ConfigError) as raised:
        check_sweep(file)
    assert message in str(raised.value)


PROGRAM = """
import sys
from experiments.loggers import closed_wandb_run, wandb_logger
with closed_wandb_run():
    logger = wandb_logger("lightning-trackers", "row_seed0", "table/row", save_dir=sys.argv[1])
    logger.log_metrics({"test/procedural_val/success_auc": 0.25}, step=0)
    print(sys.argv[2:], logger.experiment.offline)
"""


def environment(folder, url):
    return {
        **os.environ,
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": "0" * 40,  # the stand-in takes any
        "WANDB_ENTITY": "someone",
        "WANDB_PROJECT": "lightning-trackers",
        "WANDB_DIR": str(folder),
        "WANDB_INIT_TIMEOUT": "15",
        "HOME": str(folder),
        "TRACKERS_OUTPUTS": str(folder / "outputs"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def client(*words, env):
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def logged(server, key):
    return [row[key] for row in server.history if key in row]


@pytest.mark.slow
def test_a_sweep_is_made_its_agent_runs_and_the_metrics_arrive(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    sweep = yaml.safe_load((ROOT / "experiments/sweeps/siamrpn_sl.yaml").read_text())
    place = sweep["command"].index("-m")
    sweep["command"][place : place + 2] = [str(program), str(tmp_path)]
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep))
    with wandb_server([{"loss.a": 7.5, "optimizer.lr": 1e-05}]) as (server, url):
        env = environment(tmp_path, url)
        assert "sweep1" in client("-m", "wandb", "sweep", str(file), env=env)
        agent = ["-m", "wandb", "agent", "--count", "1", "someone/lightning-trackers/sweep1"]
        said = client(*agent, env=env)
    assert "+exp=siamrpn_sl" in said
    assert "loss.a=7.5" in said
    assert "optimizer.lr=1e-05" in said
    assert any(b.get("groupName") == "table/row" for b in server.buckets)
    assert logged(server, "test/procedural_val/success_auc") == [0.25]
    assert server.exit_codes == [0]


@pytest.mark.slow
def test_the_command_line_of_a_sweep_trains_and_its_score_arrives(tmp_path):
    small = {
        "trainer.max_epochs": 1,
        "datamodule.pairs_per_epoch": 16,
        "datamodule.val_pairs": 16,
        "benchmarks.procedural_test.count": 2,
        "benchmarks.procedural_test.length": 12,
        "loss.a": 7.5,
    }
    with wandb_server([small]) as (server, url):
        env = environment(tmp_path, url)
        client("-m", "wandb", "sweep", "experiments/sweeps/siamfc_sl.yaml", env=env)
        client("-m", "wandb", "agent", "--count", "1", "someone/lightning-trackers/sweep1", env=env)
    (score,) = logged(server, "test/procedural_val/success_auc")
    assert 0 <= score <= 1
    config = json.loads([b["config"] for b in server.buckets if b.get("config")][-1])
    assert config["loss"]["value"]["a"] == 7.5


@pytest.mark.slow
def test_jobs_of_a_multirun_are_runs_of_their_own(tmp_path):
    words = ["+exp=siamfc", "seed=0,1", "trainer.max_epochs=1", "datamodule.pairs_per_epoch=16"]
    words += ["datamodule.val_pairs=16", "benchmarks.procedural_test.count=1"]
    words += ["benchmarks.procedural_test.length=12", "evaluation.clip_frames=0"]
    with wandb_server() as (server, url):
        client("-m", "experiments.run", "-m", *words, env=environment(tmp_path, url))
    assert len({b["name"] for b in server.buckets}) == 2
    assert server.exit_codes == [0, 0]


@pytest.mark.slow
def test_without_a_server_a_run_goes_on_offline(tmp_path):
    with wandb_server() as served:
        _, url = served  # outside, nobody listens there any more
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    said = client(str(program), str(tmp_path), env=environment(tmp_path, url))
    assert "the run goes on offline" in said
    assert "[] True" in said
    assert list(tmp_path.glob("wandb/offline-run-*"))
