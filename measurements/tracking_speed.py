"""Measure how fast SiamRPN tracks, alone and beside pysot with the same architecture and weights.

    python -m measurements.tracking_speed
    python -m measurements.tracking_speed --pysot <checkout of STVIR/pysot> --root <OTB-layout folder>

Both trackers get the same random weights (the work is the same as with trained ones), and the script
refuses to go on if the two networks answer the same crops differently. They take turns on the same
decoded frames: every round is one sequence, tracked once by each, and the ratio is the median of the
rounds' ratios. pysot runs under ``torch.inference_mode`` although its own scripts do without.

``outside`` is the share of a step's time that is not spent in the network (``network.track``):
cropping, normalising, decoding, choosing, updating. Frames a second count every target's frames.
Needs ``pip install yacs`` and a checkout for pysot; without ``--pysot`` ours is measured alone.
"""

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from datamodules.benchmarks.otb import otb_layout_benchmark
from datamodules.benchmarks.procedural import procedural_benchmark
from lightning_trackers.backbones import AlexNet, Tiny
from lightning_trackers.boxes import xyxy_to_xywh
from lightning_trackers.files import write_text
from lightning_trackers.heads import DepthwiseRPN
from lightning_trackers.methods.siamrpn import SiamRPN, SiamRPNSettings, SiamRPNTracker
from lightning_trackers.siamese import for_inference, normalise
from measurements.pysot_checkout import pysot_config

CONFIG = Path("experiments/siamrpn_alex_dwxcorr/config.yaml")
"""The architecture's configuration in a pysot checkout."""

NAMES = {
    "backbone.layers.": "backbone.features.",
    "head.cls_exemplar.": "rpn_head.cls.conv_kernel.",
    "head.cls_search.": "rpn_head.cls.conv_search.",
    "head.cls_out.": "rpn_head.cls.head.",
    "head.box_exemplar.": "rpn_head.loc.conv_kernel.",
    "head.box_search.": "rpn_head.loc.conv_search.",
    "head.box_out.": "rpn_head.loc.head.",
}
"""How our modules are called in pysot."""

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Clip:
    """Decoded frames of one sequence and the first box.

    Args:
        name: Name of the sequence.
        frames: Frames, uint8 RGB ``(H, W, 3)``.
        box_xyxy: First box, ``(4,)``, px.
    """

    name: str
    frames: list[np.ndarray]
    box_xyxy: np.ndarray


@dataclass
class Row:
    """Speeds of one tracker, one number per round.

    Args:
        name: What is measured.
        fps: Targets × frames per second.
        network_ms: Time in the network per step, median over a round's steps; empty for pysot.
        outside: Share of the time outside the network; empty for pysot.
        ratio: Our speed over this one in the same round; empty for ours.
    """

    name: str
    fps: list[float] = field(default_factory=list)
    network_ms: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)

    def cells(self) -> list[str]:
        """Return the row as printed: medians over rounds."""
        return [
            self.name,
            _cell(self.fps, "{:.1f}"),
            _cell(self.network_ms, "{:.1f}"),
            _cell(self.outside, "{:.1%}"),
            _cell(self.ratio, "{:.2f}"),
        ]


HEADER = ["tracker", "fps", "network ms", "outside", "ours / it"]


class Ours:
    """Our tracker, with a stopwatch around the network.

    Args:
        network: Network in training form.
        settings: Tracker constants.
        targets: How many targets are followed in one step.
    """

    def __init__(self, network: SiamRPN, settings: SiamRPNSettings, targets: int = 1) -> None:
        prepared = for_inference(network)
        self.tracker = SiamRPNTracker(prepared, settings)
        self.targets = targets
        self._network_s: list[float] = []
        track = prepared.track

        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            proposals = track(*arguments)
            self._network_s.append(time.perf_counter() - start)
            return proposals

        prepared.track = timed  # type: ignore[assignment, method-assign]

    def run(self, clip: Clip, row: Row) -> None:
        """Track a clip and add its speed to the row."""
        moves = np.random.default_rng(0).uniform(-5, 5, (self.targets, 2))
        moves[0] = 0
        states = [
            self.tracker.start(clip.frames[0], clip.box_xyxy + np.tile(move, 2)) for move in moves
        ]
        self._network_s.clear()
        steps_s = []
        for frame in clip.frames[1:]:
            start = time.perf_counter()
            self.tracker.step(states, [frame] * self.targets)
            steps_s.append(time.perf_counter() - start)
        row.fps.append(self.targets * len(steps_s) / sum(steps_s))
        row.network_ms.append(median(self._network_s) * 1e3)
        row.outside.append(1 - sum(self._network_s) / sum(steps_s))


class Pysot:
    """pysot's ``siamrpn_alex_dwxcorr`` on the CPU with our weights.

    Args:
        checkout: Folder of the checkout; its ``pysot`` package is imported from there.
        network: Our network, whose weights it gets.

    Raises:
        FileNotFoundError: If the folder is not a checkout.
        RuntimeError: If a package that pysot needs is missing, or the two networks differ.
    """

    def __init__(self, checkout: Path, network: SiamRPN) -> None:
        cfg, (models, trackers) = pysot_config(
            checkout, CONFIG, "pysot.models.model_builder", "pysot.tracker.siamrpn_tracker"
        )
        cfg.CUDA = False
        self.model = models.ModelBuilder().eval()
        self.model.load_state_dict(to_pysot(network.state_dict()))
        compare(network, self.model, SiamRPNSettings())
        self.tracker = trackers.SiamRPNTracker(self.model)

    @torch.inference_mode()
    def run(self, clip: Clip, row: Row) -> None:
        """Track a clip and add its speed to the row."""
        frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in clip.frames]  # BGR
        self.tracker.init(frames[0], xyxy_to_xywh(clip.box_xyxy))
        start = time.perf_counter()
        for frame in frames[1:]:
            self.tracker.track(frame)
        row.fps.append((len(frames) - 1) / (time.perf_counter() - start))


def paper_network(seed: int = 0) -> SiamRPN:
    """Return SiamRPN with the paper's AlexNet and random weights.

    Activations keep their size from layer to layer, batch norms are not the identity, logits stay
    around 1 and boxes near the anchors, so that the target's size stays near the first.
    """
    network = SiamRPN(AlexNet(), partial(DepthwiseRPN, hidden=256))
    return _with_random_weights(network, seed)


def small_network(seed: int = 0) -> SiamRPN:
    """Return the small network of the shipped weights' kind, with random weights."""
    network = SiamRPN(Tiny(32, 192), partial(DepthwiseRPN, hidden=192))
    return _with_random_weights(network, seed)


def to_pysot(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights under pysot's names, for its BGR input in [0, 255].

    The first convolution takes in our normalisation: with w (x - m) / s = (w / s) x - w m / s its
    weights are divided by s and its bias is lowered by the sum of w m / s. That is exact because
    nothing is padded.

    Raises:
        KeyError: If a weight has no counterpart.
    """
    renamed = {}
    for name, value in weights.items():
        prefix = next((p for p in NAMES if name.startswith(p)), None)
        if prefix is None:
            raise KeyError(f"no counterpart in pysot for {name}")
        renamed[NAMES[prefix] + name.removeprefix(prefix)] = value.clone()
    # An image of zeros and one of ones tell the affine map: -m / s, and (1 - m) / s.
    probe = torch.tensor([0, 1], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    zero, one = normalise(probe, torch.float64)  # (3, 1, 1) each
    first = renamed["backbone.features.0.weight"].double()  # (O, 3, K, K)
    bias = renamed["backbone.features.0.bias"]
    renamed["backbone.features.0.weight"] = (first * (one - zero)).flip(1).float()  # RGB -> BGR
    renamed["backbone.features.0.bias"] = bias + (first * zero).sum((1, 2, 3)).float()
    return renamed


@torch.inference_mode()
def compare(network: SiamRPN, model: Any, settings: SiamRPNSettings) -> None:
    """Check that our network, prepared for inference, and pysot's answer the same.

    Raises:
        RuntimeError: If an output differs by more than ``TOLERANCE`` of the outputs' largest value.
    """
    generator = torch.Generator().manual_seed(1)

    def crops(size: int) -> Tensor:
        return torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=generator)

    exemplar, search = crops(settings.exemplar_size), crops(settings.search_size)
    found = for_inference(network)(normalise(exemplar), normalise(search))
    model.template(exemplar.flip(1).float())
    outputs = model.track(search.flip(1).float())
    background, target = outputs["cls"].unflatten(1, (2, -1)).unbind(1)
    expected_deltas = outputs["loc"].unflatten(1, (4, -1)).permute(0, 2, 3, 4, 1)
    for name, ours, theirs in (
        ("cls_logits", found.cls_logits, target - background),
        ("box_deltas", found.box_deltas, expected_deltas),
    ):
        difference = float((ours - theirs).abs().max() / theirs.abs().max())
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"{name}: expected pysot's values within {TOLERANCE:g} of the largest, they differ "
                f"by {difference:g}: the two networks are not the same"
            )
        print(f"{name}: largest difference from pysot {difference:.1e}", file=sys.stderr)


def load_clips(root: Path | None, count: int, frames: int) -> list[Clip]:
    """Decode (or draw, without a root) the first frames of the first ``count`` sequences."""
    if root is None:
        benchmark = procedural_benchmark(count=count, length=frames, frame_wh=(640, 480))
    else:
        benchmark = otb_layout_benchmark(root, max_frames=frames)
    return [
        Clip(sequence.name, list(sequence), sequence.boxes_xyxy[0])
        for sequence in benchmark.sequences[:count]
    ]


def measure(
    clips: Sequence[Clip], rounds: int, pysot: Path | None = None, lanes: int = 8
) -> list[Row]:
    """Return one row per tracker; they take turns in every round.

    Args:
        clips: Round r tracks clip r modulo their number.
        rounds: Number of rounds.
        pysot: Checkout of pysot.
        lanes: Targets of the lockstep rows.
    """
    paper, small = paper_network(), small_network()
    settings, small_settings = SiamRPNSettings(), SiamRPNSettings(search_size=255)
    runners: list[Ours | Pysot] = [Ours(paper, settings)]
    rows = [Row("SiamRPN, AlexNet, 287 px")]
    if pysot is not None:
        runners.append(Pysot(pysot, paper))
        rows.append(Row("pysot siamrpn_alex_dwxcorr"))
    runners += [
        Ours(paper, settings, lanes),
        Ours(small, small_settings),
        Ours(small, small_settings, lanes),
    ]
    rows += [
        Row(f"SiamRPN, AlexNet, {lanes} targets"),
        Row("SiamRPN, Tiny(32, 192), 255 px"),
        Row(f"SiamRPN, Tiny(32, 192), {lanes} targets"),
    ]
    warm_up = Clip("warm-up", clips[0].frames[:3], clips[0].box_xyxy)
    for runner in runners:
        runner.run(warm_up, Row(""))
    for r in range(rounds):
        clip = clips[r % len(clips)]
        # Whoever goes first changes, so that a drift of the machine favours nobody.
        order = range(len(runners)) if r % 2 == 0 else range(len(runners) - 1, -1, -1)
        for i in order:
            runners[i].run(clip, rows[i])
            print(f"  {clip.name}: {rows[i].name}: {rows[i].fps[-1]:.1f} fps", file=sys.stderr)
        if pysot is not None:
            rows[1].ratio.append(rows[0].fps[-1] / rows[1].fps[-1])
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pysot", type=Path, help="checkout of pysot to compare with")
    parser.add_argument("--root", type=Path, help="frames in the OTB layout; drawn by default")
    parser.add_argument("--frames", type=_at_least(2), default=60, help="frames of a sequence")
    parser.add_argument("--rounds", type=_at_least(1), default=3, help="rounds, a sequence each")
    parser.add_argument(
        "--lanes", type=_at_least(1), default=8, help="targets of the lockstep rows"
    )
    parser.add_argument("--threads", type=_at_least(1), default=2, help="of torch and of OpenCV")
    parser.add_argument("--csv", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    clips = load_clips(args.root, args.rounds, args.frames)
    rows = measure(clips, args.rounds, args.pysot, args.lanes)
    table = [HEADER, *(row.cells() for row in rows)]
    width = max(len(row[0]) for row in table)
    for row in table:
        print(row[0].ljust(width), *(cell.rjust(10) for cell in row[1:]))
    if args.pysot is None:
        print("pysot not measured: --pysot <checkout of https://github.com/STVIR/pysot> is missing")
    if args.csv is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(table)
        write_text(args.csv, text.getvalue())


def _with_random_weights(network: SiamRPN, seed: int) -> SiamRPN:
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.8, 1.2),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.8, 1.2),
            ):
                assert values is not None  # an affine norm that tracks statistics
                nn.init.uniform_(values, low, high, generator=generator)
    for last in ("head.cls_out.3", "head.box_out.3"):
        nn.init.normal_(network.get_parameter(f"{last}.weight"), std=1e-4, generator=generator)
    return network.eval()


def _at_least(low: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"expected at least {low}, got {value}")
        return value

    return number


def _cell(values: list[float], layout: str) -> str:
    return layout.format(median(values)) if values else ""


if __name__ == "__main__":
    main()
