"""Pictures of targets and of what is beside them, for networks that generate or hide targets.

Source: Wang et al., SINT++, CVPR 2018, Sections 4.1.2 (targets of 64 × 64 px) and 4.2 (occluders are cut
out of the background).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.domains import DomainSource, Shot
from datamodules.errors import DatasetError
from datamodules.frames import FrameError
from datamodules.loading import EpochSampler, SampleLoader
from lightning_trackers.batches import TargetBatch
from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.crops import crop_box

log = logging.getLogger(__name__)

_TRIES = 50
_SIZES = (1.0, 0.5, 0.25)  # of the background, relative to the target


@dataclass(frozen=True)
class VideoTargets:
    """One target in T frames of its video.

    Args:
        source_id: Where they come from.
        targets: The target in each frame, uint8 RGB, shape ``(T, 3, S, S)``.
        backgrounds: A place beside it, uint8 RGB, shape ``(T, 3, S, S)``.
    """

    source_id: str
    targets: np.ndarray
    backgrounds: np.ndarray


def video_targets(
    source: DomainSource, domain: int, frames: int, size: int, seed: int
) -> VideoTargets | None:
    """Return the targets of a video; None where fewer than two frames can be used.

    A frame whose target leaves no room for a background is not used.

    Args:
        source: The videos.
        domain: Number of the video.
        frames: Frames that are looked at.
        size: Side of a picture, px.
        seed: Seed of all draws.
    """
    rng = np.random.default_rng([seed, domain])
    shots, source_id = source.draw(domain, rng, frames)
    pairs = []
    for shot in shots:
        background_xyxy = background_box(rng, shot)
        if background_xyxy is None:
            continue
        try:
            pairs.append(_pictures(shot, background_xyxy, size))
        except FrameError as error:
            log.warning("%s; the frame is left out", error)
    if len(pairs) < 2:
        return None
    targets, backgrounds = (np.stack(side).transpose(0, 3, 1, 2) for side in zip(*pairs, strict=True))
    return VideoTargets(source_id, targets, backgrounds)


def background_box(rng: np.random.Generator, shot: Shot) -> np.ndarray | None:
    """Draw a box of the frame that shows nothing of the target, ``(4,)``, px; None without room.

    It has the target's size, or, where that finds no room, half or a quarter of it.
    """
    wh = np.asarray(shot.box_xyxy[2:] - shot.box_xyxy[:2], dtype=np.float64)
    for size in _SIZES:
        room = np.array(shot.frame_wh) - size * wh
        if (room < 0).any():
            continue
        corners = rng.uniform(0, 1, (_TRIES, 2)) * room
        boxes = np.concatenate([corners, corners + size * wh], axis=1)
        free = boxes[iou_xyxy(boxes, np.asarray(shot.box_xyxy, dtype=np.float64)) == 0]
        if len(free):
            return np.asarray(free[0])
    return None


def _pictures(shot: Shot, background_xyxy: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    boxes = [np.asarray(shot.box_xyxy, dtype=np.float64), background_xyxy]
    finest = min(float((box[2:] - box[:2]).min()) for box in boxes) / size
    reduction, frame = shot.picture.decoded(finest)
    target, background = (crop_box(frame, box / reduction, size, padding=0) for box in boxes)
    return target, background


class TargetDataset(Dataset[TargetBatch]):
    """Targets by number, each with another frame of its video as exemplar.

    The pictures are drawn or read once, when the dataset is made, and kept in memory.

    Args:
        sources: Videos by name.
        frames: Frames of each video.
        size: Side of a picture, px.
        seed: Seed of all draws.

    Raises:
        DatasetError: If no video has two usable frames.
    """

    def __init__(
        self, sources: Mapping[str, DomainSource], frames: int = 8, size: int = 64, seed: int = 0
    ) -> None:
        self.seed = seed
        self.videos: list[VideoTargets] = []
        self.domains: list[int] = []
        """Number of each video, counted over all videos of all sources."""
        first = 0
        for source in sources.values():
            for domain in range(len(source)):
                found = video_targets(source, domain, frames, size, seed)
                if found is None:
                    log.warning(
                        "source %s, video %d: fewer than two frames with a target and a background "
                        "beside it; the video is left out",
                        source.name,
                        domain,
                    )
                    continue
                self.videos.append(found)
                self.domains.append(first + domain)
            first += len(source)
        if not self.videos:
            raise DatasetError(
                f"targets of {', '.join(sources) or 'no source'}: expected videos with two frames "
                f"that show a target and some background beside it, got none in {first} videos; an "
                "occluder is cut out of the background, so targets must not fill their frames"
            )

    def __getitem__(self, index: int) -> TargetBatch:
        """Return target number ``index`` as a batch of one; any number from 0 on is one."""
        rng = np.random.default_rng([self.seed, index])
        video = self.videos[int(rng.integers(len(self.videos)))]
        target, exemplar = rng.choice(len(video.targets), 2, replace=False)
        background = int(rng.integers(len(video.backgrounds)))
        return TargetBatch(
            torch.from_numpy(video.targets[target][None]),
            torch.from_numpy(video.targets[exemplar][None]),
            torch.from_numpy(video.backgrounds[background][None]),
            [f"{video.source_id}/{target}-{exemplar}"],
        )


def together(batches: Sequence[TargetBatch]) -> TargetBatch:
    """Return batches as one."""
    targets, exemplars, backgrounds = (
        torch.cat([batch[i] for batch in batches])  # type: ignore[misc]
        for i in range(3)
    )
    return TargetBatch(targets, exemplars, backgrounds, [n for b in batches for n in b.source_id])


class TargetDataModule(pl.LightningDataModule):
    """Serves batches of targets; batches depend on their number and the seed alone.

    Args:
        sources: Videos by name.
        frames: Frames of each video.
        size: Side of a picture, px.
        batches_per_epoch: Batches of an epoch.
        batch_size: Targets of a batch.
        seed: Seed of all draws.
    """

    def __init__(
        self,
        sources: Mapping[str, DomainSource],
        frames: int = 8,
        size: int = 64,
        batches_per_epoch: int = 50,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sources = sources
        self.frames, self.size, self.seed = frames, size, seed
        self.batches_per_epoch, self.batch_size = batches_per_epoch, batch_size
        self.targets: TargetDataset | None = None

    def setup(self, stage: str) -> None:
        """Draw or read the pictures."""
        if self.targets is None:
            self.targets = TargetDataset(self.sources, self.frames, self.size, self.seed)

    def train_dataloader(self) -> DataLoader[TargetBatch]:
        """Return the batches; the loader's state is kept in checkpoints."""
        assert self.targets is not None, "targets: setup comes before the loader"
        samples = self.batches_per_epoch * self.batch_size
        return SampleLoader(self.targets, EpochSampler(samples), self.batch_size, together)
