"""Measure what training many videos' autoencoders together saves, and whether it changes them.

    python -m measurements.vae_speed
    python -m measurements.vae_speed --hidden 512 --videos 8 --rounds 2

Both ways run PSGN's own step, forward, backward and RMSprop: once for V videos together, and for one
video after another. They take turns within each round; the ratio is the median of the rounds' ratios.

Where an epoch's time goes: the two wide layers (P = 3 * 64 * 64, H the width) take two products each
forward and backward, and the last one a third, 10 N P H multiplications and additions in all for N
targets; RMSprop reads and writes arrays of 2 P H weights a dozen times. Training together saves neither,
only what it costs to call some hundred operations for every video anew. At the paper's size (H = 512,
N = 8) a video's arithmetic is 0.5 GFLOP and its optimizer moves 0.6 GB; narrow autoencoders (32 and fewer)
have less than a tenth of both.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from lightning_trackers.methods.sintpp.psgn import PSGNModule
from lightning_trackers.methods.sintpp.vae import DenseVAEs


@dataclass(frozen=True)
class Cost:
    """Medians over rounds.

    Args:
        together_ms: An epoch of all videos together.
        alone_ms: An epoch of all videos, one after another.
        ratio: The second over the first.
        gigaflop: Arithmetic of the wide layers in an epoch of all videos, 10^9 operations.
        difference: Largest difference of a weight between both ways.
    """

    together_ms: float
    alone_ms: float
    ratio: float
    gigaflop: float
    difference: float


def measure(*, videos: int, targets: int, side: int, hidden: int, rounds: int, epochs: int) -> Cost:
    """Time an epoch.

    Args:
        videos: V.
        targets: N of each video.
        side: Side of a target, px; the paper's is 64.
        hidden: Width of the autoencoders.
        rounds: Repetitions; one more before them warms up.
        epochs: Epochs of a round.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (videos, targets, 3, side, side)
    pictures = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    seeds = [100 * v for v in range(videos)]
    pixels = 3 * side**2
    joint = PSGNModule(DenseVAEs(seeds, hidden, 2, pixels), list(pictures))
    single = [
        PSGNModule(DenseVAEs([seed], hidden, 2, pixels), [own])
        for seed, own in zip(seeds, pictures, strict=True)
    ]
    together = _trained([joint])
    alone = _trained(single)
    times = []
    for round_ in range(rounds + 1):
        numbers = range(round_ * epochs, (round_ + 1) * epochs)
        times.append((_seconds(together, numbers) / epochs, _seconds(alone, numbers) / epochs))
    difference = max(
        float((a[v] - b[0]).detach().abs().max())
        for v, module in enumerate(single)
        for a, b in zip(joint.network.parameters(), module.network.parameters(), strict=True)
    )
    kept = times[1:]
    return Cost(
        median(a for a, _ in kept) * 1e3,
        median(b for _, b in kept) * 1e3,
        median(b / a for a, b in kept),
        videos * targets * pixels * hidden * 10 / 1e9,
        difference,
    )


def _trained(modules: list[PSGNModule]) -> Callable[[int], None]:
    """Return what trains modules, one after another, by one epoch."""
    optimizers = [module.configure_optimizers() for module in modules]

    def step(epoch: int) -> None:
        for module, optimizer in zip(modules, optimizers, strict=True):
            optimizer.zero_grad()
            (-module.bounds(epoch).sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return step


def _seconds(step: Callable[[int], None], epochs: range) -> float:
    start = time.perf_counter()
    for epoch in epochs:
        step(epoch)
    return time.perf_counter() - start


def main() -> None:
    """Print the costs of the wished size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--targets", type=int, default=8, help="of each video")
    parser.add_argument("--side", type=int, default=64, help="px")
    parser.add_argument("--hidden", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2, help="of a round")
    args = parser.parse_args()
    print(f"{args.videos} videos, {args.targets} targets of {args.side} px, "
          f"torch {torch.__version__}, {torch.get_num_threads()} thread(s)")  # fmt: skip
    for hidden in args.hidden:
        cost = measure(
            videos=args.videos, targets=args.targets, side=args.side, hidden=hidden,
            rounds=args.rounds, epochs=args.epochs,
        )  # fmt: skip
        print(
            f"width {hidden}: together {cost.together_ms:.1f} ms, one after another "
            f"{cost.alone_ms:.1f} ms, {cost.ratio:.1f} times as fast; {cost.gigaflop:.2f} GFLOP "
            f"({cost.gigaflop / cost.together_ms * 1e3:.0f} GFLOP/s); largest difference of a weight "
            f"{cost.difference:.1e}"
        )


if __name__ == "__main__":
    main()
