"""The annotation index: every box of a training set in one memory-mapped columnar file.

Opening a set of millions of boxes is instant, and the workers of a data loader share its pages
instead of copying Python lists. A training source is a function that writes such an index, plus the
rule for a frame's path (see ``datamodules/sources``).

The file is one Arrow IPC record batch with one row per track. Its columns are ``video``, ``track``
and ``category`` (dictionary-encoded strings) and ``boxes``, a list of what is known per frame. All
boxes lie in one contiguous float32 array, sorted by track, and the list's offsets say where a track
begins: reading a track makes views and copies nothing.
"""

import json
from array import array
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from lightning_trackers.files import atomic_file

_VERSION = b"1"
_VERSION_KEY, _ORIGIN_KEY = b"lightning_trackers.track_index", b"lightning_trackers.origin"
_SKIPPED_KEY = b"lightning_trackers.skipped"
_NAMES = ("video", "track", "category")
_DTYPES = {
    "frames": np.int32,
    "boxes_xyxy": np.float32,
    # Arrow packs booleans into bits, which numpy cannot view; bytes it can.
    "visible": np.uint8,
    "occluded": np.uint8,
    "image_wh": np.uint16,
}


@dataclass(frozen=True)
class Track:
    """One target in one video, in order of frames.

    Args:
        video: Name of the video, unique in its source.
        track: Name of the target, unique in its video.
        category: Name of the target's class.
        frames: Frame numbers, strictly increasing, int32 ``(T,)``. Differences are frame gaps.
        boxes_xyxy: Boxes, 0-based continuous edges, float32 ``(T, 4)``, px.
        visible: Frames that show the target, bool ``(T,)``; where False the box means nothing.
        occluded: Frames that show it only in part, bool ``(T,)``.
        image_wh: Width and height of the frames, uint16 ``(T, 2)``, px.
    """

    video: str
    track: str
    category: str
    frames: np.ndarray
    boxes_xyxy: np.ndarray
    visible: np.ndarray
    occluded: np.ndarray
    image_wh: np.ndarray

    def __len__(self) -> int:
        """Return the number of annotated frames."""
        return len(self.frames)


@dataclass(frozen=True)
class Skipped:
    """Entries of a dataset that were left out for one reason.

    Args:
        reason: What is wrong with them.
        count: How many there are.
        example: The first of them: file and value.
    """

    reason: str
    count: int
    example: str


class TrackIndex:
    """All tracks of a source, memory-mapped and read-only.

    Pickling it carries only the path, so a worker process maps the same pages again.

    Args:
        path: A file made by :meth:`write`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a track index of this version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such track index; prepare its source first")
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
            metadata = reader.schema.metadata or {}
            batch = reader.get_batch(0) if metadata.get(_VERSION_KEY) == _VERSION else None
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{self.path}: not a track index, or cut short ({error}); remove the file and "
                "prepare its source again"
            ) from error
        if batch is None:
            raise ValueError(
                f"{self.path}: expected a track index of version {_VERSION.decode()}, got "
                f"{metadata.get(_VERSION_KEY)!r}; remove the file and prepare its source again"
            )
        self.origin: str = metadata.get(_ORIGIN_KEY, b"").decode()
        self.skipped = tuple(Skipped(*s) for s in json.loads(metadata.get(_SKIPPED_KEY, b"[]")))
        self._videos, self._tracks, self._categories = (batch.column(n) for n in _NAMES)
        boxes = batch.column("boxes")
        self._offsets: np.ndarray = boxes.offsets.to_numpy()
        self._columns: dict[str, np.ndarray] = {
            "frames": boxes.values.field("frame").to_numpy(),
            "boxes_xyxy": boxes.values.field("box_xyxy").values.to_numpy().reshape(-1, 4),
            "visible": boxes.values.field("visible").to_numpy().view(np.bool_),
            "occluded": boxes.values.field("occluded").to_numpy().view(np.bool_),
            "image_wh": boxes.values.field("image_wh").values.to_numpy().reshape(-1, 2),
        }

    @classmethod
    def open(cls, path: str | Path) -> "TrackIndex":
        """Map an index that :meth:`write` made."""
        return cls(path)

    @classmethod
    def write(
        cls,
        path: str | Path,
        tracks: Iterable[Track],
        origin: str = "",
        skipped: Iterable[Skipped] = (),
    ) -> "TrackIndex":
        """Write an index, whole or not at all, and map it.

        Args:
            path: The file to write.
            tracks: What to write, in any order, e.g. a generator.
            origin: What the tracks were read from, kept as :attr:`origin` so that a reader can
                tell whether an index is still up to date.
            skipped: What a reader left out, kept as :attr:`skipped`; asked for after the last
                track, so that a generator of tracks may fill it.

        Raises:
            ValueError: If there is no track, or one cannot be trained on: frames not increasing,
                no visible frame, or the box of a visible frame not finite, without area or
                outside its image. Names video, track and frame.
        """
        rows = _Rows()
        for track in tracks:
            rows.append(track)
        batch = rows.batch(path, origin, [astuple(s) for s in skipped])
        with atomic_file(Path(path)) as temporary:  # noqa: SIM117  # the writer closes first
            with pa.ipc.new_file(str(temporary), batch.schema) as writer:
                writer.write_batch(batch)
        return cls(path)

    def __len__(self) -> int:
        """Return the number of tracks."""
        return len(self._offsets) - 1

    def __reduce__(self) -> tuple[type["TrackIndex"], tuple[Path]]:
        """Pickle as the path."""
        return TrackIndex, (self.path,)

    @property
    def boxes(self) -> int:
        """Number of boxes of all tracks, those of invisible frames included."""
        return len(self._columns["frames"])

    @property
    def video_ids(self) -> np.ndarray:
        """A number for the video of each track, int32 ``(len(index),)``."""
        return np.asarray(self._videos.indices.to_numpy())

    @property
    def category_ids(self) -> np.ndarray:
        """The place of each track's category in :attr:`categories`, int32 ``(len(index),)``."""
        return np.asarray(self._categories.indices.to_numpy())

    @property
    def categories(self) -> list[str]:
        """Names of the categories."""
        names: list[str] = self._categories.dictionary.to_pylist()
        return names

    def tracks_of_category(self, category_id: int) -> np.ndarray:
        """Return the numbers of all tracks of a category, increasing, int32 ``(N,)``."""
        order, starts = self._by_category
        return order[starts[category_id] : starts[category_id + 1]]

    @cached_property
    def _by_category(self) -> tuple[np.ndarray, np.ndarray]:
        ids = self.category_ids
        order = np.argsort(ids, kind="stable").astype(np.int32)
        return order, np.searchsorted(ids[order], np.arange(len(self.categories) + 1))

    def video(self, i: int) -> str:
        """Return the name of a track's video."""
        return str(self._videos[i].as_py())

    def track(self, i: int) -> Track:
        """Return one track; its arrays are read-only views of the file."""
        if not 0 <= i < len(self):
            raise IndexError(f"track {i}: expected 0 to {len(self) - 1} ({self.path})")
        rows = slice(self._offsets[i], self._offsets[i + 1])
        return Track(
            self._videos[i].as_py(),
            self._tracks[i].as_py(),
            self._categories[i].as_py(),
            **{name: column[rows] for name, column in self._columns.items()},
        )


def covers_image(boxes_xyxy: np.ndarray, image_wh: np.ndarray) -> np.ndarray:
    """Return which boxes are finite and cover a part of their image, bool ``(T,)``.

    Args:
        boxes_xyxy: Boxes, shape ``(T, 4)``, px.
        image_wh: Width and height of each image, shape ``(T, 2)``, px.
    """
    top_left = np.maximum(boxes_xyxy[:, :2], 0)
    bottom_right = np.minimum(boxes_xyxy[:, 2:], image_wh)
    finite = np.isfinite(boxes_xyxy).all(axis=1)
    return np.asarray(finite & (bottom_right > top_left).all(axis=1))


class _Rows:
    """Columns that grow by one track at a time without an object per track."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, int]] = {name: {} for name in _NAMES}
        self._ids = {name: array("i") for name in _NAMES}
        self._offsets = array("i", [0])
        self._columns = {name: bytearray() for name in _DTYPES}

    def append(self, track: Track) -> None:
        values = {n: np.asarray(getattr(track, n), dtype=t) for n, t in _DTYPES.items()}
        _check(track, values)
        for name, ids in self._ids.items():
            numbers = self._names[name]
            ids.append(numbers.setdefault(getattr(track, name), len(numbers)))
        for name, column in self._columns.items():
            column += values[name].tobytes()
        self._offsets.append(self._offsets[-1] + len(values["frames"]))

    def batch(
        self, path: str | Path, origin: str, skipped: list[tuple[str, int, str]]
    ) -> pa.RecordBatch:
        if len(self._offsets) == 1:
            raise ValueError(f"{path}: expected at least one track to write, got none")
        flat = {n: pa.array(np.frombuffer(c, _DTYPES[n])) for n, c in self._columns.items()}
        frames = pa.StructArray.from_arrays(
            [
                flat["frames"],
                pa.FixedSizeListArray.from_arrays(flat["boxes_xyxy"], 4),
                flat["visible"],
                flat["occluded"],
                pa.FixedSizeListArray.from_arrays(flat["image_wh"], 2),
            ],
            ["frame", "box_xyxy", "visible", "occluded", "image_wh"],
        )
        columns = [
            pa.DictionaryArray.from_arrays(
                np.frombuffer(self._ids[name], np.int32), list(self._names[name])
            )
            for name in _NAMES
        ]
        columns.append(pa.ListArray.from_arrays(np.frombuffer(self._offsets, np.int32), frames))
        batch = pa.RecordBatch.from_arrays(columns, [*_NAMES, "boxes"])
        return batch.replace_schema_metadata(
            {
                _VERSION_KEY: _VERSION,
                _ORIGIN_KEY: origin.encode(),
                _SKIPPED_KEY: json.dumps(skipped).encode(),  # escapes what is not ASCII
            }
        )


def _check(track: Track, values: dict[str, np.ndarray]) -> None:
    where = f"video {track.video}, track {track.track}"
    count = len(values["frames"])
    expected = {
        "frames": (count,),
        "boxes_xyxy": (count, 4),
        "visible": (count,),
        "occluded": (count,),
        "image_wh": (count, 2),
    }
    for name, shape in expected.items():
        if values[name].shape != shape:
            raise ValueError(f"{where}: expected {name} of shape {shape}, got {values[name].shape}")
    frames, boxes = values["frames"], values["boxes_xyxy"]
    visible = values["visible"].astype(bool)
    if not visible.any():
        raise ValueError(f"{where}: expected at least one visible frame of {count}, got none")
    later = np.flatnonzero(np.diff(frames) <= 0)
    if len(later):
        a, b = frames[later[0]], frames[later[0] + 1]
        raise ValueError(f"{where}: expected increasing frame numbers, got {a} then {b}")
    good = covers_image(boxes, values["image_wh"])
    bad = np.flatnonzero(visible & ~good)
    if len(bad):
        t = bad[0]
        raise ValueError(
            f"{where}, frame {frames[t]}: expected a finite box that covers a part of the image of "
            f"{values['image_wh'][t].tolist()} px (w, h), got x1 y1 x2 y2 = {boxes[t].tolist()}"
        )
