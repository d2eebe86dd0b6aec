"""Run as a script this file is a command with several processes: see its end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from experiments.config import ConfigError
from experiments.ranks import on_ranks, rank_device
from lightning_trackers.evaluation.distribution import PeerError, team


def sum_of_ranks(folder, act, *, local_rank):
    """Do as ``act`` says, then add up the ranks."""
    folder.joinpath(f"rank{local_rank}").write_text(str(os.getpid()))
    if act == "die" and local_rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "wait":
        time.sleep(120)
    together = team()
    shares = together.gathered(local_rank)
    folder.joinpath(f"end{local_rank}").touch()
    return together.from_first(lambda: (sum(shares), together.size))


def script(act, folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, __file__, act, str(folder)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_one_device_needs_no_other_process(tmp_path):
    assert on_ranks(sum_of_ranks, (tmp_path, "add")) == (0, 1)
    assert not dist.is_initialized()


def test_a_number_of_devices_that_makes_no_sense_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="devices=0: expected at least 1"):
        on_ranks(sum_of_ranks, (tmp_path, "add"), devices=0)
    for key, value in (("RANK", "1"), ("WORLD_SIZE", "4"), ("TORCHELASTIC_RUN_ID", "x")):
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match="one of 4 processes that torchrun or SLURM started"):
        on_ranks(sum_of_ranks, (tmp_path, "add"), devices=2)


def test_processes_take_the_gpus_in_turn_unless_one_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [rank_device("auto", rank).index for rank in range(3)] == [0, 1, 0]
    assert rank_device("cuda:1", 0) == torch.device("cuda:1")
    assert rank_device("cpu", 1) == torch.device("cpu")


@pytest.mark.parametrize("act", ["add", "die"])
def test_processes_work_together_and_a_death_is_noticed(tmp_path, act):
    process = script(act, tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    if act == "add":
        assert out.splitlines() == ["(1, 2)"]  # the first process alone prints
    else:
        assert "PeerError: a process of the evaluation has died" in out
        assert not (tmp_path / "end1").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_the_processes_end_with_the_first_one(tmp_path, sent):
    process = script("wait", tmp_path)
    files = [tmp_path / f"rank{rank}" for rank in range(2)]
    deadline = time.monotonic() + 60
    while not all(file.exists() for file in files) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    first, second = (int(file.read_text()) for file in files)
    assert is_running(second)
    os.kill(first, sent)
    process.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while is_running(second) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(second)


def main(act, folder):
    try:
        print(on_ranks(sum_of_ranks, (folder, act), devices=2))  # noqa: T201
    except PeerError as error:
        print(f"PeerError: {error}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
