"""Measure pairs a second from packed shards and from the same crops as loose files.

    python -m measurements.shard_throughput

Procedural frames are packed, and the JPEGs in the shards are written out once more as loose files, so
both sides read the same bytes by the same index and draw the same pairs, which is checked. They take
turns; a round is a batch by each, the order changes from round to round, and the ratio is the median of
the rounds' ratios. Two stages: with the augmentation of pysot's ``siamrpn_alex_dwxcorr_16gpu`` up to the
tensors, and drawing alone, which reads two crops and decodes nothing. Everything is on one thread from
the page cache, and times are CPU time. On a cold disk loose files pay for looking up and opening each
file besides; that is not measured here.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from datamodules.augment import CropAugmentation
from datamodules.packing import pack
from datamodules.pairs import PairDataset, PairGeometry, WeightedSource, collate
from datamodules.procedural import ProceduralSource
from datamodules.shards import ShardSource
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Track, TrackIndex

EXEMPLAR = CropAugmentation(shift=4, scale=0.05, colour=1.0)
SEARCH = CropAugmentation(shift=64, scale=0.18, blur=0.2, colour=1.0)
MAX_GAP = 100
SIZE_WH = (640, 480)
NOISE = 3.0  # grey levels; drawn pictures alone would be decoded faster than photographs


@dataclass(frozen=True)
class Frames:
    """The rule for a frame's path: ``<root>/<video>/<frame>.jpg``."""

    root: Path

    def __call__(self, video: str, frame: int) -> Path:
        """Return the file of a frame."""
        return self.root / video / f"{frame:06d}.jpg"


def drawn_video(root: Path, videos: int, frames: int) -> TrackSource:
    """Write procedural frames with their boxes."""
    source, rng, path = ProceduralSource(), np.random.default_rng(0), Frames(root / "frames")
    tracks = []
    for v in range(videos):
        boxes = []
        for t in range(frames):
            view, _, _ = source.draw(np.random.default_rng([v, t]), max_gap=0, positive=True)
            small = view.scene.frame(view.t)
            frame = cv2.resize(small, SIZE_WH)
            noisy = np.rint(frame + rng.normal(0, NOISE, frame.shape)).clip(0, 255)
            file = path(f"v{v:03d}", t)
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), noisy.astype(np.uint8)[..., ::-1])
            boxes.append(view.box_xyxy * SIZE_WH[0] / small.shape[1])
        seen = np.ones(frames, bool)
        size = np.full((frames, 2), SIZE_WH)
        tracks.append(
            Track(f"v{v:03d}", "0", "thing", np.arange(frames), np.array(boxes), seen, ~seen, size)
        )
    return TrackSource("drawn", TrackIndex.write(root / "tracks.arrow", tracks), path)


def loose_files(packed: ShardSource, root: Path) -> TrackSource:
    """Write the crops of shards as files; return the source of these."""
    path = Frames(root)
    for track in map(packed.index.track, range(len(packed.index))):
        for row, frame in enumerate(track.frames.tolist()):
            file = path(track.video, frame)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(packed.encoded(track, row))
    return TrackSource(packed.name, packed.index, path)


def measure(
    root: Path, rounds: int, pairs: int, videos: int, frames: int
) -> dict[str, dict[str, list[float]]]:
    """Return the CPU time of a pair, ms, in each round, by stage and by what was measured.

    Raises:
        RuntimeError: If the two sides do not give the same pairs.
    """
    pack(drawn_video(root, videos, frames), root / "shards")
    shards = ShardSource(root / "shards")
    sources = {"shards": shards, "loose files": loose_files(shards, root / "loose")}
    data = {
        name: PairDataset(
            {"crops": WeightedSource(source, max_gap=MAX_GAP)},
            PairGeometry(), EXEMPLAR, SEARCH, negative_share=0.05, seed=0, epoch_length=10_000,
        )
        for name, source in sources.items()
    }  # fmt: skip
    one, other = (d[3] for d in data.values())
    if one.source_id != other.source_id or (one.search != other.search).any():
        raise RuntimeError(f"the sides differ: {one.source_id} and {other.source_id}")

    def drawn(source: TrackSource, numbers: range) -> None:
        for n in numbers:
            for view in source.draw(np.random.default_rng(n), max_gap=MAX_GAP, positive=True)[:2]:
                view.picture._data  # noqa: B018  # a file is read when it is looked at

    stages: dict[str, dict[str, Callable[[range], Any]]] = {
        "pairs with augmentation": {
            name: lambda numbers, d=d: collate([d[n] for n in numbers]) for name, d in data.items()
        },
        "drawing and reading": {
            name: lambda numbers, s=s: drawn(s, numbers) for name, s in sources.items()
        },
    }
    times = {stage: {name: [] for name in runners} for stage, runners in stages.items()}
    for turn in range(-1, rounds):  # the first one warms up and does not count
        numbers = range((turn + 1) * pairs, (turn + 2) * pairs)
        for stage, runners in stages.items():
            order = list(runners) if turn % 2 else list(reversed(runners))
            for name in order:
                took = cpu_ms(runners[name], numbers)
                if turn >= 0:
                    times[stage][name].append(took)
    return times


def cpu_ms(work: Callable[[range], Any], numbers: range) -> float:
    """Return the CPU time that ``work`` takes for each of the numbers, ms."""
    start = time.process_time()
    work(numbers)
    return (time.process_time() - start) / len(numbers) * 1e3


def report(times: dict[str, dict[str, list[float]]]) -> list[str]:
    """Return the lines to print."""
    lines = [f"{'':26}{'shards':>12}{'loose files':>14}{'shards are faster by':>24}"]
    for stage, took in times.items():
        ratio = median(
            loose / packed
            for packed, loose in zip(took["shards"], took["loose files"], strict=True)
        )
        shown = [f"{median(took[name]):9.2f} ms" for name in ("shards", "loose files")]
        lines.append(f"{stage:26}{shown[0]:>12}{shown[1]:>14}{ratio:>24.2f}")
    rate = {name: 1e3 / median(t) for name, t in times["pairs with augmentation"].items()}
    lines.append("; ".join(f"{name}: {value:.0f} pairs/s" for name, value in rate.items()))
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="rounds")
    parser.add_argument("--pairs", type=int, default=32, help="pairs of a round, one batch")
    parser.add_argument("--videos", type=int, default=8, help="videos to draw")
    parser.add_argument("--frames", type=int, default=12, help="frames of a video")
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), args.rounds, args.pairs, args.videos, args.frames)
    print("\n".join(report(times)))


if __name__ == "__main__":
    main()
