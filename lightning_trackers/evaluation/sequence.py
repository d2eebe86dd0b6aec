"""A benchmark sequence: frames read when asked for, ground truth in the project's box convention."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the protocols import sequences
    from lightning_trackers.evaluation.protocol import EvaluationProtocol


@dataclass(frozen=True)
class TrackingSequence:
    """One target of one video.

    Args:
        name: Name as the benchmark's result files spell it.
        frames: Frames in order; indexing decodes one, uint8 RGB ``(H, W, 3)``.
        boxes_xyxy: Ground truth, 0-based continuous edges, float64 ``(T, 4)``, px.
        valid: Frames whose ground truth counts under the benchmark's rule, bool ``(T,)``.
        attributes: The benchmark's attribute codes, e.g. ``{"OCC", "SV"}``.
        frame_attributes: Flags per frame by code, each bool ``(T,)``.
        absent: Frames annotated as not showing the target, bool ``(T,)``; None if the benchmark
            does not say.
        polygons: Ground truth as x1, y1 ... x4, y4, float64 ``(T, 8)``, px, same convention as the
            boxes; None where boxes are all there is.
        start_box_xyxy: What the tracker is given in the first frame, float64 ``(4,)``; the first
            ground-truth box if None.
    """

    name: str
    frames: Sequence[np.ndarray]
    boxes_xyxy: np.ndarray
    valid: np.ndarray
    attributes: frozenset[str] = field(default_factory=frozenset)
    frame_attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    absent: np.ndarray | None = None
    polygons: np.ndarray | None = None
    start_box_xyxy: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check that frames and annotations belong together.

        Raises:
            ValueError: If there are no frames, or the counts of frames, boxes and flags differ.
        """
        count = len(self.frames)
        if count == 0:
            raise ValueError(f"sequence {self.name}: expected at least one frame, got none")
        if self.boxes_xyxy.shape != (count, 4):
            raise ValueError(
                f"sequence {self.name}: expected ground truth of shape ({count}, 4) for "
                f"{count} frames, got {self.boxes_xyxy.shape}"
            )
        if self.valid.shape != (count,) or self.valid.dtype != np.bool_:
            raise ValueError(
                f"sequence {self.name}: expected {count} boolean valid flags, got "
                f"{self.valid.dtype} of shape {self.valid.shape}"
            )
        flags = dict(self.frame_attributes)
        if self.absent is not None:
            flags["absent"] = self.absent
        for key, value in flags.items():
            if value.shape != (count,) or value.dtype != np.bool_:
                raise ValueError(
                    f"sequence {self.name}: expected {count} boolean {key} flags, got "
                    f"{value.dtype} of shape {value.shape}"
                )
        if self.polygons is not None and self.polygons.shape != (count, 8):
            raise ValueError(
                f"sequence {self.name}: expected polygons of shape ({count}, 8), got "
                f"{self.polygons.shape}"
            )

    @property
    def start_xyxy(self) -> np.ndarray:
        """The box that a tracker begins with, float64 ``(4,)``, px."""
        given = self.start_box_xyxy
        return self.boxes_xyxy[0] if given is None else given

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Decode the frames one after another."""
        return (self.frames[t] for t in range(len(self)))


@dataclass(frozen=True)
class Benchmark:
    """A named list of sequences evaluated under one protocol.

    Args:
        name: Name used in log keys and result folders, e.g. ``otb100``.
        sequences: The sequences; frames are read only while tracking.
        protocol: How it is tracked and scored; one-pass evaluation under the OTB rule if None.
    """

    name: str
    sequences: Sequence[TrackingSequence]
    protocol: "EvaluationProtocol[Any] | None" = None

    def __post_init__(self) -> None:
        """Refuse an empty benchmark or one with two sequences of the same name.

        Raises:
            ValueError: If there is no sequence, or a name occurs twice.
        """
        names = [s.name for s in self.sequences]
        if not names:
            raise ValueError(f"benchmark {self.name}: expected at least one sequence, got none")
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"benchmark {self.name}: sequence names occur twice: {repeated}")

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.sequences)

    def __iter__(self) -> Iterator[TrackingSequence]:
        """Go through the sequences."""
        return iter(self.sequences)
