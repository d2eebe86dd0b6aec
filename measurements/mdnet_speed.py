"""Measure MDNet's online learning: many targets together, what SPGA adds, and py-MDNet beside it.

    python -m measurements.mdnet_speed
    python -m measurements.mdnet_speed --py-mdnet <checkout of hyeonseobnam/py-MDNet>

Everything runs with random weights: the work is the same as with trained ones. What is compared takes
turns, and a ratio is the median of the rounds' ratios; times are processor seconds of this process on
one thread, so that other work on the machine does not count.

1. Eight targets that are due in the same frame, updated together and one after another, and how much of
   the time their matrix products alone would take at the rate of one large product.
2. Ten frames and the long update that comes with them, with and without SPGA's two ideas, at the paper's
   counts (I2 = 10 iterations for both).
3. A frame and an update of py-MDNet, with its own code, and ours on the same frame with the same counts
   and network. Its ``imresize`` import, which SciPy no longer has and the tracker does not use, is
   replaced by nothing, and its crops are made contiguous, as its ``view`` of features now needs.
"""

import argparse
import os
import sys
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from datamodules.benchmarks.procedural import procedural_benchmark
from lightning_trackers.backbones import VGGM
from lightning_trackers.losses import BinaryCrossEntropy, GradientSensitiveLoss
from lightning_trackers.methods.mdnet import MDNet, MDNetTracker
from lightning_trackers.online import (
    Learner,
    OnlineSettings,
    Pool,
    SampleSettings,
    TargetHead,
    UpdateSettings,
    update,
)
from lightning_trackers.online.head import copied_weights
from lightning_trackers.siamese import for_inference

TARGETS = 8
ITERATIONS = 15
# The first frame is not measured.
SAMPLES = SampleSettings(initial_positives=50, initial_negatives=200)
# Of profile=laptop and profile=paper: inputs and width of the head.
HEADS = {"laptop": (576, 64), "paper": (4608, 512)}


class Comparison(NamedTuple):
    """Median times, and how many times as fast ``ours`` is."""

    ours_s: float
    other_s: float
    ratio: float


def compare(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> Comparison:
    """Time two ways in turn, after one round of warm-up."""
    times = []
    for r in range(rounds + 1):
        # Whoever goes first changes, so that a drift of the machine favours nobody.
        if r % 2:
            other_s = timed(other)
            times.append((timed(ours), other_s))
        else:
            times.append((timed(ours), timed(other)))
    firsts, seconds = zip(*times[1:], strict=True)
    return Comparison(median(firsts), median(seconds), median(b / a for a, b in times[1:]))


def timed(work: Callable[[], object]) -> float:
    """Return the processor seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def together(inputs: int, hidden: int, rounds: int, targets: int = TARGETS) -> Comparison:
    """Compare targets that learn together with the same ones after each other."""
    torch.manual_seed(0)
    head = TargetHead(inputs, hidden)
    pools = [Pool(torch.rand(550, inputs) + 0.1, torch.rand(2200, inputs)) for _ in range(targets)]

    def run(group: int) -> None:
        learners = [new_learner(head, seed) for seed in range(targets)]
        for i in range(0, targets, group):
            part = slice(i, i + group)
            learn(head, learners[part], pools[part])

    return compare(lambda: run(targets), lambda: run(1), rounds)


def learn(head: TargetHead, learners: Sequence[Learner], pools: Sequence[Pool]) -> None:
    """Update as MDNet does every ten frames."""
    update(head, learners, pools, BinaryCrossEntropy(), ITERATIONS, 1e-3, UpdateSettings())


def new_learner(head: TargetHead, seed: int = 0) -> Learner:
    """Return a target's learner with the head's weights."""
    return Learner(copied_weights(head), np.random.default_rng(seed), {})


def products_gflop(inputs: int, hidden: int) -> float:
    """Return the billions of multiplications and additions in one target's update.

    All candidates go forward; the mini-batch goes forward, back to every layer's weights, and back to
    the inputs of all layers but the first.
    """
    s = UpdateSettings()
    first, rest = inputs * hidden, hidden * hidden + 2 * hidden
    batch = s.positives + s.negatives
    products = s.candidates * (first + rest) + batch * (2 * first + 3 * rest)
    return 2 * ITERATIONS * products / 1e9


def matrix_rate(rounds: int = 10, side: int = 1024) -> float:
    """Return the GFLOP/s of one large matrix product."""
    a, b = torch.rand(side, side), torch.rand(side, side)
    out = torch.empty(side, side)
    times = [timed(lambda: torch.mm(a, b, out=out)) for _ in range(rounds)]
    return 2 * side**3 / median(times) / 1e9


def spga(rounds: int) -> Comparison:
    """Compare ten frames of SPGA with ten of MDNet, each with the update that comes with them."""
    torch.manual_seed(0)
    network = for_inference(MDNet(VGGM()))
    clip = procedural_benchmark(count=1, length=11, frame_wh=(320, 240)).sequences[0]
    frames = list(clip)
    plain = OnlineSettings(
        initial_iterations=1,
        update_iterations=10,
        regression_alpha=0,
        samples=SAMPLES,
        success_threshold=-1e9,  # random weights find nothing: no update between
    )
    generated = replace(plain, update=replace(plain.update, generated=64))

    def follow(settings: OnlineSettings, loss: nn.Module) -> Callable[[], None]:
        tracker = MDNetTracker(network, loss, settings)
        state = tracker.start(frames[0], clip.boxes_xyxy[0])

        def run() -> None:
            for frame in frames[1:]:
                tracker.step([state], [frame])

        return run

    return compare(
        follow(plain, BinaryCrossEntropy()), follow(generated, GradientSensitiveLoss()), rounds
    )


def beside_py_mdnet(checkout: Path, rounds: int) -> tuple[Comparison, Comparison]:
    """Compare a frame (candidates, then samples of the target) and a long update with py-MDNet's."""
    run_tracker, theirs = py_mdnet(checkout)
    opts, generator = run_tracker.opts, run_tracker.SampleGenerator
    clip = procedural_benchmark(count=1, length=2, frame_wh=(640, 480)).sequences[0]
    frame = list(clip)[1]
    x1, y1, x2, y2 = clip.boxes_xyxy[0]
    box_xywh = np.array([x1, y1, x2 - x1, y2 - y1])
    image = import_module("PIL.Image").fromarray(frame)
    around = generator("gaussian", image.size, opts["trans"], opts["scale"])
    near = generator("gaussian", image.size, opts["trans_pos"], opts["scale_pos"])
    beside = generator("uniform", image.size, opts["trans_neg"], opts["scale_neg"])
    pool = Pool(torch.rand(550, 4608), torch.rand(2200, 4608))

    def their_frame() -> None:
        samples = around(box_xywh, opts["n_samples"])
        scores = run_tracker.forward_samples(theirs, image, samples, out_layer="fc6")
        best = scores[:, 1].topk(5)[1]
        run_tracker.forward_samples(theirs, image, samples[best])  # for its box regression
        for draw, count, overlap in (
            (near, opts["n_pos_update"], opts["overlap_pos_update"]),
            (beside, opts["n_neg_update"], opts["overlap_neg_update"]),
        ):
            run_tracker.forward_samples(theirs, image, draw(box_xywh, count, overlap))

    optimizer = run_tracker.set_optimizer(theirs, opts["lr_update"], opts["lr_mult"])

    def their_update() -> None:
        run_tracker.train(theirs, run_tracker.BCELoss(), optimizer, *pool, opts["maxiter_update"])

    torch.manual_seed(0)
    network = for_inference(MDNet(VGGM()))
    # Every frame is found and none is a tenth one; the update is measured by itself.
    settings = OnlineSettings(
        long_interval=10**9,
        initial_iterations=1,
        regression_alpha=0,
        success_threshold=-1e9,
        samples=SAMPLES,
    )
    tracker = MDNetTracker(network, BinaryCrossEntropy(), settings)
    state = tracker.start(frame, clip.boxes_xyxy[0])
    learner = new_learner(network.head)
    return (
        compare(lambda: tracker.step([state], [frame]), their_frame, rounds),
        compare(lambda: learn(network.head, [learner], [pool]), their_update, rounds),
    )


def py_mdnet(checkout: Path) -> tuple[Any, Any]:
    """Import py-MDNet's tracking script and make its network with random weights.

    Raises:
        SystemExit: If the folder is no checkout of it.
    """
    options = checkout / "tracking" / "options.yaml"
    if not options.is_file():
        raise SystemExit(f"{checkout}: not a checkout of py-MDNet, there is no {options}")
    # What its modules import and this measurement does not reach.
    for name, missing in (("scipy.misc", "imresize"), ("sklearn.linear_model", "Ridge")):
        module = types.ModuleType(name)
        vars(module)[missing] = None
        sys.modules.setdefault(name, module)
    sys.path[:0] = [str(checkout), str(checkout / "tracking")]
    before = Path.cwd()
    try:
        os.chdir(checkout)  # it reads its options from the working directory
        run_tracker = import_module("run_tracker")
    finally:
        os.chdir(before)
    run_tracker.opts["use_gpu"] = False
    torch.manual_seed(0)
    theirs = run_tracker.MDNet()
    theirs.set_learnable_params(run_tracker.opts["ft_layers"])
    theirs.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    return run_tracker, theirs


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--py-mdnet", type=Path, help="checkout of py-MDNet to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--parts", nargs="+", choices=("together", "spga", "frame"),
        default=("together", "spga", "frame"),
    )  # fmt: skip
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if "together" in options.parts:
        rate = matrix_rate()
        print(f"one large matrix product: {rate:.0f} GFLOP/s")
        for name, (inputs, hidden) in HEADS.items():
            ours, other, ratio = together(inputs, hidden, options.rounds)
            gflop = TARGETS * products_gflop(inputs, hidden)
            print(
                f"{TARGETS} targets, {name} head ({inputs}, {hidden}): together {ours * 1e3:.0f} ms, "
                f"one after another {other * 1e3:.0f} ms, {ratio:.2f} times as fast; their products, "
                f"{gflop:.1f} GFLOP, take {gflop / rate * 1e3:.0f} ms at that rate"
            )
    if "spga" in options.parts:
        mdnet_s, spga_s, ratio = spga(options.rounds)
        print(
            f"ten frames and an update: MDNet {mdnet_s:.2f} s, SPGA {spga_s:.2f} s, "
            f"{100 * (ratio - 1):+.1f} %"
        )
    if "frame" in options.parts and options.py_mdnet is not None:
        frame, learning = beside_py_mdnet(options.py_mdnet, options.rounds)
        for name, found in (("frame", frame), ("update", learning)):
            print(
                f"{name}: ours {found.ours_s:.2f} s, py-MDNet {found.other_s:.2f} s, "
                f"{found.ratio:.2f} times as fast"
            )
        ours, other = (frame[i] + learning[i] / 10 for i in (0, 1))
        print(
            f"frame with a tenth of an update: ours {ours:.2f} s, py-MDNet {other:.2f} s, "
            f"{other / ours:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
