"""GOT-10k: its validation and test splits.

::

    <root>/<val|test>/list.txt                          names of the sequences
    <root>/<val|test>/<Sequence>/00000001.jpg ...
    <root>/<val|test>/<Sequence>/groundtruth.txt        x,y,w,h per frame, 1-based px; test: one line
    <root>/val/<Sequence>/cover.label                   visible share, 0 (none) to 8 (all)
    <root>/val/<Sequence>/absence.label, cut_by_image.label   0/1 per frame
    <root>/val/<Sequence>/meta_info.ini                 classes

Frames with ``cover`` 0 do not count. The ground truth of the test split is withheld; its results
are scored by the benchmark's server (``experiments.submit`` makes the archive).

Source: Huang, Zhao, Huang, GOT-10k: A Large High-Diversity Benchmark for Generic Object Tracking in
the Wild, TPAMI 2019, and its toolkit.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.benchmarks.reading import (
    all_frames,
    assembled,
    check_complete,
    check_lengths,
    check_start,
    existing_folder,
    from_first_box,
    read_annotation,
    read_labels,
    to_xyxy,
)
from datamodules.errors import DatasetError
from lightning_trackers.evaluation.ope_protocol import AverageOverlapOnePass
from lightning_trackers.evaluation.protocol import EvaluationProtocol
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.submission import GOT10K_SERVER

SEQUENCES = 180
SUBSETS = ("val", "test")
_FULLY_VISIBLE = 8

LAYOUT = """expected layout:
  <root>/val/list.txt
  <root>/val/GOT-10k_Val_000001/00000001.jpg ...
  <root>/val/GOT-10k_Val_000001/groundtruth.txt, cover.label, absence.label, cut_by_image.label"""


def got10k_benchmark(
    root: str | Path,
    subset: str = "val",
    name: str | None = None,
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    protocol: EvaluationProtocol[Any] | None = None,
) -> Benchmark:
    """Read the validation or the test split of GOT-10k, 180 sequences each.

    Args:
        root: Folder that holds ``val`` and ``test``.
        subset: ``val`` or ``test``.
        name: Name of the benchmark in log keys and result folders; ``got10k_<subset>`` by default.
        sequences: Names of the sequences to take; all by default, and then all must be there.
        max_frames: Use at most so many frames of each, from its first.
        protocol: How it is tracked and scored; GOT-10k's rule, or its server, by default.

    Raises:
        DatasetError: If a sequence is missing, a file is not as expected, or a name is unknown.
        ValueError: If the subset is unknown.
    """
    if subset not in SUBSETS:
        raise ValueError(f"subset: expected one of {', '.join(SUBSETS)}, got {subset!r}")
    folder = existing_folder(Path(root) / subset, Path(root), LAYOUT)
    list_file = folder / "list.txt"
    if not list_file.is_file():
        raise DatasetError(f"{list_file}: missing; {LAYOUT}")
    names = list_file.read_text(encoding="utf-8").split()
    found = [n for n in names if (folder / n).is_dir()]
    if sequences is None:
        check_complete(f"GOT-10k {subset}", folder, SEQUENCES, names)
        check_complete(f"GOT-10k {subset}", folder, names, found)
    read = _val_sequence if subset == "val" else _test_sequence
    readers = {n: partial(read, folder / n) for n in found}
    own = AverageOverlapOnePass() if subset == "val" else GOT10K_SERVER
    default = f"got10k_{subset}"
    return assembled(name or default, folder, readers, sequences, max_frames, protocol or own)


def _val_sequence(folder: Path) -> TrackingSequence:
    annotation = folder / "groundtruth.txt"
    boxes_xywh = read_annotation(annotation)
    check_start(boxes_xywh, annotation)
    frames = all_frames(folder, "{:08d}.jpg", first=1)
    check_lengths(folder.name, frames, boxes_xywh, annotation)
    cover = read_labels(folder / "cover.label", len(frames), highest=_FULLY_VISIBLE)
    cut = read_labels(folder / "cut_by_image.label", len(frames))
    return TrackingSequence(
        folder.name,
        frames,
        to_xyxy(boxes_xywh),
        cover > 0,
        _classes(folder / "meta_info.ini"),
        frame_attributes={"occluded": cover < _FULLY_VISIBLE, "cut_by_image": cut == 1},
        absent=read_labels(folder / "absence.label", len(frames)) == 1,
    )


def _test_sequence(folder: Path) -> TrackingSequence:
    frames = all_frames(folder, "{:08d}.jpg", first=1)
    return from_first_box(folder.name, frames, folder / "groundtruth.txt", one_based=True)


def _classes(file: Path) -> frozenset[str]:
    """Return the object's class, with blanks as underscores, as the only attribute.

    The paper's mAO and mSR are means over classes.
    """
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(r"^object_class\s*[:=]\s*(.+?)\s*$", text, re.MULTILINE)
    return frozenset({re.sub(r"\s+", "_", found[1])}) if found else frozenset()
