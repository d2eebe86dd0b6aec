"""Measure SiamRPN++'s forward pass beside pysot's, with the same architecture and weights.

    python -m measurements.siamrpnpp_speed --pysot <checkout of STVIR/pysot>

pysot's model gets random weights, which are converted as a published checkpoint would be; the script
refuses to go on if the two networks answer the same crops differently. Then they take turns: every
round is one search crop of 255 px in each, from the image to scores and boxes, with the exemplar's
kernels given. The ratio is the median of the rounds' ratios. Ours is the copy that the tracker runs
(``siamese.for_inference``); pysot's runs under ``torch.inference_mode`` although its own scripts do
without. Needs ``pip install yacs``.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from lightning_trackers.heads import Kernels, Proposals
from lightning_trackers.methods.conversion import SOURCES, translated
from lightning_trackers.methods.loading import build
from lightning_trackers.methods.siamrpn import SiamRPN
from lightning_trackers.siamese import for_inference, normalise
from measurements.pysot_checkout import pysot_config

CONFIG = Path("experiments/siamrpn_r50_l234_dwxcorr/config.yaml")
"""The architecture's configuration in a pysot checkout."""

SOURCE = "pysot_siamrpnpp"
EXEMPLAR, SEARCH = 127, 255  # sides of the crops, px
TOLERANCE = 1e-3


def pysot_model(checkout: Path, seed: int = 0) -> Any:
    """Return pysot's model with random weights.

    Raises:
        FileNotFoundError: If the folder is not a checkout.
        RuntimeError: If a package that pysot needs is missing.
    """
    _, (models,) = pysot_config(checkout, CONFIG, "pysot.models.model_builder")
    torch.manual_seed(seed)
    model = models.ModelBuilder().eval()
    model.load_state_dict(spread(model.state_dict(), seed))
    return model


def spread(weights: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Return weights whose norms are not the identity and whose residual sums stay around 1.

    Args:
        weights: A state dict under pysot's names; it stays as it is.
        seed: Of the random values.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.empty_like(like).uniform_(low, high, generator=generator)

    changed = dict(weights)
    for name in weights:
        if not name.endswith("running_mean"):
            continue
        norm = name.removesuffix("running_mean")
        # The last norm of a bottleneck is small, as 16 of them are added up.
        gain = 0.2 if "bn3" in name else 1.0
        first = norm == "backbone.bn1."
        changed[f"{norm}weight"] = uniform(weights[name], 0.8 * gain, 1.2 * gain)
        changed[f"{norm}bias"] = uniform(weights[name], -0.2, 0.2)
        changed[name] = uniform(weights[name], -0.2, 0.2)
        # pysot's first convolution sees pixels up to 255.
        scale = 1e4 if first else 1.0
        changed[f"{norm}running_var"] = scale * uniform(weights[name], 0.8, 1.2)
    changed["rpn_head.cls_weight"] = torch.tensor([0.2, -0.4, 0.6])
    changed["rpn_head.loc_weight"] = torch.tensor([-0.3, 0.5, 0.1])
    return changed


def converted(state: dict[str, Tensor]) -> SiamRPN:
    """Return our network with pysot's weights."""
    network: SiamRPN = build(SOURCES[SOURCE].network)
    network.load_state_dict(translated(SOURCES[SOURCE], state, "pysot's model"))
    return network.eval()


def crops(size: int, seed: int) -> Tensor:
    """Return a random RGB image, uint8 ``(1, 3, size, size)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=generator)


def bgr(images: Tensor) -> Tensor:
    """Return RGB images as pysot's trackers hand them to its networks."""
    return images.flip(1).float()


@torch.inference_mode()
def compare(network: SiamRPN, model: Any) -> dict[str, float]:
    """Check that our network, prepared for inference, and pysot's answer the same.

    Returns:
        Largest difference of scores and boxes, relative to pysot's largest value.

    Raises:
        RuntimeError: If one is larger than ``TOLERANCE``.
    """
    exemplar, search = crops(EXEMPLAR, 1), crops(SEARCH, 2)
    ours: Proposals = network(normalise(exemplar), normalise(search))
    model.template(bgr(exemplar))
    theirs = model.track(bgr(search))
    background, target = theirs["cls"].unflatten(1, (2, -1)).unbind(1)  # (1, A, H, W) each
    expected = {
        "cls_logits": target - background,
        "box_deltas": theirs["loc"].unflatten(1, (4, -1)).permute(0, 2, 3, 4, 1),
    }
    differences = {
        name: float((getattr(ours, name) - values).abs().max() / values.abs().max())
        for name, values in expected.items()
    }
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"{name}: expected pysot's values within {TOLERANCE:g} of the largest, they differ "
                f"by {difference:g}: the two networks are not the same"
            )
    return differences


@torch.inference_mode()
def measure(network: SiamRPN, model: Any, rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of our and of pysot's forward pass, one pair per round."""
    exemplar = crops(EXEMPLAR, 1)
    kernels: Kernels = network.exemplar(normalise(exemplar))
    model.template(bgr(exemplar))
    # As each tracker hands its crop to its network: channels last, and planes.
    runs: list[Callable[[Tensor], object]] = [
        lambda images: network.track(
            normalise(images).contiguous(memory_format=torch.channels_last), kernels
        ),
        lambda images: model.track(bgr(images)),
    ]
    for run in runs:  # warm up
        run(crops(SEARCH, 2))
    found = []
    for r in range(rounds):
        images = crops(SEARCH, 3 + r)
        seconds = [0.0, 0.0]
        # Whoever goes first changes, so that a drift of the machine favours nobody.
        for i in (0, 1) if r % 2 == 0 else (1, 0):
            start = time.perf_counter()
            runs[i](images)
            seconds[i] = time.perf_counter() - start
        found.append((seconds[0], seconds[1]))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, compare, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pysot", type=Path, required=True, help="checkout of pysot")
    parser.add_argument("--rounds", type=int, default=15, help="forward passes of each network")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    args = parser.parse_args(argv)
    if args.rounds < 1 or args.threads < 1:
        parser.error("expected at least one round and one thread")

    torch.set_num_threads(args.threads)
    model: nn.Module = pysot_model(args.pysot)
    network = for_inference(converted(model.state_dict()))
    for name, difference in compare(network, model).items():
        print(f"{name}: largest difference from pysot {difference:.1e} of the largest value")
    times = measure(network, model, args.rounds)
    ours, theirs = (median(column) for column in zip(*times, strict=True))
    ratios = sorted(b / a for a, b in times)
    print(f"SiamRPN++, ResNet-50, {SEARCH} px, {args.threads} threads, {args.rounds} rounds")
    print(f"ours   {1e3 * ours:8.0f} ms")
    print(f"pysot  {1e3 * theirs:8.0f} ms")
    print(f"ours is {median(ratios):.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
