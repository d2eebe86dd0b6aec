import logging
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from datamodules.domains import Shot
from datamodules.errors import DatasetError
from datamodules.hard_positives import HardPositivePairs, HardPositives, make_hard_positives
from datamodules.targets import (
    KeptView,
    TargetDataModule,
    TargetPool,
    background_box,
    pasted,
)
from lightning_trackers.boxes import iou_xyxy
from lightning_trackers.crops import Window, crop, search_window


@dataclass(frozen=True)
class Picture:
    frame: np.ndarray

    def decoded(self, step=1.0):
        return 1, self.frame


class Squares:
    """Videos of a plain bright target, 20 px wide, on a dark frame; a video's targets share a colour."""

    name = "squares"

    def __init__(self, videos=3, full=()):
        self.videos, self.full = videos, full

    def __len__(self):
        return self.videos

    def draw(self, domain, rng, count):
        shots = []
        for _ in range(count):
            frame = np.full((90, 120, 3), 10, dtype=np.uint8)
            x, y = rng.integers(5, 60, size=2)
            box = np.array([x, y, x + 20, y + 20], dtype=np.float32)
            if domain in self.full:
                box = np.array([1, 1, 119, 89], dtype=np.float32)
            x1, y1, x2, y2 = box.astype(int)
            frame[y1:y2, x1:x2] = 100 + domain
            shots.append(Shot(Picture(frame), (120, 90), box))
        return shots, f"squares/{domain}"


def black(batch, generator):
    return torch.zeros_like(batch.targets)


def test_targets_fill_their_pictures_and_backgrounds_show_nothing_of_them():
    pool = TargetPool({"squares": Squares()}, frames=5, size=16)
    assert [video.number for video in pool.videos] == [0, 1, 2]
    for video in pool.videos:
        assert video.targets.shape == video.backgrounds.shape == (5, 3, 16, 16)
        assert (video.targets == 100 + video.number).all()
        assert (video.backgrounds == 10).all()


def test_a_background_lies_in_the_frame_and_apart_from_the_target():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        corner = rng.uniform(0, 60, 2)
        box = np.concatenate([corner, corner + rng.uniform(5, 55, 2)])
        found = background_box(rng, Shot(None, (120, 120), box))
        assert found is not None
        assert iou_xyxy(found, box) == 0
        assert (found >= 0).all()
        assert (found <= 120).all()


def test_a_large_target_gets_a_smaller_background():
    box = np.array([0.0, 0, 70, 70])  # of 100: no room for 70 or 35 beside it
    found = background_box(np.random.default_rng(0), Shot(None, (100, 100), box))
    assert (found[2:] - found[:2]).tolist() == pytest.approx([17.5, 17.5])
    assert background_box(np.random.default_rng(0), Shot(None, (71, 71), box)) is None


def test_a_video_without_background_is_left_out_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        pool = TargetPool({"squares": Squares(3, full=[1])}, frames=4)
    assert [video.number for video in pool.videos] == [0, 2]
    assert "source squares, video 1: fewer than two frames" in caplog.text


def test_no_background_at_all_is_an_error():
    with pytest.raises(DatasetError, match="got none in 2 videos; an occluder is cut out"):
        TargetPool({"squares": Squares(2, full=[0, 1])}, frames=4)


def test_batches_depend_on_their_number_alone():
    first, second = (
        TargetDataModule({"s": Squares()}, frames=4, batches_per_epoch=3, batch_size=5)
        for _ in range(2)
    )
    for module in (first, second):
        module.setup("fit")
    batches = list(first.train_dataloader())
    again = list(second.train_dataloader())
    assert len(batches) == 3
    for a, b in zip(batches, again, strict=True):
        assert a.source_id == b.source_id
        assert torch.equal(a.targets, b.targets)
        assert a.targets.shape == a.exemplars.shape == a.backgrounds.shape == (5, 3, 64, 64)
        for name in a.source_id:
            target, exemplar = name.rsplit("/", 1)[1].split("-")
            assert target != exemplar
    assert batches[0].source_id != batches[1].source_id


def test_pasting_replaces_the_box_alone_and_is_cut_at_the_border():
    frame = np.zeros((10, 12, 3), dtype=np.uint8)
    picture = np.full((4, 4, 3), 200, dtype=np.uint8)
    shown = pasted(frame, picture, np.array([-2.0, 3, 3, 6]))
    expected = frame.copy()
    expected[3:6, 0:3] = 200
    assert np.array_equal(shown, expected)
    assert not frame.any()
    assert np.array_equal(pasted(frame, picture, np.array([20.0, 3, 30, 6])), frame)


def test_a_kept_view_shows_what_the_frame_shows():
    x, y = np.meshgrid(np.linspace(0, 250, 320), np.linspace(0, 250, 240))
    frame = np.stack([x, y, 250 - x], axis=-1).astype(np.uint8)  # smooth: it is resampled twice
    box = np.array([100.0, 80, 160, 140])
    window = search_window(box, 384, 77)
    view = KeptView(crop(frame, window), window, box)
    seen = search_window(box, 100, 60)
    difference = np.abs(view.crop(seen).astype(int) - crop(frame, seen).astype(int))
    assert difference.max() <= 2
    assert view.crop(seen).std() > 10


def test_a_kept_view_shows_a_positive_in_the_target_s_place():
    frame = np.full((100, 100, 3), 10, dtype=np.uint8)
    box = np.array([40.0, 40, 60, 60])
    window = Window(50, 50, 100, 100)
    view = KeptView(frame, window, box, np.full((8, 8, 3), 250, dtype=np.uint8))
    shown = view.crop(Window(50, 50, 40, 40))
    expected = np.full((40, 40, 3), 10)
    expected[10:30, 10:30] = 250
    assert np.array_equal(shown, expected)


def test_hard_positives_are_made_for_every_video_and_kept(tmp_path):
    made = make_hard_positives(
        tmp_path, {"s": Squares()}, black, per_video=4, occluded_share=0.5, frames=3
    )
    assert made.videos.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for video, pictures in enumerate(made.pictures.reshape(3, 4, 3, 64, 64)):
        assert not pictures[:2].any()  # hidden
        assert (pictures[2:, :, 8:56, 8:56] == 100 + video).all()
    read = HardPositives.read(tmp_path / "positives.npz")
    assert np.array_equal(read.pictures, made.pictures)
    assert read.provenance["videos"] == [f"squares/{i}" for i in range(3)]
    assert read.provenance["occluded_of_each_video"] == 2


def test_generated_pictures_are_what_is_hidden(tmp_path):
    generated = HardPositives(
        np.full((2, 3, 64, 64), 77, dtype=np.uint8), np.array([0, 2]), {"latent": 2}
    )
    generated.write(tmp_path / "generated.npz")
    made = make_hard_positives(
        tmp_path,
        {"s": Squares()},
        lambda batch, generator: batch.targets + 1,
        tmp_path / "generated.npz",
        per_video=2,
        frames=3,
    )
    # Video 1 has no generated pictures: its own targets are used.
    assert made.pictures[:, 0, 32, 32].tolist() == [78, 77, 102, 101, 78, 77]
    assert made.provenance["made_from"] == {"latent": 2}


def test_what_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(ValueError, match="an occluder, generated pictures, or both"):
        make_hard_positives(tmp_path, {"s": Squares()})
    with pytest.raises(ValueError, match=r"occluded_share in \[0, 1\]"):
        make_hard_positives(tmp_path, {"s": Squares()}, black, occluded_share=2)
    (tmp_path / "broken.npz").write_bytes(b"no such thing")
    with pytest.raises(ValueError, match=r"broken\.npz: expected pictures, videos"):
        HardPositives.read(tmp_path / "broken.npz")
    with pytest.raises(FileNotFoundError):
        HardPositives.read(tmp_path / "none.npz")


def test_pairs_show_positives_of_their_own_video_in_the_wanted_share(tmp_path):
    make_hard_positives(tmp_path, {"s": Squares()}, black, per_video=2, occluded_share=1, frames=3)
    pairs = HardPositivePairs({"s": Squares()}, tmp_path / "positives.npz", share=0.3, frames=3)
    rng = np.random.default_rng(0)
    hidden = 0
    for _ in range(400):
        first, second, source_id = pairs.draw(rng, max_gap=1, positive=True)
        assert first.positive is None
        videos = [part.split("/")[1] for part in source_id.split("-")[:2]]
        assert videos[0] == videos[1]
        hidden += second.positive is not None
    assert hidden / 400 == pytest.approx(0.3, abs=0.07)  # three deviations
    for _ in range(50):
        _, second, source_id = pairs.draw(rng, max_gap=1, positive=False)
        videos = [part.split("/")[1] for part in source_id.split("-")[:2]]
        assert videos[0] != videos[1]
        assert second.positive is None


def test_pairs_without_positives_are_plain_pairs():
    pairs = HardPositivePairs({"s": Squares()}, frames=3, share=1.0)
    assert pairs.draw(np.random.default_rng(0), max_gap=1, positive=True)[1].positive is None
    with pytest.raises(ValueError, match=r"a share in \[0, 1\], got 2"):
        HardPositivePairs({"s": Squares()}, share=2)
