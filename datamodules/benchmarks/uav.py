"""UAV123, UAV123@10fps and UAV20L.

::

    <root>/data_seq/UAV123/<folder>/000001.jpg ...         UAV123_10fps: data_seq/UAV123_10fps
    <root>/anno/<UAV123|UAV123_10fps|UAV20L>/<name>.txt    x,y,w,h per frame, 1-based px
    <root>/anno/<...>/att/<name>.txt                       optional, twelve 0/1 flags

A line of NaN says that the target is fully hidden or out of view. A folder of UAV123 may be cut into
several sequences; UAV20L takes such folders whole.

Source: Mueller, Smith, Ghanem, A Benchmark and Simulator for UAV Tracking, ECCV 2016, and its
``configSeqs.m``; evaluated with the OTB toolkit and its rule.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.benchmarks.reading import (
    assembled,
    check_complete,
    check_lengths,
    check_start,
    existing_folder,
    is_valid,
    numbered_frames,
    read_annotation,
    read_attributes,
    to_xyxy,
)
from datamodules.errors import DatasetError
from lightning_trackers.evaluation.ope_protocol import OnePass
from lightning_trackers.evaluation.protocol import EvaluationProtocol
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

ATTRIBUTES = ("SV", "ARC", "LR", "FM", "FOC", "POC", "OV", "BC", "IV", "VC", "CM", "SOB")
"""Order of the flags in the ``att`` files."""

_CONSECUTIVE = {
    "car1": (1, 751, 1627, 2629),
    "car6": (1, 487, 1807, 2953, 3925, 4861),
    "car8": (1, 1357, 2575),
    "car16": (1, 415, 1993),
    "group1": (1, 1333, 2515, 3925, 4873),
    "group2": (1, 907, 1771, 2683),
    "group3": (1, 1567, 2827, 4369, 5527),
    "person2": (1, 1189, 2623),
    "person4": (1, 1501, 2743),
    "person5": (1, 877, 2101),
    "person7": (1, 1249, 2065),
    "person8": (1, 1075, 1525),
    "person12": (1, 601, 1621),
    "person14": (1, 847, 1813, 2923),
    "person17": (1, 1501, 2347),
    "person19": (1, 1243, 2791, 4357),
    "truck4": (1, 577, 1261),
}  # borders of consecutive sequences, which share them
_WITH_GAPS = {
    "bird1": ((1, 253), (775, 1477), (1573, 2437)),
    "uav1": ((1, 1555), (1555, 2377), (2473, 3469)),
}

SEGMENTS: dict[str, tuple[str, int, int]] = {
    f"{folder}_{k}": (folder, first, last)
    for folder, parts in (
        {f: tuple(pairwise(borders)) for f, borders in _CONSECUTIVE.items()} | _WITH_GAPS
    ).items()
    for k, (first, last) in enumerate(parts, start=1)
}
"""Folder, first and last image of the sequences of UAV123 that are a part of a folder."""

_KINDS = {"bike": 3, "boat": 9, "building": 5, "car": 18, "group": 3, "person": 23}
_KINDS |= {"truck": 4, "uav": 8, "wakeboard": 10, "bird": 1}
_SIMULATED = ("car1_s", "car2_s", "car3_s", "car4_s", "person1_s", "person2_s", "person3_s")
_FOLDERS = {f"{kind}{i}" for kind, count in _KINDS.items() for i in range(1, count + 1)}
_UAV123 = (_FOLDERS - {folder for folder, _, _ in SEGMENTS.values()}) | {*SEGMENTS, *_SIMULATED}
_UAV20L = {"bike1", "bird1", "car1", "car3", "car6", "car8", "car9", "car16"}
_UAV20L |= {"group1", "group2", "group3", "person2", "person4", "person5", "person7"}
_UAV20L |= {"person14", "person17", "person19", "person20", "uav1"}

VERSIONS: dict[str, tuple[str, ...]] = {
    "UAV123": tuple(sorted(_UAV123)),
    "UAV123_10fps": tuple(sorted(_UAV123)),
    "UAV20L": tuple(sorted(_UAV20L)),
}
"""Names of the 123, 123 and 20 sequences."""

LAYOUT = """expected layout:
  <root>/data_seq/UAV123/<folder>/000001.jpg ...
  <root>/anno/UAV123/<name>.txt   (x,y,w,h per frame, 1-based, NaN = absent)"""


def uav_benchmark(
    root: str | Path,
    version: str = "UAV123",
    name: str | None = None,
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    protocol: EvaluationProtocol[Any] | None = None,
) -> Benchmark:
    """Read UAV123, UAV123_10fps or UAV20L under the OTB rule.

    Args:
        root: Folder that holds ``data_seq`` and ``anno``.
        version: ``UAV123``, ``UAV123_10fps`` or ``UAV20L``.
        name: Name of the benchmark in log keys and result folders; the version in small letters by
            default.
        sequences: Names of the sequences to take; all by default, and then all must be there.
        max_frames: Use at most so many frames of each, from its first.
        protocol: How it is tracked and scored; one-pass evaluation under OTB's rule by default.

    Raises:
        DatasetError: If a sequence is missing, a file is not as expected, or a name is unknown.
        ValueError: If the version is unknown.
    """
    if version not in VERSIONS:
        raise ValueError(f"version: expected one of {', '.join(VERSIONS)}, got {version!r}")
    root = Path(root)
    annotations = existing_folder(root / "anno" / version, root, LAYOUT)
    images = root / "data_seq" / ("UAV123_10fps" if version == "UAV123_10fps" else "UAV123")
    existing_folder(images, root, LAYOUT)
    known = VERSIONS[version]
    found = [n for n in known if (annotations / f"{n}.txt").is_file()]
    if sequences is None:
        check_complete(version, annotations, known, found)
    readers = {n: partial(_sequence, annotations, images, n, version) for n in found}
    return assembled(
        name or version.lower(),
        annotations,
        readers,
        sequences,
        max_frames,
        protocol or OnePass("otb"),
    )


def _sequence(annotations: Path, images: Path, name: str, version: str) -> TrackingSequence:
    file = annotations / f"{name}.txt"
    boxes_xywh = read_annotation(file)
    check_start(boxes_xywh, file)
    folder, first, last = SEGMENTS.get(name, (name, 1, len(boxes_xywh)))
    if version == "UAV123_10fps" and name in SEGMENTS:
        # Every third image of the original was kept, its first one included.
        first, last = (first - 1) // 3 + 1, (last - 1) // 3 + 1
    if not (images / folder).is_dir():
        raise DatasetError(f"{images / folder}: no such folder, {file} belongs to it; {LAYOUT}")
    frames = numbered_frames(images / folder, "{:06d}.jpg", first, last)
    check_lengths(name, frames, boxes_xywh, file)
    return TrackingSequence(
        name,
        frames,
        to_xyxy(boxes_xywh),
        is_valid(boxes_xywh),
        read_attributes(annotations / "att" / f"{name}.txt", ATTRIBUTES),
        absent=np.isnan(boxes_xywh).all(axis=1),
    )
