from dataclasses import dataclass
from itertools import chain

import numpy as np
import pytest
import torch

from datamodules.augment import CropAugmentation
from datamodules.loading import EpochSampler
from datamodules.pairs import (
    PairDataModule,
    PairDataset,
    PairGeometry,
    WeightedSource,
    collate,
    jittered,
)
from lightning_trackers.crops import Window, crop

BOX = np.array([60.0, 50, 100, 90])
PLAIN = CropAugmentation()


@dataclass
class StillView:
    frame: np.ndarray
    box_xyxy: np.ndarray

    def crop(self, window):
        return crop(self.frame, window)


class SquareSource:
    """A white square on grey; the gap it was asked for is in the id."""

    def __init__(self, name):
        self.name = name

    def draw(self, rng, *, max_gap, positive):
        frame = np.full((160, 200, 3), 90, dtype=np.uint8)
        dx, dy = rng.integers(-20, 21, size=2)
        box = BOX + np.array([dx, dy, dx, dy])
        frame[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 255
        view = StillView(frame, box)
        return view, view, f"{self.name}/{max_gap}/{positive}/{dx},{dy}"


def dataset(
    sources=None, exemplar=PLAIN, search=PLAIN, negative_share=0.0, seed=0, epoch_length=24
):
    chosen = sources or {"a": WeightedSource(SquareSource("a"))}
    return PairDataset(chosen, PairGeometry(), exemplar, search, negative_share, seed, epoch_length)


def module(**options):
    sources = {"a": WeightedSource(SquareSource("a"))}
    settings = {"pairs_per_epoch": 24, "batch_size": 8, "val_pairs": 6} | options
    return PairDataModule(
        sources, sources, PairGeometry(), PLAIN, CropAugmentation(shift=20), **settings
    )


def test_crops_have_their_sizes_and_the_box_lies_on_the_target():
    sample = dataset(search=CropAugmentation(shift=64, scale=0.18))[3]
    assert sample.exemplar.shape == (127, 127, 3)
    assert sample.search.shape == (255, 255, 3)
    white = np.argwhere(sample.search[..., 0] > 250)
    y1, x1 = white.min(axis=0)
    y2, x2 = white.max(axis=0) + 1
    # Interpolation leaves the outermost px of the square below white.
    np.testing.assert_allclose(sample.search_box_xyxy, [x1, y1, x2, y2], atol=2)


def test_without_jitter_the_target_is_centred_at_the_exemplar_s_scale():
    sample = dataset()[0]
    # 40 × 40 with a margin of 40: side 80 becomes 127 px, so the box has 40 / 80 * 127 = 63.5 px.
    np.testing.assert_allclose(
        sample.search_box_xyxy, [127.5 - 31.75, 127.5 - 31.75, 127.5 + 31.75, 127.5 + 31.75]
    )


def test_a_pair_depends_on_seed_and_number_alone():
    options = CropAugmentation(shift=30, scale=0.1, blur=0.5, colour=1.0, grey=0.3)
    one, two = dataset(search=options), dataset(search=options)
    two[11]  # another draw before must not matter
    np.testing.assert_array_equal(one[5].search, two[5].search)
    assert one[5].source_id == two[5].source_id
    assert one[5].source_id != one[6].source_id
    assert one[5].source_id != dataset(search=options, seed=1)[5].source_id


def test_any_number_of_workers_serves_the_same_batches():
    batches = [list(module(num_workers=n).train_dataloader()) for n in (0, 2)]
    assert len(batches[0]) == 3
    for a, b in zip(*batches, strict=True):
        assert a.source_id == b.source_id
        assert torch.equal(a.searches, b.searches)


def test_sources_are_mixed_by_weight_with_their_own_gaps():
    data = dataset(
        {
            "often": WeightedSource(SquareSource("often"), weight=3, max_gap=7),
            "rare": WeightedSource(SquareSource("rare"), weight=1, max_gap=2),
            "never": WeightedSource(SquareSource("never"), weight=0),
        }
    )
    ids = [data[i].source_id.split("/") for i in range(400)]
    share = np.mean([i[0] == "often" for i in ids])
    assert share == pytest.approx(0.75, abs=0.07)  # three standard deviations
    assert {(i[0], i[1]) for i in ids} == {("often", "7"), ("rare", "2")}


def test_negative_pairs_come_in_their_share():
    data = dataset(negative_share=0.25)
    flags = [data[i].is_positive for i in range(400)]
    assert np.mean(flags) == pytest.approx(0.75, abs=0.07)
    assert all(f"/{data[i].is_positive}/" in data[i].source_id for i in range(20))


def test_epochs_differ_and_repeat_themselves():
    sampler = EpochSampler(10)
    first = list(sampler)
    sampler.set_epoch(1)
    assert first == list(range(10))
    assert list(sampler) == list(range(10, 20))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_an_epoch_without_duplicates(world_size):
    dealt = [list(EpochSampler(12, rank, world_size)) for rank in range(world_size)]
    assert sorted(chain.from_iterable(dealt)) == list(range(12))
    assert len({len(d) for d in dealt}) == 1


def test_validation_pairs_are_not_those_of_training_and_never_change():
    data = module()
    loader = data.val_dataloader()
    first = [batch.source_id for batch in loader]
    assert first == [batch.source_id for batch in loader]
    assert sum(map(len, first)) == 6
    assert not set(first[0]) & set(next(iter(data.train_dataloader())).source_id)


def test_jitter_stays_in_its_range_and_moves():
    rng = np.random.default_rng(0)
    window = Window(50, 60, 100, 200)  # 2 crop px per frame px
    moved = [jittered(window, CropAugmentation(shift=8, scale=0.1), rng) for _ in range(300)]
    offsets = np.array([[m.cx - 50, m.cy - 60] for m in moved])
    zooms = np.array([m.side / 100 for m in moved])
    assert np.abs(offsets).max() <= 4
    assert np.abs(offsets).max() > 3.8
    assert zooms.min() >= 0.9
    assert zooms.max() <= 1.1
    assert np.ptp(zooms) > 0.19


def test_collate_keeps_pixels_in_place():
    samples = [dataset()[i] for i in range(2)]
    batch = collate(samples)
    assert batch.searches.shape == (2, 3, 255, 255)
    assert batch.searches.dtype == torch.uint8
    np.testing.assert_array_equal(batch.searches[1].permute(1, 2, 0), samples[1].search)
    assert batch.is_positive.dtype == torch.bool


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="not all 0"):
        dataset({"a": WeightedSource(SquareSource("a"), weight=0)})
    with pytest.raises(ValueError, match="negative_share"):
        dataset(negative_share=1.5)
    with pytest.raises(ValueError, match="pairs_per_epoch >= batch_size"):
        module(pairs_per_epoch=4)
    with pytest.raises(ValueError, match="blur"):
        CropAugmentation(blur=2)
