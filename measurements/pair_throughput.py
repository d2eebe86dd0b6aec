"""Measure how fast training pairs are made from 511-px crops on disk, alone and beside pysot.

    python -m measurements.pair_throughput
    python -m measurements.pair_throughput --pysot <checkout of STVIR/pysot>

The crops are drawn, with sensor noise and JPEG quality 95 as pysot's own cropper leaves them, and lie
in its folders: both sides read the very same files. Both make pairs of 127 and 255 px with the shift,
scale, blur and colour of pysot's ``siamrpn_alex_dwxcorr_16gpu`` and 5 % negative pairs, collated into
batches of tensors. They take turns; every round is a batch by each, and the ratio is the median of
the rounds' ratios. Everything is on one thread, and times are CPU time, so that a busy machine
disturbs little.

The *floor* reads and decodes the two images of each pair and does nothing else. pysot's dataset also
labels anchors, which we do on the device; what its pairs cost without that is printed too.
Needs ``pip install yacs`` and a checkout for pysot; without ``--pysot`` ours is measured alone.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import default_collate

from datamodules.augment import CropAugmentation
from datamodules.pairs import PairDataset, PairGeometry, WeightedSource, collate
from datamodules.procedural import ProceduralSource
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Track, TrackIndex
from lightning_trackers.crops import search_window
from measurements.pysot_checkout import pysot_config

SIDE = 511
EXEMPLAR_SIZE = PairGeometry().exemplar_size
JPEG_QUALITY = 95  # of cv2.imwrite, with which pysot writes its crops
NOISE = 3.0  # grey levels; drawn pictures alone would be decoded faster than photographs
NEGATIVE_SHARE = 0.05
MAX_GAP = 100
EXEMPLAR = CropAugmentation(shift=4, scale=0.05, colour=1.0)
SEARCH = CropAugmentation(shift=64, scale=0.18, blur=0.2, colour=1.0)
CONFIG = Path("experiments/siamrpn_alex_dwxcorr_16gpu/config.yaml")


@dataclass(frozen=True)
class CropPath:
    """Where pysot's cropper puts a crop."""

    root: Path

    def __call__(self, video: str, frame: int) -> Path:
        """Return the file of a frame."""
        return self.root / video / f"{frame:06d}.00.x.jpg"


def make_crops(root: Path, videos: int, frames: int) -> tuple[TrackIndex, Path]:
    """Draw crops of targets and write them with annotations for both sides.

    Returns:
        Index for ours, with boxes in crop px, and annotation file for pysot.
    """
    source, rng = ProceduralSource(), np.random.default_rng(0)
    tracks, labels = [], {}
    for number in range(videos):
        video, boxes = f"v{number:03d}", []
        (root / video).mkdir(parents=True)
        for frame in range(frames):
            view, _, _ = source.draw(
                np.random.default_rng([number, frame]), max_gap=MAX_GAP, positive=True
            )
            window = search_window(view.box_xyxy, SIDE, EXEMPLAR_SIZE)
            noisy = view.crop(window) + rng.normal(0, NOISE, (SIDE, SIDE, 3))
            image = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            cv2.imwrite(str(CropPath(root)(video, frame)), image[..., ::-1], quality)
            boxes.append(window.to_crop(np.asarray(view.box_xyxy, dtype=np.float64)))
        seen = np.ones(frames, dtype=bool)
        whole = np.full((frames, 2), SIDE, np.uint16)
        crops = np.array(boxes, np.float32)
        numbers = np.arange(frames, dtype=np.int32)
        tracks.append(Track(video, "00", "thing", numbers, crops, seen, ~seen, whole))
        labels[video] = {"00": {f"{i:06d}": list(map(float, box)) for i, box in enumerate(boxes)}}
    annotation = root / "annotation.json"
    annotation.write_text(json.dumps(labels))
    return TrackIndex.write(root / "tracks.arrow", tracks), annotation


def ours(index: TrackIndex, root: Path) -> PairDataset:
    """Return our pairs of the crops."""
    source = TrackSource("crops", index, CropPath(root))
    return PairDataset(
        {"crops": WeightedSource(source, max_gap=MAX_GAP)},
        PairGeometry(),
        EXEMPLAR,
        SEARCH,
        NEGATIVE_SHARE,
        seed=0,
        epoch_length=10_000,
    )


def pysot_dataset(checkout: Path, root: Path, annotation: Path) -> Any:
    """Return pysot's ``TrkDataset`` of the crops, with the recipe's augmentation.

    Raises:
        FileNotFoundError: If the folder is not a checkout of pysot.
        RuntimeError: If a package that pysot needs is missing.
    """
    vars(np).setdefault("float", float)  # pysot was written for numpy < 1.24
    cfg, (datasets,) = pysot_config(checkout, CONFIG, "pysot.datasets.dataset")
    for kind, options in (("TEMPLATE", EXEMPLAR), ("SEARCH", SEARCH)):
        cfg.DATASET[kind].SHIFT, cfg.DATASET[kind].SCALE = int(options.shift), options.scale
        cfg.DATASET[kind].BLUR, cfg.DATASET[kind].COLOR = options.blur, options.colour
    cfg.DATASET.NAMES = ["VID"]
    cfg.DATASET.VID.ROOT, cfg.DATASET.VID.ANNO = str(root.resolve()), str(annotation.resolve())
    cfg.DATASET.VID.FRAME_RANGE, cfg.DATASET.VID.NUM_USE = MAX_GAP, -1
    cfg.DATASET.NEG, cfg.DATASET.VIDEOS_PER_EPOCH = NEGATIVE_SHARE, 10_000
    return datasets.TrkDataset()


def decode(index: TrackIndex, root: Path, numbers: range) -> None:
    """Read and decode two images of a track for each number and do nothing else."""
    for number in numbers:
        rng = np.random.default_rng([1, number])
        track = index.track(int(rng.integers(len(index))))
        for frame in rng.choice(track.frames, size=2):
            data = CropPath(root)(track.video, int(frame)).read_bytes()
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def cpu_ms(work: Callable[[range], Any], numbers: range) -> float:
    """Return the CPU time that ``work`` takes for each of the numbers, ms."""
    start = time.process_time()
    work(numbers)
    return (time.process_time() - start) / len(numbers) * 1e3


def measure(
    root: Path, rounds: int, pairs: int, pysot: Path | None, videos: int, frames: int
) -> dict[str, list[float]]:
    """Return the CPU time of a pair, ms, in each round, by what was measured."""
    index, annotation = make_crops(root, videos, frames)
    data = ours(index, root)
    runners: dict[str, Callable[[range], Any]] = {
        "two decodes (floor)": partial(decode, index, root),
        "ours": lambda numbers: collate([data[n] for n in numbers]),
    }
    if pysot is not None:
        theirs = pysot_dataset(pysot, root, annotation)
        runners["pysot TrkDataset"] = lambda numbers: default_collate([theirs[n] for n in numbers])
        nothing = theirs.anchor_target((0.0, 0.0, 9.0, 9.0), 17, True)
        runners["pysot without labels"] = partial(_without_labels, theirs, nothing)
    times: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(-1, rounds):  # the first one warms up and does not count
        numbers = range((turn + 1) * pairs, (turn + 2) * pairs)
        for name, work in runners.items():
            took = cpu_ms(work, numbers)
            if turn >= 0:
                times[name].append(took)
    return times


def report(times: dict[str, list[float]]) -> list[str]:
    """Return the lines to print."""
    lines = [f"{'':24}{'ms a pair':>12}{'pairs/s':>10}{'ours is faster by':>20}"]
    for name, took in times.items():
        ratio = median(t / o for t, o in zip(took, times["ours"], strict=True))
        lines.append(f"{name:24}{median(took):12.2f}{1e3 / median(took):10.0f}{ratio:20.2f}")
    above = median(
        o / f - 1 for o, f in zip(times["ours"], times["two decodes (floor)"], strict=True)
    )
    lines.append(f"ours is {above:.0%} above the floor")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pysot", type=Path, help="checkout of pysot to compare with")
    parser.add_argument("--rounds", type=int, default=15, help="rounds")
    parser.add_argument("--pairs", type=int, default=32, help="pairs of a round, one batch")
    parser.add_argument("--videos", type=int, default=12, help="videos to draw")
    parser.add_argument("--frames", type=int, default=8, help="frames of a video")
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), args.rounds, args.pairs, args.pysot, args.videos, args.frames)
    print("\n".join(report(times)))
    if args.pysot is None:
        print("pysot not measured: --pysot <checkout of https://github.com/STVIR/pysot> is missing")


def _without_labels(dataset: Any, nothing: Any, numbers: range) -> Any:
    labels = dataset.anchor_target
    dataset.anchor_target = lambda *_: nothing
    try:
        return default_collate([dataset[n] for n in numbers])
    finally:
        dataset.anchor_target = labels


if __name__ == "__main__":
    main()
