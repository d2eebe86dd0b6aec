"""Run as a script this file starts processes that evaluate together: see its end."""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from lightning_trackers.evaluation.benchmarking import Keeping, evaluate_benchmark
from lightning_trackers.evaluation.distribution import PeerError, team
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.tracker import Prediction

LENGTHS = (3, 60, 9, 17, 2, 40, 5, 1, 12, 25, 4, 7)


class Frames:
    """Grey frames that carry the sequence's number and their own."""

    def __init__(self, number, count):
        self.number, self.count = number, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.full((40, 60, 3), (self.number, index, 0), np.uint8)


def drawn(number, count):
    rng = np.random.default_rng(number)
    corner = rng.uniform(2, 10, 2) + np.cumsum(rng.normal(0, 1, (count, 2)), axis=0)
    boxes = np.concatenate([corner, corner + 12], axis=1)
    return TrackingSequence(f"s{number}", Frames(number, count), boxes, np.ones(count, dtype=bool))


def benchmark(copies=1):
    return Benchmark("drawn", [drawn(i, count) for i, count in enumerate(LENGTHS * copies)])


class Wanders:
    """Its boxes depend on all frames seen, so a lost or repeated frame changes them."""

    def __init__(self, delay_s=0.0, on_start=lambda number: None):
        self.delay_s, self.on_start = delay_s, on_start

    def start(self, frame, box_xyxy):
        number = int(frame[0, 0, 0])
        self.on_start(number)
        return {"number": number, "box": np.asarray(box_xyxy, dtype=np.float64), "sum": 1}

    def step(self, states, frames):
        time.sleep(self.delay_s)
        for state, frame in zip(states, frames, strict=True):
            state["sum"] = (3 * state["sum"] + int(frame[0, 0].sum())) % 97
            state["box"] = state["box"] + np.sin(state["sum"])
        return [Prediction(state["box"], 1 / (1 + state["sum"])) for state in states]


def evaluate(folder, tracker, *, lanes=2, fingerprint="a", bench=None, progress=None):
    return evaluate_benchmark(
        tracker,
        benchmark() if bench is None else bench,
        "t",
        team=team(),
        lanes=lanes,
        keeping=Keeping(Path(folder), fingerprint),
        progress=progress,
    )


def files(folder):
    """Return the bytes of every file but the times, which no two runs share."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(Path(folder).rglob("*"))
        if file.is_file() and file.parent.name != "times"
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process, one sequence at a time."""
    folder = tmp_path_factory.mktemp("alone")
    scores, _ = evaluate(folder, Wanders(), lanes=1)
    return folder, scores


def run_script(scenario, folder):
    """Run this file as a script, with what this process can import."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run(
        [sys.executable, __file__, scenario, str(folder)], env=environment, check=True, timeout=300
    )


# --- one process ---------------------------------------------------------------------------------


def test_longest_sequences_come_first(tmp_path):
    started = []
    evaluate(tmp_path, Wanders(on_start=started.append), lanes=1)
    assert [LENGTHS[number] for number in started] == sorted(LENGTHS, reverse=True)


def test_scores_go_by_the_benchmarks_order(alone):
    _, scores = alone
    assert list(scores.scores.sequences) == [f"s{i}" for i in range(len(LENGTHS))]
    assert list(scores.frames.values()) == list(LENGTHS)
    assert (scores.protocol, scores.headline) == (
        "one-pass evaluation, OTB rule",
        "success_auc",
    )
    assert scores.headline_score == scores.scalars["success_auc"]


def test_stored_results_give_the_scores_of_tracked_ones(alone):
    folder, scores = alone

    def refuse(number):
        raise AssertionError("tracked again")

    again, results = evaluate(folder, Wanders(on_start=refuse))
    assert again.scores.scalars == scores.scores.scalars
    assert again.fps == scores.fps  # times are stored too
    assert set(results) == set(scores.frames)


def test_an_error_keeps_what_was_finished(tmp_path, alone):
    def fail(number):
        if LENGTHS[number] == 9:
            raise ZeroDivisionError(f"sequence {number}")

    with pytest.raises(ZeroDivisionError, match="sequence 2"):
        evaluate(tmp_path, Wanders(on_start=fail), lanes=1)
    longer = {f"s{i}.txt" for i, count in enumerate(LENGTHS) if count > 9}
    assert {name for name in files(tmp_path) if "/" not in name} == {*longer, "fingerprint.txt"}
    started = []
    evaluate(tmp_path, Wanders(on_start=started.append), lanes=1)
    assert sorted(started) == [i for i, count in enumerate(LENGTHS) if count <= 9]
    assert files(tmp_path) == files(alone[0])


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "times").mkdir()
    for leftover in (tmp_path / ".s1.txt.0123.tmp", tmp_path / "times" / ".s1_time.txt.4567.tmp"):
        leftover.write_text("1,2,")
    evaluate(tmp_path, Wanders())
    assert not list(tmp_path.rglob("*.tmp"))


class Withheld:
    """A protocol of a benchmark whose ground truth is not public."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.name, self.headline = "elsewhere", "success_auc"
        self.track, self.store = protocol.track, protocol.store

    def score(self, bench, results):
        assert set(results) == {s.name for s in bench}
        return type(self.protocol.score(bench, results))({})


def test_a_benchmark_that_is_scored_elsewhere_is_tracked_and_timed(tmp_path, caplog):
    from lightning_trackers.evaluation.ope_protocol import OnePass

    caplog.set_level("INFO")
    bench = Benchmark("server", list(benchmark()), Withheld(OnePass()))
    scores, _ = evaluate(tmp_path, Wanders(), bench=bench)
    assert scores.scores.scalars == {}
    assert np.isnan(scores.headline_score)
    assert scores.fps > 0
    assert "server: t: no scores" in caplog.text
    assert (tmp_path / "s0.txt").is_file()


class Bar:
    """Notes what it is shown."""

    def __init__(self, title, total):
        self.title, self.total, self.done = title, total, []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def show(self, done):
        self.done.append(done)


def test_progress_ends_at_all_frames(tmp_path):
    bars = []

    def progress(title, total):
        bars.append(Bar(title, total))
        return bars[-1]

    evaluate(tmp_path, Wanders(), progress=progress)
    (bar,) = bars
    assert (bar.title, bar.total, bar.done[-1]) == ("drawn: t", sum(LENGTHS), sum(LENGTHS))
    evaluate(tmp_path, Wanders(), progress=progress)
    assert len(bars) == 1  # nothing was left to do


# --- several processes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What the script below did."""
    folder = tmp_path_factory.mktemp("together")
    run_script("all", folder)
    return folder


def outcomes(folder, name, ranks):
    return [json.loads((folder / f"{name}_{r}.json").read_text()) for r in range(ranks)]


@pytest.mark.parametrize(("ranks", "lanes"), [(2, 1), (3, 1), (2, 4), (3, 4)])
def test_any_number_of_ranks_and_lanes_ends_with_the_same_files(together, alone, ranks, lanes):
    name = f"agree_{ranks}_{lanes}"
    folder, scores = alone
    assert files(together / name) == files(folder)
    ranks_said = outcomes(together, name, ranks)
    for said in ranks_said:  # the same scores on all ranks, as one process has them
        assert said["scalars"] == scores.scores.scalars
        assert said["sequences"] == scores.scores.sequences
        assert said["fps"] == ranks_said[0]["fps"]
    started = Counter(number for said in ranks_said for number in said["started"])
    assert started == Counter(range(len(LENGTHS)))  # none twice, none left out
    assert all(said["started"] for said in ranks_said)
    assert [len(said["results"]) for said in ranks_said[1:]] == [0] * (ranks - 1)
    assert len(ranks_said[0]["results"]) == len(LENGTHS)


def test_an_error_of_one_rank_ends_all_and_the_others_finish_their_work(together, alone):
    first, failed, third = outcomes(together, "error", 3)
    assert failed["error"] == ["ZeroDivisionError", "sequence 5"]
    for said in (first, third):
        assert said["error"][0] == "PeerError"
        assert "ZeroDivisionError: sequence 5" in said["error"][1]
    # The second rank failed at its first sequence; everything else is there.
    missing = {"s5.txt", "scores/s5_score.txt"}
    assert set(files(together / "error")) == set(files(alone[0])) - missing


def test_a_damaged_file_is_told_to_all_ranks(together):
    first, second = outcomes(together, "damaged", 2)
    assert first["error"][0] == "ResultFileError"
    assert "s3.txt, line 2" in first["error"][1]
    assert second["error"][0] == "PeerError"
    assert "s3.txt, line 2" in second["error"][1]


@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_rank_dies_the_others_finish_and_the_next_evaluation_completes(
    together, alone, tmp_path, victim
):
    name = f"death_{victim}"
    saved = {file for file in files(together / name) if "/" not in file}
    # The longest sequence is the first rank's, the next one the second's.
    lost = {0: "s1.txt", 1: "s5.txt"}[victim]
    assert lost not in saved
    if victim != 0:  # with the first rank goes the store; what was being tracked is finished
        assert saved == {f"s{i}.txt" for i in range(len(LENGTHS))} - {lost} | {"fingerprint.txt"}
    assert len(saved) > 2
    for rank in {0, 1, 2} - {victim}:
        said = json.loads((together / f"{name}_{rank}.json").read_text())
        assert said["error"][0] == "PeerError"
        assert "start the same evaluation again" in said["error"][1]
    assert not (together / f"{name}_{victim}.json").exists()
    folder = tmp_path / "again"
    (together / name).rename(folder)
    started = []
    scores, _ = evaluate(folder, Wanders(on_start=started.append))
    assert {f"s{i}.txt" for i in started} == {f"s{i}.txt" for i in range(len(LENGTHS))} - saved
    assert files(folder) == files(alone[0])
    assert scores.scores.scalars == alone[1].scores.scalars


def test_killed_again_and_again_it_ends_with_the_same_files(together, alone):
    said = json.loads((together / "kills_3.json").read_text())
    assert said["kills"] == 3
    assert files(together / "kills_3") == files(alone[0])


@pytest.mark.slow
def test_killed_at_20_random_moments_it_ends_with_the_same_files(tmp_path):
    run_script("kills", tmp_path)
    said = json.loads((tmp_path / "kills_20.json").read_text())
    assert said["kills"] == 20
    assert 0 < said["saved"][10] < said["saved"][-1]  # it was hit in the middle of its work
    evaluate(tmp_path / "alone", Wanders(), bench=benchmark(copies=12))
    assert files(tmp_path / "kills_20") == files(tmp_path / "alone")


# --- the script ----------------------------------------------------------------------------------


def be_a_rank(folder, name, rank, ranks, port, lanes, tracker, copies):
    """Evaluate into ``folder/name`` as one rank and write down what came of it."""
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    said = {"started": []}

    def on_start(number, act=tracker.on_start):
        said["started"].append(number)
        act(number)

    tracker.on_start = on_start
    try:
        bench = benchmark(copies)
        scores, results = evaluate(folder / name, tracker, lanes=lanes, bench=bench)
        said["scalars"], said["sequences"] = scores.scores.scalars, scores.scores.sequences
        said["fps"], said["results"] = scores.fps, sorted(results) if rank == 0 else []
    except (ArithmeticError, ValueError, PeerError) as error:
        said["error"] = [type(error).__name__, str(error)]
    (folder / f"{name}_{rank}.json").write_text(json.dumps(said))
    os._exit(0)  # a group whose members have died cannot be taken down


def start(folder, name, ranks, *, lanes=1, trackers=None, copies=1):
    """Start ranks that evaluate together; forked, as importing torch takes seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    trackers = trackers or {}
    fork = multiprocessing.get_context("fork")
    processes = []
    for rank in range(ranks):
        tracker = trackers.get(rank, Wanders())
        arguments = (folder, name, rank, ranks, port, lanes, tracker, copies)
        processes.append(fork.Process(target=be_a_rank, args=arguments))
        processes[-1].start()
    return processes


def finish(processes):
    for process in processes:
        process.join()


def fail(number):
    raise ZeroDivisionError(f"sequence {number}")


def die(number):
    time.sleep(0.3)  # the others are at work
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_random_moments(folder, kills, copies, delay_s, within_s, seed):
    """Kill all ranks of an evaluation again and again, then let it end."""
    rng = random.Random(seed)
    name, saved = f"kills_{kills}", []
    while len(saved) < kills:
        ranks = rng.choice((1, 2, 3))
        begun = folder / f"{name}_begun_{len(saved)}"
        slow = {
            rank: Wanders(delay_s, on_start=lambda number, begun=begun: begun.touch())
            for rank in range(ranks)
        }
        processes = start(
            folder, name, ranks, lanes=rng.choice((1, 2)), trackers=slow, copies=copies
        )
        if rng.random() < 0.8:  # else it may be hit while it starts
            while not begun.exists():
                time.sleep(0.01)
        time.sleep(rng.uniform(0, within_s))
        assert any(process.is_alive() for process in processes), "nothing left to kill"
        for process in processes:
            process.kill()
        finish(processes)
        saved.append(len(list((folder / name).glob("s*.txt"))))
    finish(start(folder, name, 2, lanes=2, copies=copies))
    (folder / f"{name}.json").write_text(json.dumps({"kills": len(saved), "saved": saved}))


def main(scenario, folder):
    if scenario == "kills":
        kill_at_random_moments(folder, 20, copies=12, delay_s=0.02, within_s=1.5, seed=0)
        return
    for ranks, lanes in ((2, 1), (3, 1), (2, 4), (3, 4)):
        # A little work, or the rank that is there first takes it all.
        slow = {rank: Wanders(0.001) for rank in range(ranks)}
        finish(start(folder, f"agree_{ranks}_{lanes}", ranks, lanes=lanes, trackers=slow))
    finish(start(folder, "error", 3, trackers={1: Wanders(on_start=fail)}))
    finish(start(folder, "damaged", 2))
    (folder / "damaged" / "s3.txt").write_text("1,2,3,4\n1,2,nan,4\n")
    finish(start(folder, "damaged", 2))
    for victim in (0, 1):
        slow = {rank: Wanders(0.02) for rank in range(3)}
        slow[victim] = Wanders(on_start=die)
        finish(start(folder, f"death_{victim}", 3, trackers=slow))
    kill_at_random_moments(folder, 3, copies=1, delay_s=0.05, within_s=0.4, seed=1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
