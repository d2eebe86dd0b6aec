"""Packing: crops around every target of a track source, cut once and put into shards.

What goes into which shard is decided by the annotations alone, so any number of processes and machines
can share the work without talking to each other, and a pack that was interrupted goes on.

Source: pysot, ``training_dataset/*/par_crop.py``: 511-px crops around the target, context 0.5, at the
scale of a 127-px exemplar. They leave room for a search region of 255 px shifted by 64 px and enlarged
by 18 %. Deviation: pysot writes an exemplar crop besides, which its training never reads.
"""

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict, astuple, dataclass, fields
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import webdataset  # type: ignore[import-untyped]

from callbacks.progress import FrameProgress
from datamodules.errors import DatasetError
from datamodules.frames import FrameError, read_frame
from datamodules.shards import (
    MANIFEST,
    POSITION,
    TRACKS,
    Manifest,
    PackedIndex,
    PackedTrack,
    Shard,
)
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Skipped, Track, TrackIndex
from lightning_trackers.crops import Window, crop, mean_colour, search_window
from lightning_trackers.files import atomic_file, write_text

log = logging.getLogger(__name__)

_TAR_HEADER = 512
_UNREADABLE = "frame missing or unreadable when packed"


@dataclass(frozen=True)
class PackSettings:
    """How crops are cut and put into shards.

    Args:
        crop_size: Side of a crop, px.
        exemplar_size: Side of the exemplar region in it, px.
        context_amount: Margin of the exemplar region, relative to width plus height.
        quality: JPEG quality, 1 to 100.
        clip_frames: Longest span of a clip, frames.
        shard_frames: Crops in a shard, about; 4096 take some 200 MB.

    Raises:
        ValueError: If a number is out of range.
    """

    crop_size: int = 511
    exemplar_size: int = 127
    context_amount: float = 0.5
    quality: int = 95
    clip_frames: int = 256
    shard_frames: int = 4096

    def __post_init__(self) -> None:
        """Check the ranges."""
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"packing: expected {field.name} > 0, got {self}")
        if self.quality > 100:
            raise ValueError(f"packing: expected quality in 1 to 100, got {self.quality}")


def pack(
    source: TrackSource,
    out: str | Path,
    settings: PackSettings | None = None,
    *,
    part: int = 0,
    parts: int = 1,
    workers: int = 0,
) -> Path | None:
    """Write the shards of a source that are not there yet.

    Every visible frame of every track becomes a crop; a frame that cannot be read is left out and
    counted. Whoever finishes the last shard, whichever part it belongs to, writes the manifest.

    Args:
        source: What to pack.
        out: Folder of the shards.
        settings: How crops are cut.
        part: Which part of the shards to write, 0 to ``parts`` − 1.
        parts: Into how many parts the work is divided, e.g. machines.
        workers: Processes; 0 works in this one.

    Returns:
        The manifest; None while other parts are unfinished.

    Raises:
        DatasetError: If the folder holds shards of other annotations or settings, or no frame can
            be read.
        ValueError: If there is no such part.
    """
    if not 0 <= part < parts:
        raise ValueError(f"part: expected 0 to {parts - 1} as parts={parts}, got {part}")
    settings = settings or PackSettings()
    out = Path(out)
    fingerprint = _fingerprint(source, settings)
    plan = _plan(source.index, settings)
    jobs = [
        _Job(source, out, k, units, settings, fingerprint)
        for k, units in enumerate(plan)
        if k % parts == part and _finished(out, k, fingerprint) is None
    ]
    log.info("%s: %d of %d shards to write", out, len(jobs), len(plan))
    out.mkdir(parents=True, exist_ok=True)
    _run(jobs, workers, f"packing {source.name}")
    return _complete(source, out, len(plan), settings, fingerprint)


@dataclass(frozen=True)
class _Unit:
    """The tracks of a video within one span of frames."""

    tracks: list[int]
    span: int


@dataclass(frozen=True)
class _Job:
    """One shard."""

    source: TrackSource
    out: Path
    number: int
    units: list[_Unit]
    settings: PackSettings
    fingerprint: str

    @property
    def frames(self) -> int:
        index = self.source.index
        return sum(
            len(_rows(index.track(i), unit.span, self.settings))
            for unit in self.units
            for i in unit.tracks
        )


def _fingerprint(source: TrackSource, settings: PackSettings) -> str:
    index = source.index
    content = [source.name, index.origin, len(index), index.boxes, asdict(settings)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _rows(track: Track, span: int, settings: PackSettings) -> np.ndarray:
    """Return the rows of a track that belong to a span of frames and show the target."""
    return np.flatnonzero(track.visible & (track.frames // settings.clip_frames == span))


def _plan(index: TrackIndex, settings: PackSettings) -> list[list[_Unit]]:
    """Return the units of each shard; a function of annotations and settings alone."""
    tracks: dict[tuple[int, int], list[int]] = defaultdict(list)
    frames: dict[tuple[int, int], int] = defaultdict(int)
    for i, video in enumerate(index.video_ids.tolist()):
        track = index.track(i)
        spans, counts = np.unique(
            track.frames[track.visible] // settings.clip_frames, return_counts=True
        )
        for span, count in zip(spans.tolist(), counts.tolist(), strict=True):
            tracks[video, span].append(i)
            frames[video, span] += count
    keys = list(tracks)
    # Equally full, so that no shard is left with a frame or two.
    total = sum(frames.values())
    full = total / max(1, round(total / settings.shard_frames))
    shards: list[list[_Unit]] = [[]]
    videos: list[set[int]] = [set()]
    filled = 0
    for j in np.random.default_rng(0).permutation(len(keys)):
        # Two videos at least, so that a negative pair can be drawn from a shard alone.
        if filled >= len(shards) * full and len(videos[-1]) > 1:
            shards.append([])
            videos.append(set())
        video, span = keys[j]
        shards[-1].append(_Unit(tracks[video, span], span))
        videos[-1].add(video)
        filled += frames[video, span]
    if len(shards) > 1 and len(videos[-1]) < 2:
        rest = shards.pop()
        shards[-1] += rest
    return shards


# --- one shard ------------------------------------------------------------------------------------


def _file(out: Path, number: int, suffix: str) -> Path:
    return out / f"shard-{number:06d}{suffix}"


def _finished(out: Path, number: int, fingerprint: str) -> dict[str, Any] | None:
    """Return what is known of a finished shard; None if it is still to be written."""
    marker = _file(out, number, ".json")
    try:
        record: dict[str, Any] = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if record["fingerprint"] != fingerprint:
        raise DatasetError(
            f"{marker}: was packed from other annotations or with other settings; remove {out} or "
            "name another out="
        )
    shard = record["shard"]
    if shard is None:
        return record
    tar = _file(out, number, ".tar")
    whole = tar.is_file() and tar.stat().st_size == shard["bytes"]
    return record if whole else None


def _write_shard(job: _Job, on_frame: Callable[[int], None]) -> None:
    """Write a shard: the tar, index and places of its crops, and last the mark that it is whole."""
    tar = _file(job.out, job.number, ".tar")
    clips: list[Track] = []
    positions: list[tuple[int, int, int]] = []
    skipped: list[Skipped] = []
    with atomic_file(tar) as temporary:
        with (
            temporary.open("wb") as stream,
            # A fixed time makes the same crops the same bytes.
            webdataset.TarWriter(stream, encoder=False, mtime=0) as writer,
        ):
            for unit in job.units:
                for track, crops in _cut(job, unit, skipped, on_frame):
                    for made in crops:
                        # A sample's members are written in the order of their suffixes: jpg, json.
                        offset = writer.tarstream.offset + _TAR_HEADER
                        positions.append((job.number, offset, len(made.jpeg)))
                        writer.write(_sample(job.number, len(clips), track, made))
                    clips.append(_clip(track, crops, job.settings))
        with temporary.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    shard = None
    if clips:
        _save_positions(tar.with_suffix(".npy"), positions)
        TrackIndex.write(tar.with_suffix(".arrow"), clips, job.fingerprint)
        shard = asdict(Shard(tar.name, tar.stat().st_size, digest, len(clips), len(positions)))
    else:
        tar.unlink()
    record = {
        "fingerprint": job.fingerprint,
        "shard": shard,
        "skipped": [astuple(s) for s in skipped],
    }
    write_text(tar.with_suffix(".json"), json.dumps(record) + "\n")


@dataclass(frozen=True)
class _Crop:
    """One crop of a track."""

    row: int
    jpeg: bytes
    window: Window
    box_xyxy: np.ndarray


def _cut(
    job: _Job, unit: _Unit, skipped: list[Skipped], on_frame: Callable[[int], None]
) -> Iterator[tuple[Track, list[_Crop]]]:
    """Yield the tracks of a unit with their crops; each frame is decoded once for all of them."""
    s = job.settings
    tracks = [job.source.index.track(i) for i in unit.tracks]
    crops: list[list[_Crop]] = [[] for _ in tracks]
    wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for k, track in enumerate(tracks):
        for row in _rows(track, unit.span, s).tolist():
            wanted[int(track.frames[row])].append((k, row))
    for frame, targets in sorted(wanted.items()):
        on_frame(len(targets))
        try:
            path = job.source.frame_path(tracks[0].video, frame)
            image = read_frame(path)
        except (FrameError, OSError, IndexError) as error:
            skipped.append(Skipped(_UNREADABLE, len(targets), str(error)))
            continue
        fill = mean_colour(image)
        for k, row in targets:
            box = tracks[k].boxes_xyxy[row]
            window = search_window(box, s.crop_size, s.exemplar_size, s.context_amount)
            bgr = cv2.cvtColor(crop(image, window, fill), cv2.COLOR_RGB2BGR)
            jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, s.quality])[1].tobytes()
            crops[k].append(_Crop(row, jpeg, window, window.to_crop(box.astype(np.float64))))
    yield from ((t, c) for t, c in zip(tracks, crops, strict=True) if c)


def _sample(shard: int, clip: int, track: Track, made: _Crop) -> dict[str, Any]:
    """Return the webdataset sample of a crop; its description serves other readers than ours."""
    frame = int(track.frames[made.row])
    description = {
        "video": track.video,
        "track": track.track,
        "category": track.category,
        "frame": frame,
        "occluded": bool(track.occluded[made.row]),
        "box_xyxy": np.round(made.box_xyxy, 3).tolist(),
        "window": asdict(made.window),
    }
    return {
        "__key__": f"{shard:06d}-{clip:06d}_{frame:08d}",
        "jpg": made.jpeg,
        "json": json.dumps(description).encode(),
    }


def _clip(track: Track, crops: list[_Crop], settings: PackSettings) -> Track:
    rows = [c.row for c in crops]
    return Track(
        track.video,
        track.track,
        track.category,
        frames=track.frames[rows],
        boxes_xyxy=np.stack([c.box_xyxy for c in crops]),
        visible=np.ones(len(rows), bool),
        occluded=track.occluded[rows],
        image_wh=np.full((len(rows), 2), settings.crop_size),
    )


def _save_positions(file: Path, positions: Any) -> None:
    with atomic_file(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.array(positions, POSITION))


# --- all shards -----------------------------------------------------------------------------------


def _run(jobs: list[_Job], workers: int, description: str) -> None:
    with FrameProgress(description, sum(j.frames for j in jobs)) as progress:

        def advance(count: int) -> None:
            for _ in range(count):
                progress.advance()

        if workers < 1 or len(jobs) < 2:
            for job in jobs:
                _write_shard(job, advance)
            return
        context = multiprocessing.get_context("spawn")  # forking a process with threads may hang
        counter, stop = context.Value("q", 0), context.Event()
        with ProcessPoolExecutor(
            min(workers, len(jobs)), context, _begin_worker, (counter, stop)
        ) as pool:
            pending = {pool.submit(_write_shard_in_worker, job) for job in jobs}
            try:
                while pending:
                    done, pending = wait(pending, timeout=0.5, return_when="FIRST_EXCEPTION")
                    advance(counter.value - progress.done)
                    for future in done:
                        future.result()
            except BaseException:
                stop.set()  # the workers leave their shards at the next frame
                pool.shutdown(cancel_futures=True)
                raise


_worker: tuple[Synchronized, Event]


def _begin_worker(counter: Synchronized, stop: Event) -> None:
    global _worker
    _worker = counter, stop
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which says stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # killed, it could not tell


def _write_shard_in_worker(job: _Job) -> None:
    counter, stop = _worker

    def on_frame(count: int) -> None:
        if stop.is_set():
            raise InterruptedError("packing was stopped")
        with counter.get_lock():
            counter.value += count

    _write_shard(job, on_frame)


def _complete(
    source: TrackSource, out: Path, count: int, settings: PackSettings, fingerprint: str
) -> Path | None:
    """Join the shards' indices and write the manifest, if all shards are finished."""
    records = [_finished(out, k, fingerprint) for k in range(count)]
    missing = sum(r is None for r in records)
    if missing:
        log.info("%s: %d of %d shards are still to come from other parts", out, missing, count)
        return None
    manifest = out / MANIFEST
    finished = [r for r in records if r is not None]
    shards = tuple(r["shard"] and Shard(**r["shard"]) for r in finished)
    skipped = _summed([Skipped(*s) for r in finished for s in r["skipped"]])
    for left_out in skipped:
        log.warning("%s: left out %d × %s; the first: %s", out, *_counted(left_out))
    if not any(shards):
        raise DatasetError(f"{out}: no frame of {source.name} could be read; {skipped[0].example}")
    clips: dict[tuple[str, str], list[PackedTrack]] = defaultdict(list)
    for shard in filter(None, shards):
        index = PackedIndex((out / shard.name).with_suffix(".arrow"))
        for clip in map(index.track, range(len(index))):
            clips[clip.video, clip.track].append(clip)
    positions: list[np.ndarray] = []
    joined = _joined(source.index, clips, positions)
    whole = TrackIndex.write(out / TRACKS, joined, fingerprint, [*source.index.skipped, *skipped])
    _save_positions((out / TRACKS).with_suffix(".npy"), np.concatenate(positions))
    Manifest(
        source.name,
        fingerprint,
        asdict(settings),
        videos=len(np.unique(whole.video_ids)),
        tracks=len(whole),
        frames=whole.boxes,
        shards=shards,
    ).write(manifest)
    for leftover in out.glob(".shard-*.tmp"):  # of processes that were killed
        leftover.unlink(missing_ok=True)
    return manifest


def _joined(
    index: TrackIndex, clips: dict[tuple[str, str], list[PackedTrack]], positions: list[np.ndarray]
) -> Iterator[Track]:
    """Yield the tracks in the order of the source, so that the same draws choose the same pairs."""
    for track in map(index.track, range(len(index))):
        parts = sorted(clips.get((track.video, track.track), ()), key=lambda c: int(c.frames[0]))
        if parts:
            positions.append(np.concatenate([p.positions for p in parts]))
            yield Track(
                track.video,
                track.track,
                track.category,
                **{
                    name: np.concatenate([getattr(p, name) for p in parts])
                    for name in ("frames", "boxes_xyxy", "visible", "occluded", "image_wh")
                },
            )


def _summed(skipped: list[Skipped]) -> list[Skipped]:
    by_reason: dict[str, Skipped] = {}
    for s in skipped:
        known = by_reason.get(s.reason, Skipped(s.reason, 0, s.example))
        by_reason[s.reason] = Skipped(s.reason, known.count + s.count, known.example)
    return list(by_reason.values())


def _counted(skipped: Skipped) -> tuple[int, str, str]:
    return skipped.count, skipped.reason, skipped.example
