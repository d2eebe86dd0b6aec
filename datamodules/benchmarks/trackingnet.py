"""TrackingNet: its test set.

::

    <root>/TEST/frames/<video>/0.jpg, 1.jpg, ...   numbered from 0, not zero-padded
    <root>/TEST/anno/<video>.txt                   x,y,w,h of the first frame, px

The ground truth of the test set is withheld; its results are scored by the benchmark's server
(``experiments.submit`` makes the archive).

Source: Müller et al., TrackingNet: A Large-Scale Dataset and Benchmark for Object Tracking in the
Wild, ECCV 2018, and its devkit.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from datamodules.benchmarks.reading import (
    all_frames,
    assembled,
    check_complete,
    existing_folder,
    from_first_box,
)
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.submission import TRACKINGNET_SERVER

SEQUENCES = 511

LAYOUT = """expected layout:
  <root>/TEST/frames/<video>/0.jpg, 1.jpg, ...
  <root>/TEST/anno/<video>.txt   (x,y,w,h of the first frame)"""


def trackingnet_benchmark(
    root: str | Path,
    name: str = "trackingnet_test",
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
) -> Benchmark:
    """Read the test set of TrackingNet (511 videos).

    Args:
        root: Folder that holds ``TEST``.
        name: Name of the benchmark in log keys and result folders.
        sequences: Names of the videos to take; all by default, and then all must be there.
        max_frames: Use at most so many frames of each, from its first.

    Raises:
        DatasetError: If a video is missing, a file is not as expected, or a name is unknown.
    """
    root = Path(root)
    annotations = existing_folder(root / "TEST" / "anno", root, LAYOUT)
    videos = existing_folder(root / "TEST" / "frames", root, LAYOUT)
    files = {f.stem: f for f in sorted(annotations.glob("*.txt")) if not f.name.startswith(".")}
    if sequences is None:
        check_complete("TrackingNet's test set", annotations, SEQUENCES, list(files))
        found = [n for n in files if (videos / n).is_dir()]
        check_complete("TrackingNet's test set", videos, list(files), found)
    readers = {n: partial(_sequence, videos / n, file) for n, file in files.items()}
    return assembled(name, annotations, readers, sequences, max_frames, TRACKINGNET_SERVER)


def _sequence(folder: Path, annotation: Path) -> TrackingSequence:
    frames = all_frames(folder, "{:d}.jpg", first=0)
    return from_first_box(folder.name, frames, annotation, one_based=False)
