import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.config import CONF
from experiments.evaluate import evaluate_rank, fingerprint
from lightning_trackers.methods.loading import SHIPPED

SMALL = (
    "benchmarks.procedural_test.count=3",
    "benchmarks.procedural_test.length=6",
    "logger=csv",
    "device=cpu",
    "evaluation.clip_frames=3",
)
FILES = ["all_000.txt", "all_001.txt", "all_002.txt"]


def composed(folder):
    """Return the command's configuration without what Hydra's own names are needed for."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(
            "evaluate",
            [
                *SMALL,
                "exp_name=ours",
                "run_name=small",
                f"run_dir={folder}",
                f"stages_dir={folder}",
            ],
        )
    OmegaConf.set_struct(cfg, False)
    cfg.callbacks = cfg.logger = cfg.trainer = {}
    return OmegaConf.to_container(cfg, resolve=True)


def results(folder):
    return {name: (folder / "results/procedural_test/ours" / name).read_bytes() for name in FILES}


def test_evaluation_goes_on_where_it_stopped_and_reports(tmp_path, caplog):
    caplog.set_level("INFO")
    config = composed(tmp_path)
    first, still = evaluate_rank(config, tmp_path, local_rank=0)
    assert (first.tracker, still.tracker) == ("ours", "box that never moves")
    assert 0.3 < first.headline_score <= 20 / 21
    assert (tmp_path / "report.html").is_file()
    assert "tracked before" not in caplog.text
    whole = results(tmp_path)
    (tmp_path / "results/procedural_test/ours/all_001.txt").unlink()
    again, _ = evaluate_rank(config, tmp_path, local_rank=0)
    assert "procedural_test: ours: 2 of 3 sequences were tracked before" in caplog.text
    assert results(tmp_path) == whole
    assert again.scores.scalars == first.scores.scalars
    # Other settings are other results: refused, or tracked anew where the user says so.
    config["settings"] = {"size_lr": 0.05}
    with pytest.raises(FileExistsError, match="another tracker, checkpoint or setting"):
        evaluate_rank(config, tmp_path, local_rank=0)
    evaluate_rank({**config, "overwrite": True}, tmp_path, local_rank=0)
    assert results(tmp_path) != whole


def test_fingerprint_depends_on_weights_and_settings(tmp_path):
    other = tmp_path / "other.pt"
    other.write_bytes(SHIPPED.read_bytes() + b"0")
    prints = {
        fingerprint(SHIPPED, {}),
        fingerprint(other, {}),
        fingerprint(SHIPPED, {"window_influence": 0.3}),
    }
    assert len(prints) == 3
    assert fingerprint(SHIPPED, {}) in prints


def command(folder, *arguments, launcher=("-m",)):
    return subprocess.run(
        [sys.executable, *launcher, "experiments.evaluate", *SMALL, f"run_dir={folder}", *arguments],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_files(tmp_path):
    exp, ours = "exp_name=ours", "results/procedural_test/ours"
    launchers = {
        "one": command(tmp_path / "one", exp, "evaluation.lanes=1"),
        "three": command(tmp_path / "three", exp, "devices=3"),
        "torchrun": command(
            tmp_path / "torchrun",
            exp,
            launcher=("-m", "torch.distributed.run", "--nproc-per-node=2", "-m"),
        ),
    }
    for name, done in launchers.items():
        assert done.returncode == 0, done.stderr[-3000:]
        assert (done.stdout + done.stderr).count("procedural_test: ours: success_auc") == 1
        assert results(tmp_path / name) == results(tmp_path / "one")
        assert len(list((tmp_path / name / ours).glob("*.txt"))) == len(FILES) + 1
        assert (tmp_path / name / "report.html").is_file()


@pytest.mark.slow
def test_a_damaged_result_file_ends_the_command_in_one_line(tmp_path):
    assert command(tmp_path).returncode == 0
    file = tmp_path / "results/procedural_test/siamrpn/all_001.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "1;2;3;4", *lines[2:]]))
    done = command(tmp_path)
    assert done.returncode == 1
    assert f"error: {file}, line 2: expected 4 finite number(s)" in done.stderr
    assert "Traceback" not in done.stderr
