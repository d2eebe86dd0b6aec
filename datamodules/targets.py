"""Pictures of targets and of what is beside them, for networks that generate or hide targets.

Source: Wang et al., SINT++, CVPR 2018, Sections 4.1.2 (targets of 64 × 64 px) and 4.2 (occluders are cut
out of the background).
"""

import json
import logging
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.domains import DomainSource, Shot
from datamodules.errors import DatasetError
from datamodules.loading import EpochSampler, SampleLoader
from lightning_trackers.batches import TargetBatch
from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.crops import Window, crop, crop_box, search_window
from lightning_trackers.files import atomic_file

log = logging.getLogger(__name__)

_TRIES = 50
_SIZES = (1.0, 0.5, 0.25)  # of the background, relative to the target
_GENERATED_SHARE = 0.5
_SURROUNDINGS = 5.0  # side of what is kept of a frame, relative to the exemplar window
_KEPT_SIZE = 384  # px


@dataclass(frozen=True)
class KeptView:
    """The part of a frame around its target, and, if there is one, what hides the target.

    Args:
        surroundings: What ``window`` shows of the frame, uint8 RGB, shape ``(P, P, 3)``.
        window: Which part that is.
        box_xyxy: The target, shape ``(4,)``, frame px.
        positive: A picture that is shown in the target's place, uint8 RGB, shape ``(S, S, 3)``.
    """

    surroundings: np.ndarray
    window: Window
    box_xyxy: np.ndarray
    positive: np.ndarray | None = None

    def crop(self, window: Window) -> np.ndarray:
        """Return what a window shows, uint8 RGB ``(size, size, 3)``."""
        to_kept = self.window
        half = window.side / 2
        corners = np.array([window.cx - half, window.cy - half, window.cx + half, window.cy + half])
        x1, y1, x2, y2 = to_kept.to_crop(corners)
        seen = Window((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, window.size)
        picture = self.surroundings
        if self.positive is not None:
            picture = pasted(picture, self.positive, to_kept.to_crop(self.box_xyxy))
        return crop(picture, seen)


def pasted(frame: np.ndarray, picture: np.ndarray, box_xyxy: np.ndarray) -> np.ndarray:
    """Return a frame with a picture, stretched, in place of what a box shows.

    Args:
        frame: uint8 RGB, shape ``(H, W, 3)``; it is not changed.
        picture: uint8 RGB, shape ``(S, S, 3)``.
        box_xyxy: Where it goes, px; rounded to whole pixels, cut at the frame's border.
    """
    height, width = frame.shape[:2]
    left, top, right, bottom = (round(float(v)) for v in box_xyxy)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    stretched = cv2.resize(picture, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    x1, y1, x2, y2 = max(0, left), max(0, top), min(width, right), min(height, bottom)
    result = frame.copy()
    if x1 < x2 and y1 < y2:
        result[y1:y2, x1:x2] = stretched[y1 - top : y2 - top, x1 - left : x2 - left]
    return result


@dataclass(frozen=True)
class VideoTargets:
    """One target in T frames of its video.

    Args:
        number: Of the video, counted over the videos of all sources.
        source_id: Where they come from.
        targets: The target in each frame, uint8 RGB, shape ``(T, 3, S, S)``.
        backgrounds: A place beside it, uint8 RGB, shape ``(T, 3, S, S)``.
        views: The frames.
    """

    number: int
    source_id: str
    targets: np.ndarray
    backgrounds: np.ndarray
    views: list[KeptView]


@dataclass(frozen=True)
class HardPositives:
    """Pictures that show the targets of videos.

    Args:
        pictures: uint8 RGB, shape ``(M, 3, S, S)``.
        videos: Number of each one's video, int64, shape ``(M,)``.
        provenance: How they were made.
    """

    pictures: np.ndarray
    videos: np.ndarray
    provenance: Mapping[str, object]

    def write(self, path: Path) -> None:
        """Write them to a file, whole or not at all."""
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                pictures=self.pictures,
                videos=self.videos,
                provenance=np.array(json.dumps(dict(self.provenance), default=str)),
            )

    @classmethod
    def read(cls, path: str | Path) -> "HardPositives":
        """Read what :meth:`write` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not one of these files.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                parts = file["pictures"], file["videos"], json.loads(str(file["provenance"]))
        except (KeyError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path}: expected pictures, videos and provenance, as the stage that makes hard "
                f"positives writes them ({error}); remove the stage's folder and run it again"
            ) from error
        return cls(*parts)

    def of_video(self, number: int) -> np.ndarray:
        """Return the pictures of a video, none where it has none, ``(K, 3, S, S)``."""
        return np.asarray(self.pictures[self.videos == number])


class TargetPool:
    """The targets of some videos, drawn or read once and kept in memory.

    A frame whose target leaves no room for a background is not used, nor is a video with fewer than
    two frames; the log says so.

    Args:
        sources: Videos by name.
        frames: Frames of each video that are looked at.
        size: Side of a target's picture, px.
        seed: Seed of all draws.

    Raises:
        DatasetError: If no video has two usable frames.
    """

    def __init__(
        self, sources: Mapping[str, DomainSource], frames: int = 8, size: int = 64, seed: int = 0
    ) -> None:
        self.videos: list[VideoTargets] = []
        number = 0
        for source in sources.values():
            for domain in range(len(source)):
                found = _video(source, domain, number, frames, size, seed)
                if found is None:
                    log.warning(
                        "source %s, video %d: fewer than two frames with a target and a background "
                        "beside it; the video is left out",
                        source.name,
                        domain,
                    )
                else:
                    self.videos.append(found)
                number += 1
        if not self.videos:
            raise DatasetError(
                f"targets of {', '.join(sources) or 'no source'}: expected videos with two frames "
                f"that show a target and some background beside it, got none in {number} videos; an "
                "occluder is cut out of the background, so targets must not fill their frames"
            )

    def draw(
        self,
        video: VideoTargets,
        rng: np.random.Generator,
        count: int,
        generated: HardPositives | None = None,
        share: float = 1.0,
    ) -> TargetBatch:
        """Draw targets of a video, each with another frame of it as exemplar.

        Args:
            video: The video.
            rng: Source of chance.
            count: How many.
            generated: Pictures that stand in for the targets; where a video has none, its targets
                are shown.
            share: Share of the targets for which they stand in.
        """
        frames = len(video.targets)
        target = rng.integers(frames, size=count)
        exemplar = (target + rng.integers(1, frames, size=count)) % frames
        background = rng.integers(frames, size=count)
        targets = video.targets[target]
        own = () if generated is None else generated.of_video(video.number)
        if len(own):
            replaced = rng.random(count) < share
            targets[replaced] = own[rng.integers(len(own), size=int(replaced.sum()))]
        return TargetBatch(
            torch.from_numpy(targets),
            torch.from_numpy(video.targets[exemplar]),
            torch.from_numpy(video.backgrounds[background]),
            [f"{video.source_id}/{t}-{e}" for t, e in zip(target, exemplar, strict=True)],
        )


def target_pool(
    sources: Mapping[str, DomainSource], frames: int = 8, size: int = 64, seed: int = 0
) -> TargetPool:
    """Return a pool; the last one if it is asked for again, as the stages of a pipeline do.

    For arguments and errors see :class:`TargetPool`.
    """
    return _pool(pickle.dumps((dict(sources), frames, size, seed)))


@lru_cache(maxsize=1)
def _pool(arguments: bytes) -> TargetPool:
    return TargetPool(*pickle.loads(arguments))


def background_box(rng: np.random.Generator, shot: Shot) -> np.ndarray | None:
    """Draw a box of the frame that shows nothing of the target, ``(4,)``, px; None without room.

    It has the target's size, or, where that finds no room, half or a quarter of it.
    """
    target = np.asarray(shot.box_xyxy, dtype=np.float64)
    for size in _SIZES:
        wh = size * (target[2:] - target[:2])
        room = np.array(shot.frame_wh) - wh
        if (room < 0).any():
            continue
        corners = rng.uniform(0, 1, (_TRIES, 2)) * room
        boxes = np.concatenate([corners, corners + wh], axis=1)
        free = boxes[iou_xyxy(boxes, target) == 0]
        if len(free):
            return np.asarray(free[0])
    return None


def _video(
    source: DomainSource, domain: int, number: int, frames: int, size: int, seed: int
) -> VideoTargets | None:
    rng = np.random.default_rng([seed, number])
    shots, source_id = source.draw(domain, rng, frames)
    kept = []
    for shot in shots:
        background_xyxy = background_box(rng, shot)
        if background_xyxy is not None:
            kept.append(_looked_at(shot, background_xyxy, size))
    if len(kept) < 2:
        return None
    targets, backgrounds, views = zip(*kept, strict=True)
    return VideoTargets(
        number,
        source_id,
        np.stack(targets).transpose(0, 3, 1, 2),
        np.stack(backgrounds).transpose(0, 3, 1, 2),
        list(views),
    )


def _looked_at(
    shot: Shot, background_xyxy: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, KeptView]:
    """Return the target, the background and the surroundings."""
    box = np.asarray(shot.box_xyxy, dtype=np.float64)
    window = search_window(box, _KEPT_SIZE, round(_KEPT_SIZE / _SURROUNDINGS))
    reduction, frame = shot.picture.decoded(1.0)
    target, background = (
        crop_box(frame, b / reduction, size, padding=0) for b in (box, background_xyxy)
    )
    reduced = Window(
        window.cx / reduction, window.cy / reduction, window.side / reduction, _KEPT_SIZE
    )
    return target, background, KeptView(crop(frame, reduced), window, box)


class TargetDataset(Dataset[TargetBatch]):
    """Targets by number, one in a batch: number n of a seed is always the same.

    Args:
        pool: Where they come from; every video is equally likely.
        seed: Seed of all draws.
        generated: Pictures that stand in for half of the targets.
    """

    def __init__(
        self, pool: TargetPool, seed: int = 0, generated: HardPositives | None = None
    ) -> None:
        self.pool, self.seed, self.generated = pool, seed, generated

    def __getitem__(self, index: int) -> TargetBatch:
        """Return target number ``index``; any number from 0 on is one."""
        rng = np.random.default_rng([self.seed, index])
        video = self.pool.videos[int(rng.integers(len(self.pool.videos)))]
        return self.pool.draw(video, rng, 1, self.generated, _GENERATED_SHARE)


def together(batches: Sequence[TargetBatch]) -> TargetBatch:
    """Return batches as one."""
    return TargetBatch(
        torch.cat([b.targets for b in batches]),
        torch.cat([b.exemplars for b in batches]),
        torch.cat([b.backgrounds for b in batches]),
        [name for b in batches for name in b.source_id],
    )


class TargetDataModule(pl.LightningDataModule):
    """Serves batches of targets; batches depend on their number and the seed alone.

    Args:
        sources: Videos by name.
        frames: Frames of each video.
        size: Side of a picture, px.
        batches_per_epoch: Batches of an epoch.
        batch_size: Targets of a batch.
        seed: Seed of all draws.
        generated: File of generated pictures, which stand in for half of the targets: an agent's
            input is what PSGN makes (the paper's Figure 2) as well as what videos show.
    """

    def __init__(
        self,
        sources: Mapping[str, DomainSource],
        frames: int = 8,
        size: int = 64,
        batches_per_epoch: int = 50,
        batch_size: int = 32,
        seed: int = 0,
        generated: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.generated = generated
        self.sources = sources
        self.frames, self.size, self.seed = frames, size, seed
        self.batches_per_epoch, self.batch_size = batches_per_epoch, batch_size
        self.targets: TargetDataset | None = None

    def setup(self, stage: str) -> None:
        """Draw or read the pictures."""
        if self.targets is None:
            pool = target_pool(self.sources, self.frames, self.size, self.seed)
            made = None if self.generated is None else HardPositives.read(self.generated)
            self.targets = TargetDataset(pool, self.seed, made)

    def train_dataloader(self) -> DataLoader[TargetBatch]:
        """Return the batches; the loader's state is kept in checkpoints."""
        assert self.targets is not None, "targets: setup comes before the loader"
        samples = self.batches_per_epoch * self.batch_size
        return SampleLoader(self.targets, EpochSampler(samples), self.batch_size, together)
