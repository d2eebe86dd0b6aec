from collections import Counter
from dataclasses import dataclass
from itertools import chain
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from datamodules.augment import CropAugmentation
from datamodules.errors import DatasetError
from datamodules.frames import FrameError, decode_image
from datamodules.loading import EpochSampler
from datamodules.pairs import (
    PairDataModule,
    PairDataset,
    PairGeometry,
    WeightedSource,
    collate,
    jittered,
)
from datamodules.procedural import ProceduralSource
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Track, TrackIndex
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
    search = settings.pop("search", CropAugmentation(shift=20))
    return PairDataModule(sources, sources, PairGeometry(), PLAIN, search, **settings)


def test_crops_have_their_sizes_and_the_box_lies_on_the_target():
    sample = dataset(search=CropAugmentation(shift=64, scale=0.18))[3]
    assert sample.exemplar.shape == (127, 127, 3)
    assert sample.search.shape == (255, 255, 3)
    white = np.argwhere(sample.search[..., 0] > 250)
    y1, x1 = white.min(axis=0)
    y2, x2 = white.max(axis=0) + 1
    # Interpolation leaves the outermost px of the square below white.
    np.testing.assert_allclose(sample.search_box_xyxy, [x1, y1, x2, y2], atol=2)


def test_the_exemplar_s_box_lies_on_the_target():
    sample = dataset(exemplar=CropAugmentation(shift=12, scale=0.1))[3]
    white = np.argwhere(sample.exemplar[..., 0] > 250)
    y1, x1 = white.min(axis=0)
    y2, x2 = white.max(axis=0) + 1
    np.testing.assert_allclose(sample.exemplar_box_xyxy, [x1, y1, x2, y2], atol=2)
    assert abs(sample.exemplar_box_xyxy[[0, 2]].mean() - 63.5) > 2  # it is the moved one
    np.testing.assert_array_equal(
        collate([sample]).exemplar_boxes_xyxy[0], sample.exemplar_box_xyxy
    )


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


def assert_same_batches(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.source_id == b.source_id
        assert torch.equal(a.exemplars, b.exemplars)
        assert torch.equal(a.searches, b.searches)
        assert torch.equal(a.search_boxes_xyxy, b.search_boxes_xyxy)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")  # more than cores
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_any_number_of_workers_serves_the_same_batches(num_workers):
    options = CropAugmentation(shift=20, scale=0.1, blur=0.5, colour=1.0, grey=0.3)
    expected, loader = (
        module(num_workers=n, pairs_per_epoch=40, search=options).train_dataloader()
        for n in (0, num_workers)
    )
    assert_same_batches(loader, list(expected))
    expected.sampler.set_epoch(1)
    loader.sampler.set_epoch(1)
    assert_same_batches(loader, expected)


@pytest.mark.slow  # a spawned worker imports everything anew
def test_workers_that_share_no_memory_serve_the_same_batches():
    sources = {"drawn": WeightedSource(ProceduralSource(plates=2, sprites=2))}
    options = CropAugmentation(colour=1.0, blur=0.5)
    geometry = PairGeometry(31, 63)
    batches = [
        list(
            PairDataModule(
                sources, sources, geometry, PLAIN, options, pairs_per_epoch=4, batch_size=2,
                num_workers=n, multiprocessing_context="spawn",
            ).train_dataloader()
        )
        for n in (0, 1)
    ]  # fmt: skip
    assert_same_batches(*batches)


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


def names(data, numbers):
    return [data[i].source_id.split("/")[0] for i in numbers]


def test_a_source_gives_no_more_than_its_quota_in_an_epoch():
    sources = {
        "small": WeightedSource(SquareSource("small"), weight=5, quota=12),
        "middle": WeightedSource(SquareSource("middle"), weight=2, quota=30),
        "large": WeightedSource(SquareSource("large"), weight=1),
        "never": WeightedSource(SquareSource("never"), weight=0, quota=90),
    }
    data = dataset(sources, epoch_length=100)
    first, second = names(data, range(100)), names(data, range(100, 200))
    # Of 100 pairs 62.5 would be small; it is left with 12, and of the rest middle would be 59.
    assert Counter(first) == Counter(second) == {"small": 12, "middle": 30, "large": 58}
    assert first != second
    places = np.flatnonzero(np.array(first) == "small")
    assert places.min() < 25  # from the whole epoch, not from its beginning or end
    assert places.max() > 75
    assert names(dataset(sources, epoch_length=100), range(150, 200)) == second[50:]


def test_a_quota_that_is_not_used_up_changes_shares_little():
    sources = {
        "a": WeightedSource(SquareSource("a"), weight=1, quota=390),
        "b": WeightedSource(SquareSource("b"), weight=1),
    }
    share = np.mean([n == "a" for n in names(dataset(sources, epoch_length=400), range(400))])
    assert share == pytest.approx(0.5, abs=0.075)  # three standard deviations


def test_quotas_that_leave_pairs_without_a_source_are_refused():
    sources = {
        "a": WeightedSource(SquareSource("a"), quota=10),
        "never": WeightedSource(SquareSource("never"), weight=0),
    }
    with pytest.raises(ValueError, match=r"quotas of 11 pairs .*'a': 10"):
        dataset(sources, epoch_length=11)
    assert len(names(dataset(sources, epoch_length=10), range(10))) == 10
    with pytest.raises(ValueError, match="quota of 0 or more"):
        WeightedSource(SquareSource("a"), quota=-1)


class StreamOfSquares:
    """Which part of it a pair comes from is a function of the pair's number."""

    name = "stream"

    def at(self, number):
        return SquareSource(f"part{number % 3}")


def test_a_streamed_source_is_asked_by_number():
    data = dataset({"s": WeightedSource(StreamOfSquares())})
    assert names(data, range(7)) == [f"part{i % 3}" for i in range(7)]


class PatchySource(SquareSource):
    """Frames that cannot be read come in a share of draws."""

    def __init__(self, name, share):
        super().__init__(name)
        self.share = share

    def draw(self, rng, *, max_gap, positive):
        file = f"frame{rng.integers(3)}.jpg"
        if rng.random() < self.share:
            raise FrameError(f"{file}: the image is cut short")
        return super().draw(rng, max_gap=max_gap, positive=positive)


def test_a_pair_with_an_unreadable_frame_is_drawn_again(caplog):
    data = dataset({"patchy": WeightedSource(PatchySource("patchy", 0.3))})
    first = [data[i].source_id for i in range(60)]
    assert 10 < data.redraws[0].failed < 50
    assert len(caplog.records) == 3  # each file once
    assert "frame1.jpg: the image is cut short; something else of source patchy" in caplog.text
    again = dataset({"patchy": WeightedSource(PatchySource("patchy", 0.3))})
    assert [again[i].source_id for i in reversed(range(60))] == first[::-1]


def test_a_source_with_many_unreadable_frames_is_refused():
    lost = dataset({"lost": WeightedSource(PatchySource("lost", 1.0))})
    with pytest.raises(DatasetError, match=r"source lost: 10 frames in a row .*root"):
        lost[0]
    patchy = dataset({"patchy": WeightedSource(PatchySource("patchy", 0.1))})
    with pytest.raises(DatasetError, match=r"source patchy: 101 frames .* frame\d\.jpg: "):
        names(patchy, range(2000))


def test_a_few_unreadable_frames_in_many_are_borne():
    data = dataset({"good": WeightedSource(PatchySource("good", 0.0))})
    redraws = data.redraws[0]
    redraws.drawn, redraws.failed = 50_000, 400  # 0.8 %
    redraws._note(FrameError("a.jpg: gone"))
    redraws.drawn = 30_000
    with pytest.raises(DatasetError, match=r"402 frames .* 30000 draws"):
        redraws._note(FrameError("a.jpg: gone"))


class OneBox(SquareSource):
    def __init__(self, box):
        super().__init__("one")
        self.box = box

    def draw(self, rng, *, max_gap, positive):
        view = StillView(np.zeros((9, 9, 3), np.uint8), np.array(self.box))
        return view, view, "one/video/0/f7-f9"


@pytest.mark.parametrize("box", [[1, 2, np.nan, 4], [1, 2, 1, 4], [1, 5, 3, 4], [0, 0, np.inf, 4]])
def test_a_box_that_means_nothing_ends_in_an_error_with_its_frames(box):
    with pytest.raises(ValueError, match=r"one/video/0/f7-f9: expected a finite box"):
        dataset({"one": WeightedSource(OneBox(box))})[0]


class InFolder:
    def __init__(self, root):
        self.root = root

    def __call__(self, video, frame):
        return self.root / f"{video}_{frame}.jpg"


def test_a_track_of_one_frame_is_paired_with_itself_and_decoded_once(tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "still_4.jpg"), image)
    track = Track(
        "still", "0", "thing", np.array([4], np.int32), np.array([[20, 10, 50, 40]], np.float32),
        np.ones(1, bool), np.zeros(1, bool), np.array([[80, 60]], np.uint16),
    )  # fmt: skip
    index = TrackIndex.write(tmp_path / "i.arrow", [track])
    source = TrackSource("det", index, InFolder(tmp_path))
    decoded = []

    def decode(data, name, reduction):
        decoded.append(name)
        return decode_image(data, name, reduction)

    monkeypatch.setattr("datamodules.frames.decode_image", decode)
    sample = dataset({"det": WeightedSource(source)})[0]
    assert sample.source_id == "det/still/0/f4-f4"
    assert sample.is_positive
    assert np.isfinite(sample.search_box_xyxy).all()
    assert decoded == [str(tmp_path / "still_4.jpg")]


def test_whole_frames_are_stretched_and_their_boxes_with_them():
    source = {"drawn": WeightedSource(ProceduralSource(plates=2, sprites=4))}
    geometry = PairGeometry(64, 96, whole_frames=True)
    still = CropAugmentation(shift=40, scale=0.5)  # without effect
    pairs = PairDataset(source, geometry, still, still, 0.0, 0, 10)
    sample = pairs[3]
    assert (sample.exemplar.shape, sample.search.shape) == ((64, 64, 3), (96, 96, 3))
    view = ProceduralSource(plates=2, sprites=4).redraw(sample.source_id)[1]
    height, width = view.frame().shape[:2]
    scale = np.array([96 / width, 96 / height] * 2)
    np.testing.assert_allclose(sample.search_box_xyxy, view.box_xyxy * scale, rtol=1e-5)


def test_a_view_without_a_frame_is_refused_where_frames_are_asked_for():
    class Crops:
        name = "crops"

        def draw(self, rng, *, max_gap, positive):
            view = SimpleNamespace(box_xyxy=np.array([1.0, 1, 5, 5]), crop=None)
            return view, view, "crops/1"

    pairs = PairDataset(
        {"crops": WeightedSource(Crops())}, PairGeometry(whole_frames=True),
        CropAugmentation(), CropAugmentation(), 0.0, 0, 10,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"crops/1: a SimpleNamespace has no whole frame"):
        pairs[0]
