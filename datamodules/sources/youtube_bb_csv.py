"""The CSV files of YouTube-BB as sorted columns.

A line is ``youtube_id, timestamp_ms, class_id, class_name, object_id, presence, xmin, xmax, ymin, ymax``;
note the order of the edges.

Source: Real et al., YouTube-BoundingBoxes, CVPR 2017; its detection CSV files.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from datamodules.errors import DatasetError
from datamodules.sources.reading import BadEntryError, check_size
from datamodules.tracks import Skipped

_NUMBERS = {"class_id": pa.int32(), "object_id": pa.int32(), "time_ms": pa.int64()}
_EDGES = ("xmin", "xmax", "ymin", "ymax")
_COLUMNS = ("youtube_id", "time_ms", "class_id", "class_name", "object_id", "presence", *_EDGES)
_TYPES = dict.fromkeys(_COLUMNS, pa.string()) | _NUMBERS | dict.fromkeys(_EDGES, pa.float64())
_WHOLE = "^-?[0-9]{1,9}$"
_DECIMAL = r"^-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2})?$"
_TEXT = "^[ -~]*$"  # ASCII that shows
_ASCII = bytes(i if i < 128 else 0x1A for i in range(256))  # no text has this control character
_PER_ROW = ("video", "category", "class_id", "object_id", "second", "present", "boxes_xyxy")


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
        raise DatasetError(f"{where}: not a CSV file ({error})") from error
    good = np.ones(len(table), dtype=bool)
    for name in (*_NUMBERS, *_EDGES):
        rule = _WHOLE if name in _NUMBERS else _DECIMAL
        good &= array_of(pc.match_substring_regex(table[name], rule))
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
    is_name = array_of(pc.match_substring_regex(ids.dictionary, "^[A-Za-z0-9_-]+$"))
    is_text = array_of(pc.match_substring_regex(classes.dictionary, _TEXT))
    codes, presence = ids.indices.to_numpy(), table["presence"]
    time_ms = array_of(table["time_ms"])
    present = array_of(pc.equal(presence, "present"))
    second = time_ms // 1000
    checks = {
        "youtube_id is no id": is_name[codes],
        "class_name is not plain text": is_text[classes.indices.to_numpy()],
        "time is not a whole second": (second * 1000 == time_ms)
        & (second >= 0)
        & (second <= np.iinfo(np.int32).max),
        "class or object has a negative number": (array_of(table["class_id"]) >= 0)
        & (array_of(table["object_id"]) >= 0),
        "presence is neither present nor absent": present | array_of(pc.equal(presence, "absent")),
    }
    good = np.ones(len(table), dtype=bool)
    for reason, passed in checks.items():
        bad = good & ~passed
        if bad.any():
            line = table.slice(int(np.flatnonzero(bad)[0]), 1).to_pylist()[0]
            skipped.append(Skipped(reason, int(bad.sum()), f"{where}: {list(line.values())}"))
        good &= passed
    edges = [array_of(table[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
    rows = Rows(
        names[order],
        np.array(classes.dictionary.to_pylist(), dtype=object),
        rank[codes],
        classes.indices.to_numpy(),
        array_of(table["class_id"]),
        array_of(table["object_id"]),
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


def array_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a column without nulls as an array."""
    return np.asarray(column)
