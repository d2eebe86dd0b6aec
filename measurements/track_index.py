"""Measure how long an annotation index of the size of YouTube-BB takes to make and open.

Run ``python -m measurements.track_index``. It writes detection annotations in the official form with
drawn numbers (240,000 tracks, 5.6 million boxes) and a list of image sizes into a temporary folder,
makes the index from them, opens it again, and starts worker processes that open it and draw pairs. Each
worker is a fresh interpreter, so that the memory counted is all that the index costs it: unshared memory
(USS, Linux only) after drawing less that before opening.
"""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.csv

from datamodules.sources.youtube_bb import YouTubeBBSource

TRACKS, BOXES = 240_000, 5_600_000
CLASSES = 23


def write_annotations(root: Path, tracks: int, boxes: int, seed: int = 0) -> None:
    """Write ``yt_bb_detection_train.csv`` and ``sizes.csv``; an eighth of the frames lack the target."""
    rng = np.random.default_rng(seed)
    # A video has one target, every seventh two.
    video_of_track = np.cumsum(np.arange(tracks) % 8 != 7) - 1
    lengths = np.full(tracks, boxes // tracks)
    lengths[: boxes - lengths.sum()] += 1
    track = np.repeat(np.arange(tracks), lengths)
    second = np.arange(boxes) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 10
    present = rng.random(boxes) > 1 / 8
    present[second == 10] = True
    names = _names(rng, int(video_of_track[-1]) + 1)
    x1, y1 = rng.uniform(0, 0.5, (2, boxes)).astype(np.float32)
    width, height = rng.uniform(0.1, 0.5, (2, boxes)).astype(np.float32)
    edges = [np.where(present, v, -1) for v in (x1, x1 + width, y1, y1 + height)]
    class_id = (track * 7 % CLASSES).astype(np.int32)
    table = pa.table(
        {
            "youtube_id": pa.DictionaryArray.from_arrays(video_of_track[track], names).cast(
                "string"
            ),
            "time_ms": second * 1000,
            "class_id": class_id,
            "class_name": pa.DictionaryArray.from_arrays(
                class_id, [f"class {i}" for i in range(CLASSES)]
            ).cast("string"),
            "object_id": (track % 8 == 7).astype(np.int32),
            "presence": pa.DictionaryArray.from_arrays(
                present.astype(np.int32), ["absent", "present"]
            ).cast("string"),
            **{name: np.round(v, 4) for name, v in zip("abcd", edges, strict=True)},
        }
    )
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    pyarrow.csv.write_csv(table, root / "yt_bb_detection_train.csv", options)
    lines = (
        f"{name},{1280 if i % 2 else 640},{720 if i % 2 else 480}" for i, name in enumerate(names)
    )
    (root / "sizes.csv").write_text("youtube_id,width,height\n" + "\n".join(lines) + "\n")


def _names(rng: np.random.Generator, count: int) -> list[str]:
    """Return distinct ids of eleven characters."""
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    random = letters[rng.integers(len(letters), size=(count, 6))]
    return [f"{''.join(row)}{i:05x}" for i, row in enumerate(random)]


def open_and_draw(root: Path, pairs: int) -> tuple[float, float]:
    """Return the time to open the source (s) and the unshared memory it added (MB)."""
    before = unshared_memory_mb()
    start = time.perf_counter()
    source = YouTubeBBSource(root, sizes=root / "sizes.csv", same_category=0.5)
    opened_s = time.perf_counter() - start
    for number in range(pairs):
        rng = np.random.default_rng([os.getpid(), number])
        source.draw(rng, max_gap=3, positive=number % 4 > 0)
    return opened_s, unshared_memory_mb() - before


def unshared_memory_mb() -> float:
    """Return the memory of this process that no other shares, MB; 0 where the system tells none."""
    report = Path("/proc/self/smaps_rollup")
    if not report.is_file():
        return 0.0
    lines = report.read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=TRACKS)
    parser.add_argument("--boxes", type=int, default=BOXES)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=2000, help="pairs that each worker draws")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_annotations(root, options.tracks, options.boxes)
        size = (root / "yt_bb_detection_train.csv").stat().st_size
        start, cpu_start = time.perf_counter(), sum(os.times()[:4])
        index = YouTubeBBSource(root, sizes=root / "sizes.csv").index
        made_s, cpu_s = time.perf_counter() - start, sum(os.times()[:4]) - cpu_start
        print(
            f"tracks, boxes, size of the CSV file         {len(index)}, {index.boxes}, {size >> 20} MB"
        )
        print(f"index made in                               {made_s:8.1f} s, {cpu_s:.1f} s of CPU")
        print(
            f"index file                                  {index.path.stat().st_size >> 20:8d} MB"
        )
        context = get_context("spawn")
        with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
            jobs = [pool.submit(open_and_draw, root, options.pairs) for _ in range(options.workers)]
            opened_s, added_mb = zip(*(job.result() for job in jobs), strict=True)
        first = min(opened_s)
        print(f"opened in, fastest and median worker        {first:8.3f} {median(opened_s):8.3f} s")
        print(
            f"unshared memory that {options.workers} workers add together {sum(added_mb):6.1f} MB"
        )


if __name__ == "__main__":
    sys.exit(main())
