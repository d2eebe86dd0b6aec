"""Pairs of an exemplar and a search region, drawn from any mix of sources.

Source: Bertinetto et al., Fully-Convolutional Siamese Networks, ECCVW 2016, Section 2.2 (pairs of one
video); Zhu et al., Distractor-aware Siamese Networks, ECCV 2018, Section 3.2 (negative pairs).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.augment import CropAugmentation, Photometric
from lightning_trackers.batches import PairBatch
from lightning_trackers.crops import View, Window, search_window


class PairSource(Protocol):
    """Something that shows a target at two times."""

    name: str

    def draw(
        self, rng: np.random.Generator, *, max_gap: int, positive: bool
    ) -> tuple[View, View, str]:
        """Draw a pair; the result depends on ``rng`` and the source alone.

        Args:
            rng: Generator of this pair.
            max_gap: Largest distance of the two frames.
            positive: Whether both views show the same target. In a negative pair the exemplar's
                target does not occur in the search view.

        Returns:
            Exemplar view, search view, and where they come from.
        """
        ...


@dataclass(frozen=True)
class WeightedSource:
    """A source's share of the pairs.

    Args:
        source: Where the pairs come from.
        weight: Share relative to the other sources.
        max_gap: Largest distance of the two frames.
    """

    source: PairSource
    weight: float = 1.0
    max_gap: int = 100


@dataclass(frozen=True)
class PairGeometry:
    """Sizes of the crops; see ``crops.py``.

    Args:
        exemplar_size: Side of the exemplar crop, px.
        search_size: Side of the search crop, px.
        context_amount: Margin around the target, relative to width plus height.
    """

    exemplar_size: int = 127
    search_size: int = 255
    context_amount: float = 0.5


class PairSample(NamedTuple):
    """One element of a :class:`PairBatch`, as numpy arrays."""

    exemplar: np.ndarray
    search: np.ndarray
    search_box_xyxy: np.ndarray
    is_positive: bool
    source_id: str


class PairDataset(Dataset[PairSample]):
    """Pairs by number: number n of a seed is always the same pair, in any worker and any order.

    Args:
        sources: Sources by name.
        geometry: Sizes of the crops.
        exemplar: Augmentation of the exemplar crop.
        search: Augmentation of the search crop.
        negative_share: Share of pairs whose targets differ.
        seed: Seed of all draws.

    Raises:
        ValueError: If there is no source of positive weight, or the share is out of range.
    """

    def __init__(
        self,
        sources: Mapping[str, WeightedSource],
        geometry: PairGeometry,
        exemplar: CropAugmentation,
        search: CropAugmentation,
        negative_share: float,
        seed: int,
    ) -> None:
        weights = np.array([s.weight for s in sources.values()], dtype=float)
        if not len(weights) or (weights < 0).any() or weights.sum() <= 0:
            given = {name: s.weight for name, s in sources.items()}
            raise ValueError(f"pairs: expected sources with weights >= 0, not all 0, got {given}")
        if not 0 <= negative_share <= 1:
            raise ValueError(f"pairs: expected negative_share in [0, 1], got {negative_share}")
        self.sources = list(sources.values())
        self.shares = weights / weights.sum()
        self.geometry = geometry
        self.exemplar = exemplar
        self.search = search
        self.photometric = Photometric(exemplar, search)
        self.negative_share = negative_share
        self.seed = seed

    def __getitem__(self, index: int) -> PairSample:
        """Return pair number ``index``; any number from 0 on is one."""
        rng = np.random.default_rng([self.seed, index])
        chosen = self.sources[int(rng.choice(len(self.sources), p=self.shares))]
        positive = bool(rng.random() >= self.negative_share)
        exemplar_view, search_view, source_id = chosen.source.draw(
            rng, max_gap=chosen.max_gap, positive=positive
        )
        g = self.geometry
        exemplar_window = search_window(
            exemplar_view.box_xyxy, g.exemplar_size, g.exemplar_size, g.context_amount
        )
        exemplar_window = jittered(exemplar_window, self.exemplar, rng)
        search = search_window(
            search_view.box_xyxy, g.search_size, g.exemplar_size, g.context_amount
        )
        search = jittered(search, self.search, rng)
        box = search.to_crop(np.asarray(search_view.box_xyxy, dtype=np.float64))
        return PairSample(
            self.photometric(exemplar_view.crop(exemplar_window), "exemplar", rng),
            self.photometric(search_view.crop(search), "search", rng),
            box.astype(np.float32),
            positive,
            source_id,
        )


def jittered(window: Window, amount: CropAugmentation, rng: np.random.Generator) -> Window:
    """Return the window moved and zoomed at random by up to ``amount``."""
    zoom = 1 + amount.scale * rng.uniform(-1, 1)
    dx, dy = amount.shift * rng.uniform(-1, 1, size=2) / window.scale
    return window.moved(float(dx), float(dy), float(zoom))


def collate(samples: list[PairSample]) -> PairBatch:
    """Stack samples into a batch; images keep the crops' channels-last memory."""
    return PairBatch(
        torch.from_numpy(np.stack([s.exemplar for s in samples])).permute(0, 3, 1, 2),
        torch.from_numpy(np.stack([s.search for s in samples])).permute(0, 3, 1, 2),
        torch.from_numpy(np.stack([s.search_box_xyxy for s in samples])),
        torch.tensor([s.is_positive for s in samples]),
        [s.source_id for s in samples],
    )


class EpochSampler(Sampler[int]):
    """Numbers the pairs of an epoch: epoch e takes e * n to (e + 1) * n - 1, dealt out to the ranks.

    Pairs are independent draws, so there is nothing to shuffle, and an epoch's pairs depend neither on
    earlier epochs nor on the number of workers.

    Args:
        length: Pairs per epoch over all ranks.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the pairs of this rank in an epoch, the same for every rank."""
        return self.length // self.world_size

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's pair numbers."""
        first = self.epoch * self.length + self.rank
        return iter(range(first, first + len(self) * self.world_size, self.world_size))


class PairDataModule(pl.LightningDataModule):
    """Serves training pairs drawn anew every epoch and validation pairs that never change.

    Args:
        train_sources: Training sources by name.
        val_sources: Validation sources by name; they must not share targets with training.
        geometry: Sizes of the crops.
        exemplar: Augmentation of the exemplar crop.
        search: Augmentation of the search crop.
        negative_share: Share of training pairs whose targets differ.
        pairs_per_epoch: Training pairs per epoch over all devices, whatever the sources hold.
        val_pairs: Validation pairs.
        batch_size: Pairs per batch and device.
        num_workers: Processes that draw pairs, per device.
        seed: Seed of all draws.

    Raises:
        ValueError: If an epoch is shorter than a batch, or there are no validation pairs.
    """

    def __init__(
        self,
        train_sources: Mapping[str, WeightedSource],
        val_sources: Mapping[str, WeightedSource],
        geometry: PairGeometry,
        exemplar: CropAugmentation,
        search: CropAugmentation,
        negative_share: float = 0.0,
        pairs_per_epoch: int = 10_000,
        val_pairs: int = 256,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if pairs_per_epoch < batch_size:
            raise ValueError(
                f"pairs: expected pairs_per_epoch >= batch_size, got {pairs_per_epoch} and "
                f"{batch_size}"
            )
        if val_pairs < 1:
            raise ValueError(f"pairs: expected val_pairs >= 1, got {val_pairs}")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.pairs_per_epoch = pairs_per_epoch
        self.val_pairs = val_pairs
        self.train_pairs = PairDataset(
            train_sources, geometry, exemplar, search, negative_share, seed
        )
        # Validation looks at pairs as training does, but without negative ones and from its own seed.
        self.val_dataset = PairDataset(val_sources, geometry, exemplar, search, 0.0, seed + 1)

    def train_dataloader(self) -> DataLoader[PairSample]:
        """Return the training pairs of this rank."""
        sampler = EpochSampler(self.pairs_per_epoch, *self._rank())
        return self._loader(self.train_pairs, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[PairSample]:
        """Return the validation pairs of this rank."""
        rank, world_size = self._rank()
        return self._loader(
            self.val_dataset, range(rank, self.val_pairs, world_size), drop_last=False
        )

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _loader(
        self, dataset: PairDataset, sampler: Iterable[int], *, drop_last: bool
    ) -> DataLoader[PairSample]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            drop_last=drop_last,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_single_threaded,
        )


def _single_threaded(_: int) -> None:
    """Keep OpenCV from starting a thread per core in every worker."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
