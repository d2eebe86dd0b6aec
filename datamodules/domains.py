"""Multi-domain batches: each shows one video, whose target only that video's branch has to find.

Source: Nam & Han, Learning Multi-Domain Convolutional Neural Networks for Visual Tracking, CVPR 2016,
Section 3.2; numbers of py-MDNet's pretraining (``pretrain/options.yaml``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import NamedTuple, Never, Protocol

import albumentations as alb
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.errors import DatasetError
from datamodules.frames import FileView, FrameError
from datamodules.loading import EpochSampler, Redraws, SampleLoader, worker_options
from datamodules.procedural import Bank, ProceduralSource, Style
from datamodules.procedural.scene import Scene
from datamodules.sources.tracks import TrackSource
from lightning_trackers.batches import DomainBatch, SceneBatch
from lightning_trackers.box_sampling import (
    MIN_SIDE,
    boxes_by_overlap,
    gaussian_boxes,
    uniform_boxes,
)
from lightning_trackers.crops import crop_box
from lightning_trackers.scenes import padded, scene_of

PAD_VALUE = 128.0  # outside the frame; the networks subtract it
_LENGTH = 120  # frames of a procedural video


class Picture(Protocol):
    """A frame that is decoded or drawn when asked for."""

    def decoded(self, step: float = 1.0) -> tuple[int, np.ndarray]:
        """Return how much the frame is reduced, at most ``step`` times, and it, uint8 RGB."""
        ...


class Shot(NamedTuple):
    """A target in a frame.

    Args:
        picture: The frame.
        frame_wh: Its size, px.
        box_xyxy: The target, shape ``(4,)``, px.
    """

    picture: Picture
    frame_wh: tuple[int, int]
    box_xyxy: np.ndarray


class DomainSource(Protocol):
    """Videos, each of which is a domain."""

    name: str

    def __len__(self) -> int:
        """Return the number of videos."""
        ...

    def draw(self, domain: int, rng: np.random.Generator, count: int) -> tuple[list[Shot], str]:
        """Draw frames of a video that show its target, and say where they come from."""
        ...


class TrackDomains:
    """The videos of an annotation index; of a video with several targets, the first one.

    Frames in which the box is wider and higher than half of the frame are left out, as in py-MDNet:
    next to such a target there is no room for negative samples.

    Args:
        source: The tracks.
        most: Number of videos, evenly spread over the index; all by default.

    Raises:
        DatasetError: If no video has a frame to draw from.
    """

    def __init__(self, source: TrackSource, most: int | None = None) -> None:
        self.name = source.name
        self.source = source
        _, first = np.unique(source.index.video_ids, return_index=True)
        rows = [i for i in np.sort(first) if len(_roomy(source, int(i)))]
        if not rows:
            raise DatasetError(
                f"source {self.name}: expected targets smaller than half their frame, got none in "
                f"{len(first)} videos"
            )
        if most is not None and most < len(rows):
            rows = [rows[i] for i in np.linspace(0, len(rows) - 1, most).round().astype(int)]
        self.tracks = np.array(rows, dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.tracks)

    def draw(self, domain: int, rng: np.random.Generator, count: int) -> tuple[list[Shot], str]:
        """Draw frames of a video; none comes twice as long as there are enough."""
        i = int(self.tracks[domain])
        track, roomy = self.source.index.track(i), _roomy(self.source, i)
        shots, frames = [], []
        for row in np.resize(rng.permutation(roomy), count):
            frame = int(track.frames[row])
            view = FileView(self.source.frame_path(track.video, frame), track.boxes_xyxy[row])
            width, height = (int(side) for side in track.image_wh[row])
            shots.append(Shot(view.picture, (width, height), view.box_xyxy))
            frames.append(f"f{frame}")
        return shots, f"{self.name}/{track.video}/{track.track}/{','.join(frames)}"


def _roomy(source: TrackSource, i: int) -> np.ndarray:
    """Return the rows of a track that show a target next to which there is room."""
    track = source.index.track(i)
    wh = track.boxes_xyxy[:, 2:] - track.boxes_xyxy[:, :2]
    return np.flatnonzero(track.visible & (wh <= track.image_wh / 2).any(axis=1))


class ProceduralDomains:
    """Videos drawn by code.

    Args:
        source: What they look like.
        videos: Number of videos.
    """

    def __init__(self, source: ProceduralSource, videos: int = 64) -> None:
        self.name = source.name
        self.source = source
        self.videos = videos

    def __len__(self) -> int:
        """Return the number of videos."""
        return self.videos

    def draw(self, domain: int, rng: np.random.Generator, count: int) -> tuple[list[Shot], str]:
        """Draw frames of a video, those in which half of the target is visible if there are."""
        s = self.source
        scene, visibility = _scene(s.bank, domain, s.style, s.turn)
        times = rng.permutation(_LENGTH)
        chosen = times[np.argsort(visibility[times] <= 0.5, kind="stable")][:count]
        shots = [
            Shot(_DrawnPicture(scene, int(t)), scene.frame_wh, scene.box_xyxy(int(t)))
            for t in np.resize(chosen, count)
        ]
        frames = ",".join(f"f{t}" for t in chosen)
        return shots, f"{self.name}/{s.bank.split}/t{s.turn}/{domain}/{frames}"


@lru_cache(maxsize=64)  # to make one takes as long as to draw eight frames
def _scene(bank: Bank, number: int, style: Style, turn: int) -> tuple[Scene, np.ndarray]:
    """Return a scene, and how much of its target is visible in each frame, ``(_LENGTH,)``."""
    scene = Scene(bank, number, _LENGTH, style, turn)
    return scene, np.array([scene.visibility(t) for t in range(_LENGTH)])


@dataclass(frozen=True)
class _DrawnPicture:
    scene: Scene
    t: int

    def decoded(self, step: float = 1.0) -> tuple[int, np.ndarray]:
        """Draw the whole frame; it is never reduced."""
        return 1, self.scene.frame(self.t)


@dataclass(frozen=True)
class DomainSampling:
    """How samples are drawn; the defaults are py-MDNet's for training on VID.

    Args:
        frames: Frames of a batch.
        positives: Positive samples of a batch, dealt to its frames.
        negatives: Negative samples of a batch, dealt to its frames.
        positive_overlap: Least overlap (IoU) of a positive sample with the target.
        negative_overlap: Largest overlap of a negative one.
        positive_translation: See :func:`~lightning_trackers.box_sampling.gaussian_boxes`.
        positive_scale: As before.
        negative_translation: See :func:`~lightning_trackers.box_sampling.uniform_boxes`.
        negative_scale: As before.
        size: Side of a crop, px; in a scene, side of the target, scene px.
        padding: Margin around the sample in its crop, crop px.
        scene_padding: Size of what is looked at for a sample in a scene, relative to the sample.
        scene_jitter: Scenes are larger or smaller by this to the power of a normally distributed
            number of standard deviation 3, cut off at -2 and 2; 1 leaves them as they are.

    Raises:
        ValueError: If the samples do not divide among the frames, an overlap is not in [0, 1],
            nothing is left of a crop, or samples would look smaller than they are.
    """

    frames: int = 8
    positives: int = 32
    negatives: int = 96
    positive_overlap: float = 0.7
    negative_overlap: float = 0.5
    positive_translation: float = 0.1
    positive_scale: float = 1.3
    negative_translation: float = 2.0
    negative_scale: float = 1.6
    size: int = 107
    padding: int = 16
    scene_padding: float = 1.2
    scene_jitter: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        dealt = self.frames > 0 < min(self.positives, self.negatives)
        if not dealt or self.positives % self.frames or self.negatives % self.frames:
            raise ValueError(
                f"domains: expected positives and negatives that are multiples of frames, got {self}"
            )
        if not (0 <= self.positive_overlap <= 1 and 0 <= self.negative_overlap <= 1):
            raise ValueError(f"domains: expected overlaps in [0, 1], got {self}")
        if not 0 <= 2 * self.padding < self.size:
            raise ValueError(f"domains: expected a padding below half of the size, got {self}")
        if not (self.scene_padding >= 1 and self.scene_jitter >= 1):
            raise ValueError(f"domains: expected scene_padding >= 1 <= scene_jitter, got {self}")


class DomainDataset(Dataset[DomainBatch | SceneBatch]):
    """Batches by number: number n of a seed is always the same batch.

    Each cycle over the domains is in an order of its own, and every domain comes once.

    Args:
        sources: Sources by name; their domains are numbered through.
        sampling: How samples are drawn.
        crops: Whether to serve crops, or scenes and boxes.
        transforms: Albumentations transforms of each crop, e.g. flip, rotation and blur.
        seed: Seed of all draws.

    Raises:
        ValueError: If there is no domain, or scenes are to be transformed.
    """

    def __init__(
        self,
        sources: Mapping[str, DomainSource],
        sampling: DomainSampling,
        crops: bool = True,
        transforms: Sequence[alb.BasicTransform] = (),
        seed: int = 0,
    ) -> None:
        self.sources = list(sources.values())
        self.ends = np.cumsum([len(s) for s in self.sources])
        if not self.sources or not self.ends[-1]:
            raise ValueError("domains: expected at least one video")
        if transforms and not crops:
            raise ValueError("domains: transforms are applied to crops, got crops=False")
        self.sampling = sampling
        self.crops = crops
        self.transforms = alb.Compose(list(transforms)) if transforms else None
        self.seed = seed
        self.redraws = [Redraws(name) for name in sources]

    @property
    def domains(self) -> int:
        """Number of domains of all sources."""
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> DomainBatch | SceneBatch:
        """Return batch number ``index``; any number from 0 on is one.

        Raises:
            DatasetError: If a source has many frames that cannot be read.
        """
        cycle, place = divmod(index, self.domains)
        domain = int(_order(self.seed, cycle, self.domains)[place])
        number = int(np.searchsorted(self.ends, domain, side="right"))
        rng = np.random.default_rng([self.seed, index])
        return self.redraws[number].draw(partial(self._drawn, number, domain, rng))

    def _drawn(
        self, number: int, domain: int, rng: np.random.Generator
    ) -> DomainBatch | SceneBatch:
        source, s = self.sources[number], self.sampling
        local = domain - int(self.ends[number]) + len(source)
        shots, source_id = source.draw(local, rng, s.frames)
        boxes = [self._boxes(shot, rng, source_id) for shot in shots]
        which = torch.tensor(domain)
        if not self.crops:
            scenes = [
                self._scene(shot, p, n, rng) for shot, (p, n) in zip(shots, boxes, strict=True)
            ]
            pictures, positives, negatives = zip(*scenes, strict=True)
            return SceneBatch(
                tuple(torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures),
                torch.from_numpy(np.stack(positives)).float(),
                torch.from_numpy(np.stack(negatives)).float(),
                which,
                source_id,
            )
        if self.transforms is not None:
            self.transforms.set_random_seed(int(rng.integers(2**31)))
        crops = [self._crops(shot, p, n) for shot, (p, n) in zip(shots, boxes, strict=True)]
        positives, negatives = (
            torch.from_numpy(np.concatenate(c)).permute(0, 3, 1, 2)
            for c in zip(*crops, strict=True)
        )
        return DomainBatch(positives, negatives, which, source_id)

    def _boxes(
        self, shot: Shot, rng: np.random.Generator, source_id: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the positive and the negative boxes of a frame."""
        s = self.sampling
        box = np.asarray(shot.box_xyxy, dtype=np.float64)
        if not (np.isfinite(box).all() and (box[:2] < box[2:]).all()):
            raise ValueError(f"{source_id}: expected a finite box with an area, got {box.tolist()}")
        near = partial(
            gaussian_boxes, rng, box, translation=s.positive_translation, scale=s.positive_scale
        )
        beside = partial(
            uniform_boxes, rng, box, translation=s.negative_translation, scale=s.negative_scale
        )
        positives = boxes_by_overlap(
            partial(near, frame_wh=shot.frame_wh),
            box,
            s.positives // s.frames,
            low=s.positive_overlap,
        )
        negatives = boxes_by_overlap(
            partial(beside, frame_wh=shot.frame_wh),
            box,
            s.negatives // s.frames,
            high=s.negative_overlap,
        )
        if not len(positives):  # a target that the limits of size and centre do not allow
            positives = box[None]
        if not len(negatives):
            raise FrameError(f"{source_id}: no room for negative samples beside {box.tolist()}")
        return (
            np.resize(positives, (s.positives // s.frames, 4)),
            np.resize(negatives, (s.negatives // s.frames, 4)),
        )

    def _crops(
        self, shot: Shot, positives: np.ndarray, negatives: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        s = self.sampling
        boxes = np.concatenate([positives, negatives])
        finest = float((boxes[:, 2:] - boxes[:, :2]).min()) / (s.size - 2 * s.padding)
        reduction, frame = shot.picture.decoded(finest)
        fill = np.full(3, PAD_VALUE)
        crops = [crop_box(frame, box / reduction, s.size, s.padding, fill) for box in boxes]
        if self.transforms is not None:
            crops = [self.transforms(image=crop)["image"] for crop in crops]
        stacked = np.stack(crops)
        return stacked[: len(positives)], stacked[len(positives) :]

    def _scene(
        self, shot: Shot, positives: np.ndarray, negatives: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the part of the frame that shows all samples, and these in it, scene px."""
        s = self.sampling
        size = s.size * s.scene_jitter ** float(np.clip(3 * rng.standard_normal(), -2, 2))
        looked_at = padded(np.concatenate([positives, negatives]), s.scene_padding)
        region = np.concatenate([looked_at[:, :2].min(0), looked_at[:, 2:].max(0)])
        box = np.asarray(shot.box_xyxy, dtype=np.float64)
        scene = scene_of(region, np.maximum(box[2:] - box[:2], MIN_SIDE), size, s.size)
        reduction, frame = shot.picture.decoded(float(scene.steps.min()))
        reduced = replace(scene, corner=scene.corner / reduction, steps=scene.steps / reduction)
        picture = reduced.shown(frame, np.full(3, PAD_VALUE))
        return picture, scene.to_scene(positives), scene.to_scene(negatives)


@lru_cache(maxsize=2)
def _order(seed: int, cycle: int, domains: int) -> np.ndarray:
    return np.random.default_rng([seed, cycle, domains]).permutation(domains)


class DomainDataModule(pl.LightningDataModule):
    """Serves multi-domain batches, one domain in each.

    Like pairs, batches depend on their number and the seed alone, and a run that is resumed goes on
    with the next one (see ``loading.py``).

    Args:
        sources: Sources by name.
        sampling: How samples are drawn; py-MDNet's by default.
        crops: Whether to serve crops (:class:`DomainBatch`), or scenes and boxes
            (:class:`SceneBatch`).
        transforms: Albumentations transforms of each crop.
        val_sources: Videos that are not trained on, by name; without any there is no validation.
        batches_per_epoch: Batches per epoch over all devices; one cycle over the domains by default.
        val_batches: Batches of a validation, always the same ones; one of each domain by default.
        batch_size: Domains of a batch, for which learning rates are given: 1, each has its own branch.
        num_workers: Processes that draw batches, per device.
        seed: Seed of all draws.
        multiprocessing_context: How workers are started; the system's way by default.

    Raises:
        ValueError: If a batch is to show several domains.
    """

    def __init__(
        self,
        sources: Mapping[str, DomainSource],
        sampling: DomainSampling | None = None,
        crops: bool = True,
        transforms: Sequence[alb.BasicTransform] = (),
        val_sources: Mapping[str, DomainSource] | None = None,
        batches_per_epoch: int | None = None,
        val_batches: int | None = None,
        batch_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        multiprocessing_context: str | None = None,
    ) -> None:
        super().__init__()
        if batch_size != 1:
            raise ValueError(
                f"domains: expected batch_size 1, got {batch_size}; trainer.accumulate_grad_batches "
                "joins the gradients of several domains"
            )
        self.batch_size = batch_size
        sampling = sampling or DomainSampling()
        self.batches = DomainDataset(sources, sampling, crops, transforms, seed)
        # Scenes are not enlarged or reduced, as crops are not transformed.
        plain = replace(sampling, scene_jitter=1.0)
        self.held_out = (
            DomainDataset(val_sources, plain, crops, (), seed + 1) if val_sources else None
        )
        self.val_batches = val_batches or (self.held_out.domains if self.held_out else 0)
        self.batches_per_epoch = batches_per_epoch or self.batches.domains
        self.num_workers = num_workers
        self.multiprocessing_context = multiprocessing_context

    @property
    def domains(self) -> int:
        """Number of domains, which is the number of branches."""
        return self.batches.domains

    def train_dataloader(self) -> DataLoader[DomainBatch | SceneBatch]:
        """Return the batches of this rank; the loader's state is kept in checkpoints."""
        return SampleLoader(
            self.batches,
            EpochSampler(self.batches_per_epoch, *self._rank()),
            self.batch_size,
            _only,
            self.num_workers,
            self.multiprocessing_context,
        )

    def val_dataloader(self) -> DataLoader[DomainBatch | SceneBatch] | list[Never]:
        """Return this rank's batches of videos that are not trained on."""
        if self.held_out is None:
            return []
        rank, world_size = self._rank()
        return DataLoader(
            self.held_out,
            batch_size=self.batch_size,
            sampler=range(rank, self.val_batches, world_size),
            collate_fn=_only,
            **worker_options(self.num_workers, self.multiprocessing_context),
        )

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


def _only(batches: list[DomainBatch | SceneBatch]) -> DomainBatch | SceneBatch:
    return batches[0]
