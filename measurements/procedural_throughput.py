"""Measure how fast procedural pairs and sequences are drawn on one core.

Run ``python -m measurements.procedural_throughput`` or ``python measurements/procedural_throughput.py``.
The baseline draws the very same pairs in a straightforward way: it renders both whole frames and cuts
the crops out of them, with the filled bank and with one that keeps nothing for the next pair. All work is on one thread and times
are the process's CPU time, so that a busy machine disturbs little.
"""

import argparse
import time

import cv2
import numpy as np

from datamodules.benchmarks.procedural import procedural_benchmark
from datamodules.procedural import ProceduralSource, SceneView
from lightning_trackers import crops
from lightning_trackers.crops import Window, search_window


def windows(
    rng: np.random.Generator, exemplar: SceneView, search: SceneView
) -> tuple[Window, Window]:
    """Return the windows a pair module would ask for: shifted and zoomed at random."""
    z = search_window(exemplar.box_xyxy, 127, 127)
    dx, dy = rng.uniform(-4, 4, 2) / z.scale
    z = z.moved(dx, dy)
    x = search_window(search.box_xyxy, 255, 127)
    dx, dy = rng.uniform(-64, 64, 2) / x.scale
    return z, x.moved(dx, dy, zoom=float(np.exp(rng.uniform(-0.18, 0.18))))


def pairs_per_second(source: ProceduralSource, numbers: range, whole_frames: bool) -> float:
    """Draw pairs by number and return how many a second."""
    start = time.process_time()
    for number in numbers:
        rng = np.random.default_rng([1, number])
        z, x, _ = source.draw(rng, max_gap=100, positive=number % 5 > 0)
        for view, window in zip((z, x), windows(rng, z, x), strict=True):
            if whole_frames:
                crops.crop(view.scene.frame(view.t), window)
            else:
                view.crop(window)
    return len(numbers) / (time.process_time() - start)


def main() -> None:
    """Print pairs a second, cold and warm, against the baseline, and frames a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=400, help="pairs of each timing")
    parser.add_argument("--repeats", type=int, default=3, help="timings, the best of which counts")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    source = ProceduralSource()
    cold = pairs_per_second(source, range(options.pairs), whole_frames=False)
    pairs_per_second(
        source, range(options.pairs, 3 * options.pairs), whole_frames=False
    )  # fills it
    warm, framed, plain = [], [], []
    some = range(options.pairs)
    few = range(max(1, options.pairs // 10))
    for _ in range(options.repeats):  # alternating, so that a busy machine slows both
        warm.append(pairs_per_second(source, some, whole_frames=False))
        framed.append(pairs_per_second(source, few, whole_frames=True))
        plain.append(pairs_per_second(ProceduralSource(memory_mb=1e-6), few, whole_frames=True))
    print(f"pairs/s, one core, empty bank at start     {cold:8.1f}")
    print(f"pairs/s, one core, bank filled             {max(warm):8.1f}")
    print(f"pairs/s, whole frames, bank filled         {max(framed):8.1f}")
    print(f"pairs/s, whole frames and nothing kept     {max(plain):8.1f}")

    start = time.process_time()
    benchmark = procedural_benchmark()
    made = time.process_time() - start
    rates = []
    for sequence in benchmark.sequences[: 2 * options.repeats]:
        start = time.process_time()
        count = sum(1 for _ in sequence)
        rates.append(count / (time.process_time() - start))
    print(f"benchmark of {len(benchmark)} sequences made in           {made:8.1f} s")
    print(f"320x240 frames/s, one core: slowest, median {min(rates):7.1f} {np.median(rates):8.1f}")


if __name__ == "__main__":
    main()
