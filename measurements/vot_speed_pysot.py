"""The other side of ``vot_speed``: pysot's toolkit, run by an interpreter of its own.

    <python> measurements/vot_speed_pysot.py <pysot> <VOT2018.json> <tracker folder>

Answers each line on standard input with a line of JSON: ``files`` reads the tracker's results and
scores them, ``memory`` scores what was read, both with seconds and scores. Needs nothing of this
project; the frames, which the toolkit opens for their size, are not read.
"""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any


class Dataset(list[Any]):
    """The videos, as the toolkit's benchmarks look at them."""

    def __init__(self, annotations: Path, tracker: Path) -> None:
        super().__init__()
        self.name = annotations.stem
        self.tracker_path, self.tracker_names = str(tracker.parent), [tracker.name]

    def __getitem__(self, key: Any) -> Any:
        """Return a video by its number or name."""
        if isinstance(key, str):
            return next(video for video in self if video.name == key)
        return super().__getitem__(key)

    def load(self) -> None:
        """Read the tracker's results."""
        for video in self:
            video.load_tracker(self.tracker_path, self.tracker_names)


def main() -> None:
    """Serve until standard input ends."""
    pysot, annotations, tracker = (Path(argument).resolve() for argument in sys.argv[1:])
    sys.path.insert(0, str(pysot))
    from toolkit.datasets.vot import VOTVideo
    from toolkit.evaluation import AccuracyRobustnessBenchmark, EAOBenchmark

    dataset = Dataset(annotations, tracker)
    for name, entry in json.loads(annotations.read_bytes()).items():
        video = VOTVideo.__new__(VOTVideo)  # its constructor opens an image
        video.name, video.gt_traj = name, entry["gt_rect"]
        video.width, video.height = entry["width"], entry["height"]
        video.tags, video.pred_trajs = {"all": [1] * len(video.gt_traj)}, {}
        dataset.append(video)
    dataset.load()
    for line in sys.stdin:
        start = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr):
            if line.strip() == "files":
                dataset.load()
            loaded = time.perf_counter()
            rows = AccuracyRobustnessBenchmark(dataset).eval()[tracker.name]
            between = time.perf_counter()
            eao = EAOBenchmark(dataset).eval()[tracker.name]["all"]
        end = time.perf_counter()
        overlaps = [o for frames in rows["overlaps"].values() for o in frames if o == o]
        lost = sum(sum(runs) / len(runs) for runs in rows["failures"].values())
        answer = {
            "eao_s": end - between,
            "all_s": end - start,
            "load_s": loaded - start,
            "eao": float(eao),
            "accuracy": float(sum(overlaps) / len(overlaps)),
            "failures": float(lost),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
