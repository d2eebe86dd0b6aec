"""Measure what GradNet's template update costs, in forward passes of its template branch.

    python -m measurements.gradnet_update
    python -m measurements.gradnet_update --targets 8 --rounds 30

The template branch is what makes a template of an exemplar: f_2 and U1. An update is Eq. 4-7 on the
features of a search region: U1, correlation and loss, backward to h_2, U2, U1. Both run on the inference
copy of the paper's AlexNet with random weights (the work is the same as with trained ones), in turn
within each round; the ratio is the median of the rounds' ratios. The features of the reliable sample,
f_x(X), come in addition, once an update; a step of tracking computes three of them each frame.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from lightning_trackers.backbones import AlexNet
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.gradnet import GradNet
from lightning_trackers.siamese import for_inference


@dataclass(frozen=True)
class Cost:
    """Medians over rounds.

    Args:
        template_ms: A forward pass of the template branch.
        update_ms: An update of the template.
        sample_ms: f_x of a search region.
        ratio: Update over forward pass.
    """

    template_ms: float
    update_ms: float
    sample_ms: float
    ratio: float


@torch.no_grad()
def measure(backbone: nn.Module, *, targets: int, rounds: int) -> Cost:
    """Time the parts of an update.

    Args:
        backbone: The embedding.
        targets: Targets whose templates are updated together.
        rounds: Repetitions; one more before them warms up.
    """
    network = GradNet(backbone, BinaryCrossEntropy(balanced=True))
    prepared = for_inference(network)
    generator = torch.Generator().manual_seed(0)
    layout = {"memory_format": torch.channels_last}
    exemplars = torch.randn(targets, 3, 127, 127, generator=generator).to(**layout)
    images = torch.randn(targets, 3, 255, 255, generator=generator).to(**layout)
    features, searches = prepared.exemplar(exemplars), prepared.search(images)
    cells = prepared.map_cells(features, searches)
    labels = torch.zeros(targets, cells, cells)
    labels[:, cells // 2, cells // 2] = 1
    parts: list[Callable[[], object]] = [
        lambda: prepared.u1(prepared.exemplar(exemplars)),
        lambda: prepared.adapt(features, searches, labels),
        lambda: prepared.search(images),
    ]
    times = [[_ms(part) for part in parts] for _ in range(rounds + 1)][1:]
    template, update, sample = (median(column) for column in zip(*times, strict=True))
    return Cost(template, update, sample, median(u / t for t, u, _ in times))


def _ms(part: Callable[[], object]) -> float:
    start = time.perf_counter()
    part()
    return (time.perf_counter() - start) * 1e3


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    cost = measure(AlexNet(groups=2), targets=options.targets, rounds=options.rounds)
    print(f"targets together         {options.targets}")
    print(f"template branch, forward {cost.template_ms:.1f} ms")
    print(f"template update          {cost.update_ms:.1f} ms = {cost.ratio:.2f} forward passes")
    print(f"features of the sample   {cost.sample_ms:.1f} ms")


if __name__ == "__main__":
    main()
