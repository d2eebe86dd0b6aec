"""Crops packed into tar shards, written by :mod:`datamodules.packing`.

A shard holds clips. A *clip* is what at most some hundred successive frames of a video show of one
target; every frame of it is a webdataset sample, ``<shard>-<clip>_<frame>.jpg`` and ``.json``, so any
webdataset reader can use the shards. Clips, and not whole tracks, because the videos of a set are then
spread over the shards in random order: who holds a few shards sees many videos, and a long video makes
no huge shard.

Beside each shard lie a track index of its clips (boxes in crop px) and the place of each crop in the
tar; beside all of them the same for the whole set, where the clips of a track are joined again. Both
are read by the same :class:`~datamodules.sources.tracks.TrackSource`. Hence two ways to use a pack:

- :class:`ShardSource`, random access to shards on a local disk. It draws the very pairs that the
  packed source draws, and mixes with any other source.
- :class:`ShardStream`, for shards on a slow disk or behind a URL: which shard a pair comes from is a
  function of the pair's number, so that a few shards at a time are enough. It needs no state: pairs do
  not depend on the number of workers, an interrupted epoch goes on by its pair numbers, and no pair is
  served twice or left out, because numbers are not.
"""

import hashlib
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import fsspec  # type: ignore[import-untyped]
import numpy as np
from filelock import FileLock

from datamodules.errors import DatasetError
from datamodules.frames import JpegView
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Track, TrackIndex
from lightning_trackers.files import atomic_file, write_text

log = logging.getLogger(__name__)

MANIFEST, TRACKS = "manifest.json", "tracks.arrow"
POSITION = np.dtype([("shard", np.int32), ("offset", np.int64), ("size", np.int32)])
_FORMAT = 1
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_TRIES = 3
_REPAIR = "copy the shards again, or remove this one and pack again"


@dataclass(frozen=True)
class Shard:
    """What a manifest says of a shard.

    Args:
        name: File name of the tar.
        bytes: Its size.
        sha256: Its digest.
        clips: Clips in it.
        frames: Crops in it.
    """

    name: str
    bytes: int
    sha256: str
    clips: int
    frames: int


@dataclass(frozen=True)
class Manifest:
    """What is in a folder of shards; written when the last of them is finished.

    Args:
        source: Name of the packed source.
        fingerprint: Digest of its annotations and of the settings.
        settings: How crops were cut.
        videos: Number of videos.
        tracks: Number of tracks.
        frames: Number of crops.
        shards: The shards that hold something, by number; None for one without a readable frame.
    """

    source: str
    fingerprint: str
    settings: dict[str, Any]
    videos: int
    tracks: int
    frames: int
    shards: tuple[Shard | None, ...]

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_text(path, json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            DatasetError: If there is none or it is of another format.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != _FORMAT:
                raise ValueError(f"expected format {_FORMAT}")
            shards = tuple(s and Shard(**s) for s in content.pop("shards"))
            return cls(shards=shards, **content)
        except FileNotFoundError:
            raise DatasetError(
                f"{path}: no such file; expected a folder of shards whose packing is finished "
                "(all parts; the same command of experiments.prepare goes on)"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{path}: not a manifest of shards ({error}); {_REPAIR}") from error


@dataclass(frozen=True)
class PackedTrack(Track):
    """A track whose boxes lie in crops.

    Args:
        positions: Shard, offset and size of each crop, bytes, structured ``(T,)``.
    """

    positions: np.ndarray


class PackedIndex(TrackIndex):
    """A track index of crops and the place of each; memory-mapped, pickles as its path.

    Args:
        path: The index; the places lie in a ``.npy`` file of the same name.

    Raises:
        DatasetError: If one of the two files is missing, cut short, or of another pack.
    """

    def __init__(self, path: str | Path) -> None:
        places = Path(path).with_suffix(".npy")
        try:
            super().__init__(path)
            self.positions: np.ndarray = np.load(places, mmap_mode="r")
        except (ValueError, OSError, EOFError) as error:
            raise DatasetError(f"{places.parent}: {error}; {_REPAIR}") from error
        if self.positions.dtype != POSITION or len(self.positions) != self.boxes:
            raise DatasetError(
                f"{places}: expected the places of {self.boxes} crops, as in {self.path.name}, got "
                f"{len(self.positions)}; {_REPAIR}"
            )

    def __reduce__(self) -> tuple[type["PackedIndex"], tuple[Path]]:
        """Pickle as the path."""
        return PackedIndex, (self.path,)

    def track(self, i: int) -> PackedTrack:
        """Return one track; its arrays are read-only views of the files."""
        track = super().track(i)
        rows = slice(self._offsets[i], self._offsets[i + 1])
        return PackedTrack(**vars(track), positions=self.positions[rows])


class ShardFiles(Protocol):
    """Where shards lie."""

    manifest: Manifest

    def path(self, name: str) -> Path:
        """Return a file of the pack on a local disk."""
        ...


class LocalShards:
    """Shards in a folder.

    Args:
        root: The folder.

    Raises:
        DatasetError: If the pack is unfinished, or a shard is missing or of another size.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.manifest = Manifest.read(self.root / MANIFEST)
        for shard in filter(None, self.manifest.shards):
            file = self.root / shard.name
            if not file.is_file():
                raise DatasetError(f"{file}: this shard of the manifest is missing; {_REPAIR}")
            if file.stat().st_size != shard.bytes:
                raise DatasetError(
                    f"{file}: expected a shard of {shard.bytes} bytes, as in {MANIFEST}, got "
                    f"{file.stat().st_size}; {_REPAIR}"
                )

    def path(self, name: str) -> Path:
        """Return a file of the pack."""
        return self.root / name


class CachedShards:
    """Shards behind a URL, of which the latest used are kept on a local disk.

    All processes of a machine share the cache: a file is fetched once, checked, and appears whole.

    Args:
        url: Folder of the shards in any scheme that fsspec knows: http, https, s3, gs, ...
        cache: Local folder.
        cache_gb: Size that shards may take there, GB; the least recently used go first.

    Raises:
        DatasetError: If the manifest cannot be fetched.
    """

    def __init__(self, url: str, cache: str | Path, cache_gb: float) -> None:
        self.url = url.rstrip("/")
        self.limit = int(cache_gb * 1e9)
        # The manifest is fetched at each start: it says whether what is kept is still valid.
        inbox = Path(cache) / f".{hashlib.sha256(self.url.encode()).hexdigest()[:16]}.json"
        self._fetch(MANIFEST, inbox)
        self.manifest = Manifest.read(inbox)
        self.folder = Path(cache) / self.manifest.fingerprint[:16]
        self._shards = {s.name: s for s in self.manifest.shards if s}

    def path(self, name: str) -> Path:
        """Return a file of the pack, fetching it if it is not here.

        Raises:
            DatasetError: If it cannot be fetched, or is not what the manifest says.
        """
        file = self.folder / name
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f".{name}.lock"):
                if not file.is_file():  # nobody else fetched it meanwhile
                    self._fetch(name, file)
                    self._make_room(file)
        return file

    def _fetch(self, name: str, file: Path) -> None:
        url = f"{self.url}/{name}"
        for attempt in range(_TRIES):
            try:
                filesystem, remote = fsspec.url_to_fs(url)
                with atomic_file(file) as temporary:
                    filesystem.get_file(remote, str(temporary))
                    if name != MANIFEST and name in self._shards:
                        self._check(temporary, self._shards[name], url)
                return
            # Each file system has errors of its own; what they share is that a second try may help.
            except Exception as error:
                if isinstance(error, DatasetError):
                    raise
                if isinstance(error, FileNotFoundError) or attempt == _TRIES - 1:
                    raise DatasetError(f"{url}: cannot be fetched ({error!r})") from error
                log.warning("%s: %r; trying again", url, error)
                time.sleep(2**attempt)

    @staticmethod
    def _check(file: Path, shard: Shard, url: str) -> None:
        size = file.stat().st_size
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if (size, digest) != (shard.bytes, shard.sha256):
            raise DatasetError(
                f"{url}: expected the shard of {shard.bytes} bytes that {MANIFEST} describes, got "
                f"another of {size}; upload all files of the pack again"
            )

    def _make_room(self, newest: Path) -> None:
        shards = {f: f.stat() for f in self.folder.glob("*.tar") if f != newest}
        total = newest.stat().st_size + sum(s.st_size for s in shards.values())
        for file in sorted(shards, key=lambda f: shards[f].st_mtime):
            if total <= self.limit:
                break
            total -= shards[file].st_size
            file.unlink(missing_ok=True)  # a process that reads it fetches it again


class PackedSource(TrackSource):
    """Draws pairs of crops like any track source; one read fetches one crop.

    Each read opens its shard, so that processes share no file.

    Args:
        name: Name of the source in ids and messages.
        index: The crops.
        files: The shards.
        same_category: See :class:`~datamodules.sources.tracks.TrackSource`.
    """

    def __init__(
        self, name: str, index: PackedIndex, files: ShardFiles, same_category: float = 0.0
    ) -> None:
        if index.origin != files.manifest.fingerprint:
            raise DatasetError(
                f"{index.path}: was not packed together with the shards that {MANIFEST} beside it "
                f"describes; {_REPAIR}"
            )
        super().__init__(name, index, _no_frame_file, same_category)
        self.files = files

    def _view(self, track: Track, row: int) -> JpegView:
        where = f"{track.video}/{track.track} frame {track.frames[row]}"
        data = self.encoded(track, row)
        return JpegView(data, track.boxes_xyxy[row], f"{self.index.path.parent}, {where}")

    def encoded(self, track: Track, row: int) -> bytes:
        """Return a crop of a track as it is stored, JPEG.

        Raises:
            DatasetError: If the shard is missing, cut short or was changed.
        """
        assert isinstance(track, PackedTrack)
        position = track.positions[row]
        shard = self.files.manifest.shards[position["shard"]]
        assert shard is not None
        offset, size = int(position["offset"]), int(position["size"])
        try:
            data = self._read(shard.name, offset, size)
        except OSError as error:
            raise DatasetError(f"{self.files.path(shard.name)}: {error}; {_REPAIR}") from error
        if len(data) != size or not (data.startswith(_JPEG_START) and data.endswith(_JPEG_END)):
            raise DatasetError(
                f"{self.files.path(shard.name)}: expected a JPEG of {size} bytes at {offset}, got "
                f"{len(data)} bytes that are none; the shard is cut short or was changed: {_REPAIR}"
            )
        return data

    def _read(self, name: str, offset: int, size: int) -> bytes:
        for attempt in range(_TRIES):
            try:
                with self.files.path(name).open("rb", buffering=0) as tar:
                    return os.pread(tar.fileno(), size, offset)
            except FileNotFoundError:
                # Another process may have made room in the cache in between.
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")


class ShardSource(PackedSource):
    """Pairs from packed crops on a local disk, drawn like those of the source that was packed.

    Args:
        root: Folder of the shards.
        name: Name of the source in ids and messages; that of the packed source by default.
        same_category: See :class:`~datamodules.sources.tracks.TrackSource`.

    Raises:
        DatasetError: If the pack is unfinished, or a shard is missing or cut short.
    """

    def __init__(
        self, root: str | Path, name: str | None = None, same_category: float = 0.0
    ) -> None:
        files = LocalShards(root)
        index = PackedIndex(files.path(TRACKS))
        super().__init__(name or files.manifest.source, index, files, same_category)


class ShardStream:
    """Pairs from shards that are used one after the other, on a local disk or behind a URL.

    Pair number n belongs to lane n mod ``lanes``. The shards are dealt to the lanes, and each lane goes
    through its own in an order drawn anew for each pass, staying at a shard for ``pairs_per_clip``
    times its clips. So a machine holds one shard per lane, and of R ranks each touches only its own
    lanes if R divides ``lanes`` and ``lanes`` divides the pairs of an epoch; otherwise pairs are the
    same and more is fetched.

    Deviation: clips are equally likely, not tracks, so that of two videos the longer one is drawn more
    often; within a clip a pair's frames lie no further apart than the clip is long.

    Args:
        root: Folder or URL of the shards.
        name: Name of the source in ids and messages; that of the packed source by default.
        cache: Local folder for shards behind a URL.
        cache_gb: Size that they may take there, GB.
        lanes: Shards in use at a time.
        pairs_per_clip: Pairs drawn per clip before a shard is left: more of them mean less to fetch
            per pair, and pairs less mixed.
        seed: Seed of the orders.
        same_category: See :class:`~datamodules.sources.tracks.TrackSource`.

    Raises:
        DatasetError: If the manifest cannot be had, or a local shard is missing or cut short.
        ValueError: If a number is not positive, or a URL is given without a cache.
    """

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        cache: str | Path | None = None,
        cache_gb: float = 20.0,
        lanes: int = 8,
        pairs_per_clip: int = 32,
        seed: int = 0,
        same_category: float = 0.0,
    ) -> None:
        if lanes < 1 or pairs_per_clip < 1:
            raise ValueError(
                f"stream of shards: expected lanes and pairs_per_clip >= 1, got {lanes} and "
                f"{pairs_per_clip}"
            )
        self.files: ShardFiles
        if "://" not in str(root):
            self.files = LocalShards(root)
        elif cache is None:
            raise ValueError(f"{root}: shards behind a URL need a local folder, cache=...")
        else:
            self.files = CachedShards(str(root), cache, cache_gb)
        manifest = self.files.manifest
        full = [(k, s) for k, s in enumerate(manifest.shards) if s is not None]
        self.name = name or manifest.source
        self.lanes = min(lanes, len(full))
        in_use = self.lanes * max(s.bytes for _, s in full) / 1e9
        if isinstance(self.files, CachedShards) and in_use > cache_gb:
            log.warning(
                "%s: %d shards in use at a time take %.1f GB and the cache may take %.1f; a single "
                "machine fetches shards again and again. Raise cache_gb or lower lanes",
                *(root, self.lanes, in_use, cache_gb),
            )
        self.seed = seed
        self.same_category = same_category
        self._numbers = [[k for k, _ in full[lane :: self.lanes]] for lane in range(self.lanes)]
        self._stays = [
            np.array([s.clips * pairs_per_clip for _, s in full[lane :: self.lanes]])
            for lane in range(self.lanes)
        ]
        self._open: OrderedDict[int, PackedSource] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without open shards."""
        return {**vars(self), "_open": OrderedDict()}

    def shard_of(self, number: int) -> int:
        """Return the number of the shard that pair ``number`` comes from."""
        step, lane = divmod(number, self.lanes)
        stays = self._stays[lane]
        turn, place = divmod(step, int(stays.sum()))
        order = np.random.default_rng([self.seed, lane, turn]).permutation(len(stays))
        ends = np.cumsum(stays[order])
        return self._numbers[lane][int(order[np.searchsorted(ends, place, side="right")])]

    def at(self, number: int) -> PackedSource:
        """Return the source of pair ``number``: the shard that it comes from."""
        k = self.shard_of(number)
        if k not in self._open:
            shard = self.files.manifest.shards[k]
            assert shard is not None
            tar = self.files.path(shard.name)
            with suppress(OSError):  # a folder of shards may be read-only
                os.utime(tar)  # in use: the cache gives up others first
            self.files.path(Path(shard.name).with_suffix(".npy").name)
            index = PackedIndex(self.files.path(Path(shard.name).with_suffix(".arrow").name))
            self._open[k] = PackedSource(self.name, index, self.files, self.same_category)
            while len(self._open) > 2 * self.lanes:
                self._open.popitem(last=False)
        return self._open[k]


def files_or_shards(
    name: str,
    files: Callable[..., TrackSource],
    shards: str | Path | None,
    cache: str | Path | None,
) -> TrackSource | ShardStream:
    """Return a training set as its packed crops where these are given, else as its files.

    Args:
        name: Name of the set in the configuration.
        files: Makes the source from the files; its argument ``root`` may be None.
        shards: Folder or URL of the packed crops.
        cache: Local folder for shards behind a URL.

    Raises:
        DatasetError: If neither files nor shards are given, or shards behind a URL have no cache.
    """
    root = getattr(files, "keywords", {}).get("root")
    if shards is None and root is None:
        folder = name.removesuffix("_val")  # one folder holds both splits
        raise DatasetError(
            f"{name}: needs paths.{folder}_root, the folder of its files, or paths.{name}_shards, its "
            f"packed crops; give one on the command line, or set TRACKERS_{folder.upper()}_ROOT or "
            f"TRACKERS_{name.upper()}_SHARDS"
        )
    if shards is None:
        log.info("%s: files in %s", name, root)
        return files()
    log.info("%s: packed crops in %s", name, shards)
    if "://" not in str(shards):
        return ShardSource(shards, name)
    if cache is None:
        raise DatasetError(
            f"{name}: shards behind a URL need a local folder; give paths.shard_cache=/... or set "
            "TRACKERS_SHARD_CACHE"
        )
    return ShardStream(shards, name, cache)


def _no_frame_file(video: str, frame: int) -> Path:
    raise DatasetError(f"video {video}, frame {frame}: packed crops have no file of their own")
