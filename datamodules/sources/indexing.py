"""What all readers of training sets share: from many annotation files to one index, once.

A reader is a generator ``read(unit)`` that parses one unit of work (a video, a folder) and yields a
:class:`~datamodules.tracks.Track` for each target and a :class:`~datamodules.tracks.Skipped` for each
entry that it must leave out. :func:`build_index` runs it over all units in processes, refuses what
occurs twice, and writes the index whole or not at all.

An index is up to date while the state of its annotations, see :func:`state_of`, is the one it was
made from. Asking takes milliseconds, also for sets of millions of files: it looks at a file of
annotations where a video has one, and at a folder where every frame has its own. So adding, removing
or replacing any file is noticed, while the rewriting of a single frame's file in place is not; after
that, remove the index.
"""

import errno
import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from datamodules.errors import DatasetError
from datamodules.tracks import Skipped, Track, TrackIndex, covers_image

log = logging.getLogger(__name__)

Entry = Track | Skipped
Unit = TypeVar("Unit")

NO_CATEGORY = "object"
"""The category where a dataset names none."""

_VERSION = 1
"""Raised when readers change what they make of the same annotations, so that indices are remade."""

_MAX_SIDE = int(np.iinfo(np.uint16).max)
_ORIENTATION = 0x0112  # EXIF tag; values from 5 on swap width and height
_LOG_INTERVAL_S = 30.0


class BadEntryError(DatasetError):
    """One entry of a dataset that cannot be used; readers count it and go on.

    Args:
        reason: What is wrong, the same words for all such entries.
        where: File, line or value.
    """

    def __init__(self, reason: str, where: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason, self.where = reason, where

    def skipped(self) -> Skipped:
        """Return the entry as one that was left out."""
        return Skipped(self.reason, 1, self.where)


@dataclass(frozen=True)
class FramePattern:
    """The rule for a frame's path as a format string.

    Args:
        folder: Where the pattern begins.
        pattern: For example ``{video}/{frame:06d}.JPEG``.
    """

    folder: Path
    pattern: str

    def __call__(self, video: str, frame: int) -> Path:
        """Return the path of a frame."""
        return self.folder / self.pattern.format(video=video, frame=frame)


def build_index(
    path: Path,
    read: Callable[[Unit], Iterable[Entry]],
    units: Callable[[], Sequence[Unit]],
    state: str,
    layout: str,
    jobs: int | None = None,
) -> TrackIndex:
    """Return the index at ``path``, making it first if there is none or its annotations changed.

    Processes that ask at the same time wait for the first one instead of all doing the work.

    Args:
        path: Where the index is kept.
        read: Parses one unit; a function that other processes can import.
        units: Lists the units; called only if the index must be made.
        state: The state of the annotations, see :func:`state_of`.
        layout: What the dataset looks like on disk, for messages.
        jobs: Processes that parse, by default one per usable core; few units need none.

    Raises:
        DatasetError: If the dataset holds no usable track.
        PermissionError: If the index cannot be written there.
    """
    index = _up_to_date(path, state)
    if index is not None:
        return index
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            return _up_to_date(path, state) or _build(path, read, units(), state, layout, jobs)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise PermissionError(
            error.errno,
            f"{path}: the index cannot be written there ({error.strerror}); name a writable file "
            "with index_path",
        ) from error


def state_of(settings: object, root: Path, paths: Iterable[Path]) -> str:
    """Return a text that changes when the settings or one of the paths do.

    Args:
        settings: What else decides the content of the index; its ``repr`` counts.
        root: Folder of the dataset. Its own path does not count, so that machines which see a disk
            in different places share an index.
        paths: Files (name, size, time of change) and folders (name, time of the last file added,
            removed or renamed in them).
    """
    digest = hashlib.sha256(repr((_VERSION, settings)).encode(errors="surrogateescape"))
    prefix = os.fsencode(root)
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116  # half the time of Path.stat
        except OSError:
            known: tuple[int, ...] = ()
        else:
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            known = (size, status.st_mtime_ns)
        digest.update(os.fsencode(path).removeprefix(prefix) + repr(known).encode())
    return digest.hexdigest()


def default_index_path(root: Path, name: str, settings: object) -> Path:
    """Return where an index lies beside its data: other settings, another file."""
    digest = hashlib.sha256(repr(settings).encode(errors="surrogateescape")).hexdigest()
    return root / f"{name}-{digest[:8]}.tracks.arrow"


def require_folder(folder: Path, layout: str) -> Path:
    """Return the folder if it is there.

    Raises:
        DatasetError: If not; names the first part of the path that is missing.
    """
    if folder.is_dir():
        return folder
    missing = next(p for p in [*reversed(folder.parents), folder] if not p.is_dir())
    raise DatasetError(f"{missing}: no such folder (wanted {folder}); {layout}")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without asking for each one's state."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    return [folder / name for name in sorted(names)]


def file_names(folder: Path, suffix: str = "") -> list[str]:
    """Return the names of the files in a folder that end so, sorted; none if there is no folder.

    Names that begin with a dot are leftovers of other programs (macOS writes ``._0001.jpg``).
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208  # a Path per frame would take most of the time
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(n for n in names if n.endswith(suffix) and not n.startswith("."))


def read_bytes(path: Path) -> bytes:
    """Return what is in a file.

    Raises:
        BadEntryError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadEntryError("annotation file missing", str(path)) from None
    except OSError as error:
        raise BadEntryError(
            "annotation file cannot be read", f"{path} ({error.strerror})"
        ) from error


def check_size(width: float, height: float, where: str) -> tuple[int, int]:
    """Return an image size as whole numbers.

    Raises:
        BadEntryError: If it is not the size of an image.
    """
    for side in (width, height):
        if not (1 <= side <= _MAX_SIDE and float(side).is_integer()):
            raise BadEntryError("image size is not usable", f"{where}: {width} × {height} px")
    return int(width), int(height)


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image as decoded, reading its header only.

    Raises:
        BadEntryError: If it is not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) >= 5
    # Pillow reports damage with many kinds of error, SyntaxError and struct.error among them.
    except Exception as error:
        raise BadEntryError("image cannot be read", f"{path} ({error})") from error
    return check_size(height, width, str(path)) if turned else check_size(width, height, str(path))


def image_sizes(paths: Sequence[Path]) -> np.ndarray:
    """Return the sizes of a video's frames from few headers, ``(len(paths), 2)``, px.

    The first and the last frame are looked at, and every frame where these differ.

    Raises:
        BadEntryError: If neither end is an image.
    """
    try:
        first, last = image_size(paths[0]), image_size(paths[-1])
    except BadEntryError:
        first, last = (0, 0), (-1, -1)
    if first == last:
        return np.tile(np.array(first), (len(paths), 1))
    sizes = np.zeros((len(paths), 2), dtype=np.int64)
    failure = None
    for size, path in zip(sizes, paths, strict=True):
        try:
            size[:] = image_size(path)
        except BadEntryError as error:  # a damaged frame must not cost the video
            failure = failure or error
    if failure and not sizes.any():
        raise failure
    return sizes


def cleaned(track: Track, where: str, has_frame: np.ndarray | None = None) -> Iterator[Entry]:
    """Yield the track without what cannot be used, and what that was.

    Rows without an image file, and all rows but the first of a frame number, leave the track. A row
    whose box is not finite, has no area or lies outside the image stays and becomes invisible. A
    track with a single visible frame is kept: its positive pairs show one frame twice, as those of
    still images do.

    Args:
        track: What an annotation says, frames not decreasing.
        where: File of the annotation.
        has_frame: Whether the image of each row is there, bool ``(T,)``.
    """
    if has_frame is not None and not has_frame.all():
        yield _rows_skipped("frame missing or unreadable", track, ~has_frame, where)
        track = _rows(track, has_frame)
    first = np.ones(len(track), dtype=bool)
    first[1:] = track.frames[1:] > track.frames[:-1]
    if not first.all():
        yield _rows_skipped("target is annotated twice in a frame", track, ~first, where)
        track = _rows(track, first)
    with np.errstate(over="ignore"):  # what is too large becomes infinite and leaves below
        boxes_xyxy = track.boxes_xyxy.astype(np.float32)
    visible = track.visible.astype(bool)
    bad = visible & ~covers_image(boxes_xyxy, track.image_wh)
    if bad.any():
        t = int(np.flatnonzero(bad)[0])
        box, size = boxes_xyxy[t].tolist(), track.image_wh[t].tolist()
        reason = "box not finite, without area or outside the image"
        what = f"{where}, track {track.track}, frame {track.frames[t]}: x1 y1 x2 y2 = {box}"
        yield Skipped(reason, int(bad.sum()), f"{what}, image {size[0]} × {size[1]} px")
        visible &= ~bad
    if visible.any():
        yield replace(track, boxes_xyxy=boxes_xyxy, visible=visible)
    else:
        yield Skipped("target without a usable frame", 1, f"{where}, track {track.track}")


class _Tally:
    """Sums what was left out by reason, in order of appearance."""

    def __init__(self) -> None:
        self._by_reason: dict[str, Skipped] = {}

    def add(self, entry: Skipped) -> None:
        known = self._by_reason.get(entry.reason)
        if known is not None:
            entry = replace(known, count=known.count + entry.count)
        self._by_reason[entry.reason] = entry

    def __iter__(self) -> Iterator[Skipped]:
        return iter(self._by_reason.values())


def _up_to_date(path: Path, state: str) -> TrackIndex | None:
    if not path.is_file():
        return None
    try:
        index = TrackIndex.open(path)
    except ValueError as error:  # of an earlier version, or cut short
        log.warning("%s; it is made again", error)
        return None
    return index if index.origin == state else None


def _build(
    path: Path,
    read: Callable[[Unit], Iterable[Entry]],
    units: Sequence[Unit],
    state: str,
    layout: str,
    jobs: int | None,
) -> TrackIndex:
    log.info("%s: indexing %d units of annotations", path, len(units))
    tally = _Tally()
    tracks = _unique(_entries(read, units, jobs, f"indexing {path.name}"), tally)
    one = next(tracks, None)
    if one is None:
        found = "; ".join(f"{s.count} × {s.reason}, first {s.example}" for s in tally)
        raise DatasetError(
            f"{path.parent}: no usable track in {len(units)} units of annotations"
            f"{': ' + found if found else ''}; {layout}"
        )

    def rest() -> Iterator[Track]:
        yield one
        yield from tracks

    index = TrackIndex.write(path, rest(), state, tally)
    for s in index.skipped:
        log.warning("%s: left out %d × %s; the first: %s", path.name, s.count, s.reason, s.example)
    return index


def _unique(entries: Iterable[Entry], tally: _Tally) -> Iterator[Track]:
    """Yield tracks that can be written and count all else."""
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        if isinstance(entry, Skipped):
            tally.add(entry)
            continue
        key = (entry.video, entry.track)
        if key in seen:
            tally.add(Skipped("duplicate track", 1, f"video {key[0]}, track {key[1]}"))
        elif not _is_text(entry):
            tally.add(Skipped("name is not valid text", 1, repr(key)))
        else:
            seen.add(key)
            yield entry


def _is_text(track: Track) -> bool:
    """Return whether names can be stored; file names may hold bytes that are no text."""
    try:
        f"{track.video}{track.track}{track.category}".encode()
    except UnicodeEncodeError:
        return False
    return True


def _entries(
    read: Callable[[Unit], Iterable[Entry]],
    units: Sequence[Unit],
    jobs: int | None,
    description: str,
) -> Iterator[Entry]:
    """Yield what all units hold, in their order whatever the number of processes."""
    if jobs is None:
        usable = getattr(os, "sched_getaffinity", None)
        jobs = len(usable(0)) if usable else os.cpu_count() or 1
        jobs = min(jobs, len(units) // 100)  # a process takes seconds to start
    with _Ticker(description, len(units)) as ticker:
        if jobs <= 1:
            for unit in units:
                yield from read(unit)
                ticker.advance(1)
            return
        size = max(1, min(64, len(units) // (8 * jobs)))
        chunks = [units[i : i + size] for i in range(0, len(units), size)]
        # Forking a process that has threads (torch, Arrow) may hang it.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            try:
                for entries in pool.map(partial(_read_all, read), chunks):
                    yield from entries
                    ticker.advance(size)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _read_all(read: Callable[[Unit], Iterable[Entry]], units: Sequence[Unit]) -> list[Entry]:
    return [entry for unit in units for entry in read(unit)]


def _rows(track: Track, keep: np.ndarray) -> Track:
    return replace(
        track,
        frames=track.frames[keep],
        boxes_xyxy=track.boxes_xyxy[keep],
        visible=track.visible[keep],
        occluded=track.occluded[keep],
        image_wh=track.image_wh[keep],
    )


def _rows_skipped(reason: str, track: Track, rows: np.ndarray, where: str) -> Skipped:
    frame = track.frames[rows][0]
    return Skipped(reason, int(rows.sum()), f"{where}, track {track.track}, frame {frame}")


class _Ticker:
    """A bar on a terminal; elsewhere, where a line cannot be redrawn, a log line now and then."""

    def __init__(self, description: str, total: int) -> None:
        self._description, self._total, self._done = description, total, 0
        self._bar = Progress(console=Console(stderr=True))
        self._last_line_start = time.monotonic()

    def __enter__(self) -> "_Ticker":
        self._task = self._bar.add_task(self._description, total=self._total)
        if self._bar.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.console.is_terminal:
            self._bar.stop()

    def advance(self, count: int) -> None:
        self._done = min(self._done + count, self._total)
        self._bar.update(self._task, completed=self._done)
        now = time.monotonic()
        if not self._bar.console.is_terminal and now - self._last_line_start > _LOG_INTERVAL_S:
            self._last_line_start = now
            log.info("%s: %d of %d units", self._description, self._done, self._total)
