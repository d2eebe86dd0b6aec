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
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import Progress

from datamodules.errors import DatasetError
from datamodules.loading import usable_cores
from datamodules.tracks import Skipped, Track, TrackIndex, covers_image

log = logging.getLogger(__name__)

Entry = Track | Skipped
Unit = TypeVar("Unit")

_VERSION = 1
"""Raised when readers change what they make of the same annotations, so that indices are remade."""

_LOG_INTERVAL_S = 30.0


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
        jobs = min(usable_cores(), len(units) // 100)  # a process takes seconds to start
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
