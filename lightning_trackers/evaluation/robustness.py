"""Robustness to where and when a tracker is started: TRE and SRE.

Both turn a benchmark into another one that is tracked like any other. Its sequences share the
frames with the original ones, and the runs of one sequence are scored together: successes of all
its runs over frames of all its runs, so long segments weigh more.

- Temporal robustness (TRE): 20 segments of each sequence, each tracked to the end.
- Spatial robustness (SRE): 12 first boxes that are moved or scaled by 10 or 20 percent.

Source: Wu, Lim, Yang, Online Object Tracking: A Benchmark, CVPR 2013, Section 4; MATLAB toolkit
v1.0 (``splitSeqTRE``, ``shiftInitBB``, ``calcSeqErrRobust`` of ``util``, which does not rescale).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from lightning_trackers.boxes import xywh_to_xyxy, xyxy_to_xywh
from lightning_trackers.evaluation.ope_protocol import OnePass
from lightning_trackers.evaluation.protocol import EvaluationProtocol
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

SEGMENTS = 20
SHORTEST_SEGMENT = 20
"""Frames that the last segment has at least."""

_ONE_BASED = np.array([1.0, 1.0, 0.0, 0.0])
_RUN_NAME = re.compile(r"_(tre\d\d|sre_[a-z]+(_\d+)?)$")  # codespell:ignore tre


def temporal_robustness(
    benchmark: Benchmark, no_start: Mapping[str, np.ndarray] | None = None
) -> Benchmark:
    """Return the benchmark of TRE, with sequences such as ``Bolt_tre03``.

    Args:
        benchmark: One that is evaluated in one pass.
        no_start: Frames in which no segment begins, bool ``(T,)`` by the sequence's name; see
            :func:`read_no_start`. The toolkit leaves out frames where the target is hidden.

    Raises:
        ValueError: If the benchmark is evaluated otherwise, a flag array has another length, or a
            sequence has no frame to start from.
    """
    protocol = _pooled(benchmark, "temporal robustness (TRE)")
    no_start = no_start or {}
    sequences = []
    for sequence in benchmark:
        possible = sequence.valid & ~no_start.get(sequence.name, np.zeros_like(sequence.valid))
        for number, start in enumerate(segment_starts(possible), start=1):
            sequences.append(_segment(sequence, start, f"{sequence.name}_tre{number:02d}"))
    return Benchmark(f"{benchmark.name}_tre", sequences, protocol)


def spatial_robustness(benchmark: Benchmark) -> Benchmark:
    """Return the benchmark of SRE, with sequences such as ``Bolt_sre_left``.

    The first frame of each sequence is read, because boxes are cut at the image's border.

    Raises:
        ValueError: If the benchmark is not evaluated in one pass.
    """
    protocol = _pooled(benchmark, "spatial robustness (SRE)")
    sequences = []
    for sequence in benchmark:
        box_xywh = xyxy_to_xywh(sequence.boxes_xyxy[0]) + _ONE_BASED
        height, width = sequence.frames[0].shape[:2]
        for name, perturb in PERTURBATIONS.items():
            start_xywh = _inside(perturb(box_xywh), (height, width))
            sequences.append(
                replace(
                    sequence,
                    name=f"{sequence.name}_sre_{name}",
                    start_box_xyxy=xywh_to_xyxy(start_xywh - _ONE_BASED),
                )
            )
    return Benchmark(f"{benchmark.name}_sre", sequences, protocol)


def base_name(name: str) -> str:
    """Return the name of the sequence that a run of TRE or SRE belongs to."""
    return _RUN_NAME.sub("", name)


def segment_starts(possible: np.ndarray) -> list[int]:
    """Return the frames, from 0, in which the 20 segments of TRE begin; the first is OPE's.

    Short sequences give the same frame more than once, as in the toolkit.

    Args:
        possible: Frames in which a segment may begin, bool ``(T,)``.

    Raises:
        ValueError: If none can begin.
    """
    frames = np.flatnonzero(possible)
    last = int((len(possible) - frames >= SHORTEST_SEGMENT).sum())  # rank of the last start
    if last == 0:
        raise ValueError(
            f"TRE: expected a frame to start from with at least {SHORTEST_SEGMENT} frames left, got "
            f"none among {len(possible)} frames"
        )
    ranks = [math.floor(1 + i * last / (SEGMENTS - 1)) for i in range(SEGMENTS - 1)]
    return [int(frames[rank - 1]) for rank in [*ranks, last]]


def read_no_start(file: str | Path, count: int, first_image: int = 1) -> np.ndarray:
    """Return the frames that an ``initOmit`` file of the OTB toolkit excludes, bool ``(T,)``.

    Args:
        file: Lines ``from to``, numbers of images, both inclusive.
        count: Frames of the sequence.
        first_image: Number of its first image.

    Raises:
        ValueError: If a line is not two numbers.
    """
    excluded = np.zeros(count, dtype=bool)
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        values = line.replace(",", " ").split()
        if not values:
            continue
        if len(values) != 2 or not all(value.isdecimal() for value in values):
            raise ValueError(f"{file}, line {number}: expected two image numbers, got {line!r}")
        first, last = (int(value) - first_image for value in values)
        excluded[max(first, 0) : max(last + 1, 0)] = True
    return excluded


def _shifted(x_sign: int, y_sign: int) -> Callable[[np.ndarray], np.ndarray]:
    def shift(box_xywh: np.ndarray) -> np.ndarray:
        x, y, w, h = box_xywh
        return np.array([x + x_sign * _tenth(w), y + y_sign * _tenth(h), w, h])

    return shift


def _tenth(size: float) -> int:
    return math.ceil(0.1 * size)


def _stretched(x_sign: int, y_sign: int) -> Callable[[np.ndarray], np.ndarray]:
    """Move one corner outwards by a tenth of the size; the opposite one stays."""

    def stretch(box_xywh: np.ndarray) -> np.ndarray:
        x, y, w, h = box_xywh
        # The right edge is the last pixel inside.
        sides = [(x, x + w - 1, w, x_sign), (y, y + h - 1, h, y_sign)]
        corners = [
            (_rounded(low - 0.1 * size), high) if sign < 0 else (low, _rounded(high + 0.1 * size))
            for low, high, size, sign in sides
        ]
        (x1, x2), (y1, y2) = corners
        return np.array([x1, y1, x2 - x1 + 1, y2 - y1 + 1])

    return stretch


def _scaled(scale: float) -> Callable[[np.ndarray], np.ndarray]:
    def rescale(box_xywh: np.ndarray) -> np.ndarray:
        x, y, w, h = box_xywh
        new_w, new_h = scale * w, scale * h
        box = (x + w / 2 - new_w / 2, y + h / 2 - new_h / 2, new_w, new_h)
        return np.array([_rounded(value) for value in box])

    return rescale


PERTURBATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "left": _shifted(-1, 0),
    "right": _shifted(1, 0),
    "up": _shifted(0, -1),
    "down": _shifted(0, 1),
    "topleft": _stretched(-1, -1),
    "topright": _stretched(1, -1),
    "bottomleft": _stretched(-1, 1),
    "bottomright": _stretched(1, 1),
    "scale_8": _scaled(0.8),
    "scale_9": _scaled(0.9),
    "scale_11": _scaled(1.1),
    "scale_12": _scaled(1.2),
}
"""First boxes of SRE from the given one, ``xywh``, 1-based px, before they are cut at the border."""


def _rounded(value: float) -> float:
    """Round half away from zero, as MATLAB does."""
    return math.copysign(math.floor(abs(value) + 0.5), value)


def _inside(box_xywh: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Cut a 1-based box at the image's border; a corner that is pulled in keeps the size."""
    x, y = np.maximum(box_xywh[:2], 1)
    w = min(box_xywh[2], image_hw[1] - x + 1)
    h = min(box_xywh[3], image_hw[0] - y + 1)
    return np.array([x, y, w, h])


def _pooled(benchmark: Benchmark, title: str) -> OnePass:
    """Return the protocol that scores all runs of a sequence together."""
    protocol: EvaluationProtocol[Any] | None = benchmark.protocol
    one_pass = OnePass() if protocol is None else protocol
    if not isinstance(one_pass, OnePass) or one_pass.base_name is not None:
        raise ValueError(
            f"benchmark {benchmark.name}: {title} needs one that is evaluated in one pass, got "
            f"{one_pass.name}"
        )
    return replace(one_pass, base_name=base_name, title=title)


def _segment(sequence: TrackingSequence, start: int, name: str) -> TrackingSequence:
    """Return a sequence from one of its frames on."""
    return replace(
        sequence,
        name=name,
        frames=_FramesFrom(sequence.frames, start),
        boxes_xyxy=sequence.boxes_xyxy[start:],
        valid=sequence.valid[start:],
        frame_attributes={k: v[start:] for k, v in sequence.frame_attributes.items()},
        absent=None if sequence.absent is None else sequence.absent[start:],
        polygons=None if sequence.polygons is None else sequence.polygons[start:],
        start_box_xyxy=None if start else sequence.start_box_xyxy,
    )


class _FramesFrom(Sequence[np.ndarray]):
    """The frames of a sequence from one on; nothing is read before it is asked for."""

    def __init__(self, frames: Sequence[np.ndarray], start: int) -> None:
        self._frames = frames
        self._indices = range(start, len(frames))

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return [self._frames[i] for i in self._indices[index]]
        return self._frames[self._indices[index]]

    def __len__(self) -> int:
        return len(self._indices)
