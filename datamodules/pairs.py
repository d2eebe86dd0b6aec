"""Pairs of an exemplar and a search region, drawn from any mix of sources.

Source: Bertinetto et al., Fully-Convolutional Siamese Networks, ECCVW 2016, Section 2.2 (pairs of one
video); Zhu et al., Distractor-aware Siamese Networks, ECCV 2018, Section 3.2 (negative pairs).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.augment import CropAugmentation, Photometric
from datamodules.frames import share_picture
from datamodules.loading import EpochSampler, Redraws, SampleLoader, worker_options
from lightning_trackers.batches import PairBatch
from lightning_trackers.crops import Stretch, View, Window, search_window


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


@runtime_checkable
class WholeView(View, Protocol):
    """A view that can show its whole frame."""

    def frame(self) -> np.ndarray:
        """Return the whole frame, uint8 RGB ``(H, W, 3)``."""
        ...


@runtime_checkable
class NumberedSource(Protocol):
    """A source whose pairs depend on their number too, such as shards that are used in turn."""

    name: str

    def at(self, number: int) -> PairSource:
        """Return the source of pair ``number``."""
        ...


@dataclass(frozen=True)
class WeightedSource:
    """A source's share of the pairs.

    Args:
        source: Where the pairs come from.
        weight: Share relative to the other sources.
        max_gap: Largest distance of the two frames.
        quota: Most pairs of an epoch that come from here, over all ranks; the others are dealt out by
            weight. None sets no limit.

    Raises:
        ValueError: If the quota is negative.
    """

    source: PairSource | NumberedSource
    weight: float = 1.0
    max_gap: int = 100
    quota: int | None = None

    def __post_init__(self) -> None:
        """Check the quota."""
        if self.quota is not None and self.quota < 0:
            raise ValueError(f"source: expected a quota of 0 or more pairs, got {self.quota}")


@dataclass(frozen=True)
class PairGeometry:
    """Sizes of the crops; see ``crops.py``.

    Args:
        exemplar_size: Side of the exemplar crop, px.
        search_size: Side of the search crop, px.
        context_amount: Margin around the target, relative to width plus height.
        whole_frames: Show whole frames instead, stretched to squares of these sizes. Shift and scale
            of an augmentation, which move windows, have no part in it.
    """

    exemplar_size: int = 127
    search_size: int = 255
    context_amount: float = 0.5
    whole_frames: bool = False


class PairSample(NamedTuple):
    """One element of a :class:`PairBatch`, as numpy arrays."""

    exemplar: np.ndarray
    search: np.ndarray
    search_box_xyxy: np.ndarray
    is_positive: bool
    source_id: str
    exemplar_box_xyxy: np.ndarray


class PairDataset(Dataset[PairSample]):
    """Pairs by number: number n of a seed is always the same pair, in any worker and any order.

    Args:
        sources: Sources by name.
        geometry: Sizes of the crops.
        exemplar: Augmentation of the exemplar crop.
        search: Augmentation of the search crop.
        negative_share: Share of pairs whose targets differ.
        seed: Seed of all draws.
        epoch_length: Pairs in an epoch, within which a source's quota counts.

    Raises:
        ValueError: If there is no source of positive weight, the share is out of range, or the
            quotas leave pairs without a source.
    """

    def __init__(
        self,
        sources: Mapping[str, WeightedSource],
        geometry: PairGeometry,
        exemplar: CropAugmentation,
        search: CropAugmentation,
        negative_share: float,
        seed: int,
        epoch_length: int,
    ) -> None:
        weights = np.array([s.weight for s in sources.values()], dtype=float)
        if not len(weights) or (weights < 0).any() or weights.sum() <= 0:
            given = {name: s.weight for name, s in sources.items()}
            raise ValueError(f"pairs: expected sources with weights >= 0, not all 0, got {given}")
        if not 0 <= negative_share <= 1:
            raise ValueError(f"pairs: expected negative_share in [0, 1], got {negative_share}")
        self.sources = list(sources.values())
        # Asked here, because asking a protocol at each pair costs more than drawing the source does.
        self.numbered = [isinstance(s.source, NumberedSource) for s in self.sources]
        self.shares = tuple(float(share) for share in weights / weights.sum())
        cumulative = np.cumsum(self.shares)
        self.cumulative = cumulative / cumulative[-1]
        self.quotas = tuple(s.quota for s in sources.values())
        served = [q for s, q in zip(self.shares, self.quotas, strict=True) if s > 0]
        if None not in served and sum(q or 0 for q in served) < epoch_length:
            raise ValueError(
                f"pairs: expected quotas of {epoch_length} pairs or more in sum, or a source without "
                f"one, got {dict(zip(sources, self.quotas, strict=True))}"
            )
        self.geometry = geometry
        self.exemplar = exemplar
        self.search = search
        self.vary_exemplar = Photometric(exemplar)
        self.vary_search = Photometric(search)
        self.negative_share = negative_share
        self.seed = seed
        self.epoch_length = epoch_length
        self.redraws = [Redraws(name) for name in sources]

    def __getitem__(self, index: int) -> PairSample:
        """Return pair number ``index``; any number from 0 on is one.

        A pair with a frame that cannot be read is replaced by another one of the same source.

        Raises:
            DatasetError: If a source has many such frames.
            ValueError: If a box is not finite or has no area.
        """
        rng = np.random.default_rng([self.seed, index])
        number = self._source_number(index, rng)
        positive = bool(rng.random() >= self.negative_share)
        chosen = self.sources[number]
        if self.numbered[number]:
            source = cast(NumberedSource, chosen.source).at(index)
        else:
            source = cast(PairSource, chosen.source)
        draw = partial(self._drawn, source, chosen.max_gap, positive=positive, rng=rng)
        return self.redraws[number].draw(draw)

    def _source_number(self, index: int, rng: np.random.Generator) -> int:
        if all(quota is None for quota in self.quotas):
            # What rng.choice(p=shares) draws, which checks its arguments for longer than it draws.
            return int(np.searchsorted(self.cumulative, rng.random(), side="right"))
        epoch, place = divmod(index, self.epoch_length)
        return int(_dealt(self.shares, self.quotas, self.epoch_length, self.seed, epoch)[place])

    def _drawn(
        self, source: PairSource, max_gap: int, *, positive: bool, rng: np.random.Generator
    ) -> PairSample:
        exemplar_view, search_view, source_id = source.draw(rng, max_gap=max_gap, positive=positive)
        for view in (exemplar_view, search_view):
            _check_box(view.box_xyxy, source_id)
        share_picture(exemplar_view, search_view)
        exemplar_crop, exemplar_box = self._shown(
            exemplar_view, self.geometry.exemplar_size, self.exemplar, rng, source_id
        )
        search_crop, search_box = self._shown(
            search_view, self.geometry.search_size, self.search, rng, source_id
        )
        return PairSample(
            self.vary_exemplar(exemplar_crop(), rng),
            self.vary_search(search_crop(), rng),
            search_box.astype(np.float32),
            positive,
            source_id,
            exemplar_box.astype(np.float32),
        )

    def _shown(
        self,
        view: View,
        size: int,
        amount: CropAugmentation,
        rng: np.random.Generator,
        source_id: str,
    ) -> tuple[Callable[[], np.ndarray], np.ndarray]:
        """Return what makes a view's crop, and its box in it."""
        g = self.geometry
        box = np.asarray(view.box_xyxy, dtype=np.float64)
        if g.whole_frames:
            if not isinstance(view, WholeView):
                raise ValueError(
                    f"{source_id}: a {type(view).__name__} has no whole frame; set "
                    "geometry.whole_frames to false, or train from files or drawn video"
                )
            frame = view.frame()
            stretch = Stretch((frame.shape[1], frame.shape[0]), size)
            return partial(stretch.shown, frame), stretch.to_crop(box)
        window = search_window(view.box_xyxy, size, g.exemplar_size, g.context_amount)
        window = jittered(window, amount, rng)
        return partial(view.crop, window), window.to_crop(box)


@lru_cache(maxsize=2)
def _dealt(
    shares: tuple[float, ...], quotas: tuple[int | None, ...], length: int, seed: int, epoch: int
) -> np.ndarray:
    """Return the source of each pair of an epoch, shape ``(length,)``.

    What a source was dealt above its quota, at random places, is dealt again to those without.
    """
    rng = np.random.default_rng([seed, epoch, length])
    weights = np.array(shares)
    numbers = np.arange(len(weights))
    dealt = rng.choice(numbers, size=length, p=weights)
    for _ in quotas:
        surplus = [
            rng.permutation(np.flatnonzero(dealt == i))[quota:]
            for i, quota in enumerate(quotas)
            if quota is not None and weights[i] > 0
        ]
        again = np.concatenate([np.empty(0, np.int64), *surplus])
        if not len(again):
            break
        for i, quota in enumerate(quotas):
            if quota is not None and np.count_nonzero(dealt == i) >= quota:
                weights[i] = 0.0
        dealt[again] = rng.choice(numbers, size=len(again), p=weights / weights.sum())
    return dealt.astype(np.uint8 if len(weights) <= 256 else np.int64)


def _check_box(box_xyxy: np.ndarray, source_id: str) -> None:
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    if not (np.isfinite([x1, y1, x2, y2]).all() and x1 < x2 and y1 < y2):
        raise ValueError(
            f"{source_id}: expected a finite box with x1 < x2 and y1 < y2, got "
            f"{[x1, y1, x2, y2]}; prepare the source's index again"
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
        torch.from_numpy(np.stack([s.exemplar_box_xyxy for s in samples])),
    )


class PairDataModule(pl.LightningDataModule):
    """Serves training pairs drawn anew every epoch and validation pairs that never change.

    A pair depends on its number and the seed alone: it is the same for any number of workers, ranks of
    one run get different pairs, and a run that is resumed in the middle of an epoch goes on with the
    next pair.

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
        multiprocessing_context: How workers are started: ``fork``, ``spawn`` or ``forkserver``; the
            system's way by default.

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
        multiprocessing_context: str | None = None,
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
        self.multiprocessing_context = multiprocessing_context
        self.train_pairs = PairDataset(
            train_sources, geometry, exemplar, search, negative_share, seed, pairs_per_epoch
        )
        # Validation looks at pairs as training does, but without negative ones and from its own seed.
        self.val_dataset = PairDataset(
            val_sources, geometry, exemplar, search, 0.0, seed + 1, val_pairs
        )

    def train_dataloader(self) -> DataLoader[PairSample]:
        """Return the training pairs of this rank; the loader's state is kept in checkpoints."""
        return SampleLoader(
            self.train_pairs,
            EpochSampler(self.pairs_per_epoch, *self._rank()),
            self.batch_size,
            collate,
            self.num_workers,
            self.multiprocessing_context,
        )

    def val_dataloader(self) -> DataLoader[PairSample]:
        """Return the validation pairs of this rank."""
        rank, world_size = self._rank()
        return DataLoader(
            self.val_dataset,
            batch_size=self.batch_size,
            sampler=range(rank, self.val_pairs, world_size),
            collate_fn=collate,
            **worker_options(self.num_workers, self.multiprocessing_context),
        )

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size
