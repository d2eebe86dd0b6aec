"""YouTube-BoundingBoxes as a training source.

A video is a YouTube id, a track one ``(class_id, object_id)`` in it, a category the class's name. One
frame was annotated a second; a frame's number is its time in whole seconds, so that a frame gap of 3
means 3 s, as in pysot. The same picture lies on disk once for every object it shows.

The annotations give boxes relative to the image and no image size. The size is read from the header of
each video's first frame on disk, or taken from a list where one was made while downloading; a list
makes the index independent of which frames are on disk already.

Source: Real et al., YouTube-BoundingBoxes, CVPR 2017; its detection CSV files.
"""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from datamodules.errors import DatasetError
from datamodules.sources.indexing import (
    BadEntryError,
    Entry,
    build_index,
    check_size,
    cleaned,
    default_index_path,
    file_names,
    image_size,
    require_folder,
    state_of,
    subfolders,
)
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Skipped, Track, TrackIndex

LAYOUT = """expected layout:
  <root>/yt_bb_detection_train.csv, yt_bb_detection_validation.csv   (official, without a header)
  <root>/yt_bb_detection_train/<class_id>/<youtube_id>_<time_ms>_<class_id>_<object_id>.jpg, ..."""

SPLITS = ("train", "validation")

_NUMBERS = {"class_id": pa.int32(), "object_id": pa.int32(), "time_ms": pa.int64()}
_EDGES = ("xmin", "xmax", "ymin", "ymax")
_COLUMNS = ("youtube_id", "time_ms", "class_id", "class_name", "object_id", "presence", *_EDGES)
_TYPES = dict.fromkeys(_COLUMNS, pa.string()) | _NUMBERS | dict.fromkeys(_EDGES, pa.float64())
_WHOLE = "^-?[0-9]{1,9}$"
_DECIMAL = r"^-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2})?$"
_TEXT = "^[ -~]*$"  # ASCII that shows
_ASCII = bytes(i if i < 128 else 0x1A for i in range(256))  # no text has this control character
_VIDEOS_PER_UNIT = 64


class YouTubeBBSource(TrackSource):
    """Pairs from YouTube-BB; the index is made at the first use and after a change.

    Args:
        root: Folder that holds the annotation files and the folders of frames.
        split: train or validation.
        annotations: The CSV file, by default ``<root>/yt_bb_detection_<split>.csv``.
        sizes: A CSV file ``youtube_id,width,height`` with the size of each video's frames, px. With
            it no image is opened and frames count as present, also those still to be downloaded.
            Without it a frame that is missing is left out, and the index is made again after new
            ones arrive.
        name: Name of the source in ids and messages.
        index_path: Where the index is kept, beside the data by default.
        same_category: See :class:`~datamodules.sources.tracks.TrackSource`.

    Raises:
        DatasetError: If the layout is not as expected, or holds nothing to train on.
        ValueError: If the split is unknown.
        PermissionError: If the index cannot be written.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        annotations: str | Path | None = None,
        sizes: str | Path | None = None,
        name: str = "youtube_bb",
        index_path: str | Path | None = None,
        same_category: float = 0.0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"youtube_bb: expected split {' or '.join(SPLITS)}, got {split!r}")
        root = Path(root)
        frames = root / f"yt_bb_detection_{split}"
        file = Path(annotations) if annotations else frames.with_suffix(".csv")
        listed = Path(sizes) if sizes else None
        for needed in filter(None, (file, listed)):
            if not needed.is_file():
                raise DatasetError(f"{needed}: no such file; {LAYOUT}")
        inputs = [file, listed] if listed else [file, *subfolders(require_folder(frames, LAYOUT))]
        settings = ("youtube_bb", split, str(annotations), str(sizes))
        index = build_index(
            Path(index_path) if index_path else default_index_path(root, "youtube_bb", settings),
            read_videos,
            lambda: _units(file, frames, listed),
            state_of(settings, root, inputs),
            LAYOUT,
        )
        super().__init__(name, index, YouTubeBBFramePath(frames, index), same_category)


@dataclass(frozen=True)
class YouTubeBBFramePath:
    """The rule for a frame's path: the file of any object that the frame shows.

    Args:
        folder: Folder of the classes.
        index: The annotations, sorted by video.
    """

    folder: Path
    index: TrackIndex

    def __call__(self, video: str, frame: int) -> Path:
        """Return the path of a frame.

        Raises:
            KeyError: If there is none.
        """
        i = bisect.bisect_left(range(len(self.index)), video, key=self.index.video)
        while i < len(self.index) and self.index.video(i) == video:
            track = self.index.track(i)
            row = np.searchsorted(track.frames, frame)
            if row < len(track) and track.frames[row] == frame:
                return self.folder / frame_name(video, frame, track.track)
            i += 1
        raise KeyError(f"{video}, frame {frame}: no such frame in {self.index.path}")


@dataclass
class Rows:
    """Rows of an annotation file, sorted by video, object and time.

    Args:
        videos: Names of the videos, sorted.
        categories: Names of the classes.
        video: Place of each row's video in ``videos``, ``(N,)``.
        category: Place of each row's class in ``categories``, ``(N,)``.
        class_id: Number of the class, ``(N,)``.
        object_id: Number of the object, ``(N,)``.
        second: Time, s, ``(N,)``.
        present: Whether the frame shows the object, bool ``(N,)``.
        boxes_xyxy: Boxes relative to width and height, float64 ``(N, 4)``.
        skipped: What could not be understood.
    """

    videos: np.ndarray
    categories: np.ndarray
    video: np.ndarray
    category: np.ndarray
    class_id: np.ndarray
    object_id: np.ndarray
    second: np.ndarray
    present: np.ndarray
    boxes_xyxy: np.ndarray
    skipped: list[Skipped]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.video)

    def track(self, i: int) -> str:
        """Return the name of a row's track."""
        return f"{self.class_id[i]}-{self.object_id[i]}"

    def starts(self) -> np.ndarray:
        """Return the first row of each track."""
        parts = (self.video, self.class_id, self.object_id)
        return np.flatnonzero(np.any([np.diff(p, prepend=-1) != 0 for p in parts], axis=0))

    def taken(self, rows: np.ndarray | slice) -> "Rows":
        """Return some of the rows, without a word about what was skipped."""
        columns = {name: getattr(self, name)[rows] for name in _PER_ROW}
        return replace(self, **columns, skipped=[])


_PER_ROW = ("video", "category", "class_id", "object_id", "second", "present", "boxes_xyxy")


@dataclass
class Videos:
    """A unit of work: some videos.

    Args:
        rows: Their rows.
        folder: Folder of the classes of frames, None where sizes are known.
        image_wh: Known width and height by place in ``rows.videos``, 0 where unknown.
        skipped: What was left out before.
    """

    rows: Rows | None
    folder: Path | None
    image_wh: np.ndarray | None = None
    skipped: list[Skipped] = field(default_factory=list)


def frame_name(video: str, second: int, track: str) -> str:
    """Return the path of a frame below the folder of the classes; ``track`` is class and object."""
    class_id, _, object_id = track.partition("-")
    return f"{class_id}/{video}_{1000 * int(second)}_{class_id}_{object_id}.jpg"


def parse_annotations(data: bytes, where: str) -> Rows:
    """Parse a detection CSV file.

    Args:
        data: Content of the file.
        where: Its name, for messages.

    Raises:
        DatasetError: If no line of it is as expected.
    """
    reason = f"line without {len(_COLUMNS)} values"
    wrong: list[Skipped] = []  # one for all

    def count(row: pa.csv.InvalidRow) -> str:
        known = (
            wrong.pop()
            if wrong
            else Skipped(reason, 0, f"{where}, line {row.number}: {row.text[:200]!r}")
        )
        wrong.append(replace(known, count=known.count + 1))
        return "skip"

    skipped: list[Skipped] = []
    if not data.isascii():
        data = data.translate(_ASCII)
    try:
        table = _read(data, _TYPES, count)
    except pa.ArrowInvalid:
        wrong.clear()
        table, skipped = _read_with_care(data, where, count)
    skipped += wrong
    if len(table) == 0:
        found = f" ({skipped[0].reason}: {skipped[0].example})" if skipped else ""
        raise DatasetError(
            f"{where}: expected lines {','.join(_COLUMNS)} without a header, got none{found}"
        )
    return _rows(table, where, skipped)


def read_videos(unit: Videos) -> Iterator[Entry]:
    """Yield the tracks of some videos and what is wrong with them."""
    yield from unit.skipped
    rows = unit.rows
    if rows is None or len(rows) == 0:
        return
    image_wh, wrong = _sizes(unit, rows)
    yield from wrong
    row_wh = image_wh[rows.video]
    with np.errstate(over="ignore"):
        boxes_xyxy = rows.boxes_xyxy * np.tile(row_wh, 2)
    occluded = np.zeros(len(rows), dtype=bool)
    frames = rows.second.astype(np.int32)
    starts = rows.starts()
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        if not row_wh[start].any():
            continue  # of a video without a size
        video, part = str(rows.videos[rows.video[start]]), slice(start, end)
        yield from cleaned(
            Track(
                video=video,
                track=rows.track(start),
                category=str(rows.categories[rows.category[start]]),
                frames=frames[part],
                boxes_xyxy=boxes_xyxy[part],
                visible=rows.present[part],
                occluded=occluded[part],
                image_wh=row_wh[part],
            ),
            f"video {video}",
        )


def _sizes(unit: Videos, rows: Rows) -> tuple[np.ndarray, list[Skipped]]:
    """Return the size of each video's frames, ``(len(rows.videos), 2)``, px; 0 if there is none."""
    wrong = []
    image_wh = unit.image_wh
    if image_wh is None:
        assert unit.folder is not None
        image_wh = np.zeros((len(rows.videos), 2), dtype=np.int64)
        for i in np.flatnonzero(np.diff(rows.video, prepend=-1)):
            name = frame_name(str(rows.videos[rows.video[i]]), rows.second[i], rows.track(int(i)))
            try:
                image_wh[rows.video[i]] = image_size(unit.folder / name)
            except BadEntryError as error:
                wrong.append(error.skipped())
    else:
        unknown = [i for i in np.unique(rows.video) if not image_wh[i].any()]
        if unknown:
            reason = "video without a usable size in the list of sizes"
            wrong.append(Skipped(reason, len(unknown), str(rows.videos[unknown[0]])))
    return image_wh, wrong


def _units(file: Path, frames: Path, sizes: Path | None) -> list[Videos]:
    rows = parse_annotations(file.read_bytes(), str(file))
    skipped = rows.skipped
    image_wh = None
    if sizes is not None:
        image_wh, wrong = parse_sizes(sizes.read_bytes(), rows.videos, str(sizes))
        skipped += wrong
    else:
        has_frame = _has_frame(rows, frames)
        # Tools that cut the frames may leave out those in which the object is absent.
        missing = rows.present & ~has_frame
        if missing.any():
            one = rows.taken(np.flatnonzero(missing)[:1])
            name = frame_name(str(one.videos[one.video[0]]), one.second[0], one.track(0))
            reason = "frame missing or unreadable"
            skipped.append(Skipped(reason, int(missing.sum()), str(frames / name)))
        rows = rows.taken(has_frame)
    units = [Videos(None, None, skipped=skipped)]
    if len(rows):
        ends = np.flatnonzero(np.diff(rows.video, append=-1)) + 1  # of each video
        cuts = [0, *ends[_VIDEOS_PER_UNIT - 1 : -1 : _VIDEOS_PER_UNIT], ends[-1]]
        for start, end in pairwise(cuts):
            part = rows.taken(slice(start, end))
            # Only the names and sizes of these videos travel to the process that reads them.
            first, last = part.video[0], part.video[-1] + 1
            part.videos, part.video = part.videos[first:last], part.video - first
            known = None if image_wh is None else image_wh[first:last]
            units.append(Videos(part, frames if known is None else None, known))
    return units


def parse_sizes(data: bytes, videos: np.ndarray, where: str) -> tuple[np.ndarray, list[Skipped]]:
    """Return the size of each video's frames, ``(len(videos), 2)``, px; 0 where it is not known.

    Args:
        data: Content of the list, lines ``youtube_id,width,height``; a header is passed over.
        videos: Names of the videos, sorted.
        where: Name of the list, for messages.
    """
    image_wh = np.zeros((len(videos), 2), dtype=np.int64)
    places = {name: i for i, name in enumerate(videos)}
    wrong: list[BadEntryError] = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), start=1):
        values = [value.strip() for value in line.split(",")]
        try:
            if len(values) != 3:
                raise ValueError
            size = check_size(float(values[1]), float(values[2]), where)
        except (BadEntryError, ValueError):
            if number > 1 and line.strip():
                reason = "line of the list of sizes is not youtube_id,width,height"
                wrong.append(BadEntryError(reason, f"{where}, line {number}: {line[:200]!r}"))
            continue
        if values[0] in places:
            image_wh[places[values[0]]] = size
    return image_wh, [error.skipped() for error in wrong]


def _read(data: bytes, types: dict[str, pa.DataType], invalid: object) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(data),
        # One thread, so that an invalid row knows its number.
        pyarrow.csv.ReadOptions(column_names=list(_COLUMNS), use_threads=False),
        pyarrow.csv.ParseOptions(quote_char=False, double_quote=False, invalid_row_handler=invalid),
        pyarrow.csv.ConvertOptions(
            column_types=types, null_values=[], strings_can_be_null=False, check_utf8=True
        ),
    )


def _read_with_care(data: bytes, where: str, invalid: object) -> tuple[pa.Table, list[Skipped]]:
    """Read a file in which some value is no number and leave its lines out."""
    try:
        table = _read(data, dict.fromkeys(_COLUMNS, pa.string()), invalid)
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{where}: not a CSV file ({error}); {LAYOUT}") from error
    good = np.ones(len(table), dtype=bool)
    for name in (*_NUMBERS, *_EDGES):
        rule = _WHOLE if name in _NUMBERS else _DECIMAL
        good &= _array(pc.match_substring_regex(table[name], rule))
    skipped = []
    if not good.all():
        i = int(np.flatnonzero(~good)[0])
        line = ",".join(table[name][i].as_py() for name in _COLUMNS)
        skipped.append(
            Skipped("line with a value that is no number", int((~good).sum()), f"{where}: {line!r}")
        )
        table = table.filter(pa.array(good))
    columns = [table[name].cast(wanted) for name, wanted in _TYPES.items()]
    return pa.table(columns, names=list(_TYPES)), skipped


def _rows(table: pa.Table, where: str, skipped: list[Skipped]) -> Rows:
    """Return a table's rows sorted; rows that cannot be are left out."""
    ids = table["youtube_id"].combine_chunks().dictionary_encode()
    classes = table["class_name"].combine_chunks().dictionary_encode()
    names = np.array(ids.dictionary.to_pylist(), dtype=object)
    order = np.argsort(names)
    rank = np.empty(len(names), dtype=np.int32)
    rank[order] = np.arange(len(names), dtype=np.int32)
    is_name = _array(pc.match_substring_regex(ids.dictionary, "^[A-Za-z0-9_-]+$"))
    is_text = _array(pc.match_substring_regex(classes.dictionary, _TEXT))
    codes, presence = ids.indices.to_numpy(), table["presence"]
    time_ms = _array(table["time_ms"])
    present = _array(pc.equal(presence, "present"))
    second = time_ms // 1000
    checks = {
        "youtube_id is no id": is_name[codes],
        "class_name is not plain text": is_text[classes.indices.to_numpy()],
        "time is not a whole second": (second * 1000 == time_ms)
        & (second >= 0)
        & (second <= np.iinfo(np.int32).max),
        "class or object has a negative number": (_array(table["class_id"]) >= 0)
        & (_array(table["object_id"]) >= 0),
        "presence is neither present nor absent": present | _array(pc.equal(presence, "absent")),
    }
    good = np.ones(len(table), dtype=bool)
    for reason, passed in checks.items():
        bad = good & ~passed
        if bad.any():
            line = table.slice(int(np.flatnonzero(bad)[0]), 1).to_pylist()[0]
            skipped.append(Skipped(reason, int(bad.sum()), f"{where}: {list(line.values())}"))
        good &= passed
    edges = [_array(table[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
    rows = Rows(
        names[order],
        np.array(classes.dictionary.to_pylist(), dtype=object),
        rank[codes],
        classes.indices.to_numpy(),
        _array(table["class_id"]),
        _array(table["object_id"]),
        second,
        present,
        np.stack(edges, axis=1),
        skipped,
    )
    chosen = np.flatnonzero(good)
    keys = (rows.second, rows.object_id, rows.class_id, rows.video)
    order = np.lexsort([key[chosen] for key in keys])
    ordered = rows.taken(chosen[order])
    ordered.skipped = skipped
    return ordered


def _has_frame(rows: Rows, folder: Path) -> np.ndarray:
    """Return which rows' frames are on disk, bool ``(N,)``, by listing each folder once."""
    found = np.zeros(len(rows), dtype=bool)
    for class_id in np.unique(rows.class_id):
        at = np.flatnonzero(rows.class_id == class_id)
        part = rows.taken(at)
        listed = pa.array(_names(folder / str(class_id)), pa.binary())
        parts = [pa.array(part.videos[part.video], pa.string())]
        parts += [pa.array(v).cast(pa.string()) for v in (1000 * part.second, part.class_id)]
        last = pc.binary_join_element_wise(pa.array(part.object_id).cast(pa.string()), ".jpg", "")
        wanted = pc.binary_join_element_wise(*parts, last, "_")
        found[at] = _array(pc.is_in(wanted.cast(pa.binary()), value_set=listed))
    return found


def _names(folder: Path) -> list[bytes]:
    return [name.encode(errors="surrogateescape") for name in file_names(folder, ".jpg")]


def _array(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a column without nulls as an array."""
    return np.asarray(column)
