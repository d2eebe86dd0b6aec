import albumentations as alb
import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from datamodules.domains import (
    DomainDataModule,
    DomainDataset,
    DomainSampling,
    ProceduralDomains,
    TrackDomains,
)
from datamodules.errors import DatasetError
from datamodules.procedural import ProceduralSource
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Track, TrackIndex
from lightning_trackers.boxes import iou_xyxy

VIDEOS, FRAMES, WH = 5, 6, (160, 120)


class InFolder:
    def __init__(self, root):
        self.root = root

    def __call__(self, video, frame):
        return self.root / video / f"{frame}.png"


def box_of(video, frame):
    return np.array([30 + 8 * frame, 40 + 2 * video, 60 + 8 * frame, 80 + 2 * video], np.float32)


@pytest.fixture
def source(tmp_path):
    """Grey frames whose target has a colour of its own in each video, and fills its box."""
    tracks = []
    for video in range(VIDEOS):
        (tmp_path / f"v{video}").mkdir()
        for frame in range(FRAMES):
            image = np.full((WH[1], WH[0], 3), 90, np.uint8)
            x1, y1, x2, y2 = box_of(video, frame).astype(int)
            image[y1:y2, x1:x2] = (50 * video, 255, 0)
            cv2.imwrite(str(tmp_path / f"v{video}" / f"{frame}.png"), image[..., ::-1])
        boxes = np.stack([box_of(video, frame) for frame in range(FRAMES)])
        seen = np.ones(FRAMES, bool)
        seen[2] = False  # out of view: its box means nothing
        wh = np.tile(np.array(WH, np.uint16), (FRAMES, 1))
        numbers = np.arange(FRAMES, dtype=np.int32)
        tracks.append(Track(f"v{video}", "0", "thing", numbers, boxes, seen, ~seen, wh))
        tracks.append(Track(f"v{video}", "1", "other", numbers, boxes, seen, ~seen, wh))
    return TrackSource("set", TrackIndex.write(tmp_path / "i.arrow", tracks), InFolder(tmp_path))


SMALL = DomainSampling(frames=4, positives=8, negatives=12)


def dataset(source, **options):
    return DomainDataset({"set": TrackDomains(source)}, SMALL, **options)


def module(source, **options):
    return DomainDataModule({"set": TrackDomains(source)}, SMALL, **options)


def test_positives_show_their_domain_s_target_and_negatives_do_not(source):
    batch = dataset(source)[0]
    assert batch.positives.shape == (8, 3, 107, 107)
    assert batch.negatives.shape == (12, 3, 107, 107)
    assert batch.positives.dtype == torch.uint8
    colour = torch.tensor([50 * int(batch.domain), 255, 0])
    # The middle of a crop is its sample's middle, which lies in the target if they overlap by 0.7.
    assert (batch.positives[:, :, 53, 53] == colour).all()
    inner = slice(16, 91)
    share = (batch.negatives[:, 1, inner, inner] == 255).float().mean(dim=(1, 2))
    # IoU <= 0.5 lets a smaller box lie inside the target, but not on all of it.
    assert share.mean() < 0.5
    assert f"/v{int(batch.domain)}/0/" in batch.source_id


def green(scene):
    """The target in a scene: the box around its pixels."""
    rows, columns = (
        (scene[1] == 255).any(1).nonzero()[:, 0],
        (scene[1] == 255).any(0).nonzero()[:, 0],
    )
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def test_samples_overlap_as_the_rules_say_and_the_target_is_a_square(source):
    batch = dataset(source, crops=False)[3]
    frames = [int(f[1:]) for f in batch.source_id.rsplit("/", 1)[1].split(",")]
    assert len(set(frames)) == 4
    assert 2 not in frames
    for t in range(4):
        box = green(batch.scenes[t])
        assert batch.scenes[t].dtype == torch.uint8
        assert batch.positives_xyxy[t].shape == (2, 4)
        # Overlaps are those of the frame; the pixels tell the target's edges to one pixel of 107.
        assert (box[2:] - box[:2] - 107).abs().max() <= 4
        assert (iou_xyxy(batch.positives_xyxy[t], box) >= 0.65).all()
        assert (iou_xyxy(batch.negatives_xyxy[t], box) <= 0.55).all()


def test_scenes_show_all_samples_with_their_margin(source):
    batch = dataset(source, crops=False)[2]
    for t, scene in enumerate(batch.scenes):
        boxes = torch.cat([batch.positives_xyxy[t], batch.negatives_xyxy[t]])
        margin = 0.1 * (boxes[:, 2:] - boxes[:, :2])  # half of what 1.2 adds
        size = torch.tensor([scene.shape[2], scene.shape[1]])
        assert (boxes[:, :2] - margin).min() >= -1e-3
        assert (boxes[:, 2:] + margin <= size + 1e-3).all()


def test_scenes_are_jittered_within_limits_and_their_boxes_with_them(source):
    sampling = DomainSampling(frames=4, positives=8, negatives=12, scene_jitter=1.1)
    data = DomainDataset({"set": TrackDomains(source)}, sampling, crops=False)
    sides = []
    for i in range(6):
        batch = data[i]
        for t in range(4):
            box = green(batch.scenes[t])
            sides.append(float((box[2:] - box[:2]).mean()))
            assert (iou_xyxy(batch.positives_xyxy[t], box) >= 0.65).all()
    assert 107 / 1.21 - 4 <= min(sides) < 95
    assert 120 < max(sides) <= 107 * 1.21 + 4


def test_crops_are_those_of_the_boxes(source):
    crops, scenes = dataset(source)[7], dataset(source, crops=False)[7]
    # The box fills the crop's middle 75 px: colours there and in the box of the scene agree.
    compared = 0
    for t in range(4):
        scene = scenes.scenes[t]
        for k in range(3):
            x1, y1, x2, y2 = scenes.negatives_xyxy[t, k].tolist()
            shown = crops.negatives[3 * t + k, 1].float()
            for v in range(20, 90, 9):
                for u in range(20, 90, 9):
                    x = int(x1 + (u - 16 + 0.5) * (x2 - x1) / 75)
                    y = int(y1 + (v - 16 + 0.5) * (y2 - y1) / 75)
                    around = scene[1, y - 6 : y + 7, x - 6 : x + 7]
                    if around.numel() and (around == around[0, 0]).all():  # not at an edge
                        compared += 1
                        assert shown[v, u] == around[0, 0]
    assert compared > 100


def test_each_cycle_shows_every_domain_once_in_another_order(source):
    data = dataset(source)
    cycles = [[int(data[VIDEOS * c + i].domain) for i in range(VIDEOS)] for c in range(3)]
    assert all(sorted(c) == list(range(VIDEOS)) for c in cycles)
    assert cycles[0] != cycles[1] or cycles[1] != cycles[2]


def test_sources_are_numbered_through(source):
    data = DomainDataset(
        {"few": TrackDomains(source, most=2), "set": TrackDomains(source)}, SMALL, crops=False
    )
    assert data.domains == 7
    videos = {int(b.domain): b.source_id.split("/")[1] for b in (data[i] for i in range(7))}
    assert videos == {0: "v0", 1: "v4", **{2 + v: f"v{v}" for v in range(VIDEOS)}}


def test_transforms_are_applied_to_crops(source):
    plain, inverted = dataset(source)[1], dataset(source, transforms=[alb.InvertImg(p=1)])[1]
    # The transforms' seed is drawn after the boxes of all frames.
    assert torch.equal(inverted.positives, 255 - plain.positives)
    with pytest.raises(ValueError, match="crops=False"):
        dataset(source, crops=False, transforms=[alb.InvertImg(p=1)])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")  # more than cores
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_any_number_of_workers_serves_the_same_batches(source, num_workers):
    options = {"batches_per_epoch": 5, "transforms": [alb.GaussNoise(p=0.5)]}
    expected = module(source, **options).train_dataloader()
    loader = module(source, num_workers=num_workers, **options).train_dataloader()
    for a, b in zip(expected, loader, strict=True):
        assert a.source_id == b.source_id
        assert torch.equal(a.positives, b.positives)
        assert torch.equal(a.negatives, b.negatives)


def test_the_loader_goes_on_behind_the_last_batch(source):
    whole = [b.source_id for b in module(source, num_workers=0).train_dataloader()]
    loader = module(source).train_dataloader()
    served = iter(loader)
    first = [next(served).source_id for _ in range(2)]
    later = module(source).train_dataloader()
    later.load_state_dict(loader.state_dict())
    assert first + [b.source_id for b in later] == whole
    assert len(later) == VIDEOS  # the epoch's length stays what it is


def test_a_missing_frame_is_replaced_and_named(source, caplog):
    data = dataset(source)
    batch = data[0]
    lost = batch.source_id.rsplit("/", 1)[1].split(",")[0]
    (source.frame_path.root / batch.source_id.split("/")[1] / f"{lost[1:]}.png").unlink()
    again = data[0]
    assert again.domain == batch.domain
    assert f",{lost}" not in f",{again.source_id.rsplit('/', 1)[1]},"
    assert f"{lost[1:]}.png: No such file" in caplog.text


def test_targets_that_fill_the_frame_are_left_out(tmp_path):
    box = np.array([[2.0, 2, 98, 78], [2, 2, 60, 30]], np.float32)  # the second is low enough
    wh, seen = np.tile(np.array([100, 80], np.uint16), (2, 1)), np.ones(2, bool)
    track = Track("v", "0", "thing", np.arange(2, dtype=np.int32), box, seen, ~seen, wh)
    index = TrackIndex.write(tmp_path / "i.arrow", [track])
    domains = TrackDomains(TrackSource("set", index, InFolder(tmp_path)))
    shots, source_id = domains.draw(0, np.random.default_rng(0), 3)
    assert source_id == "set/v/0/f1,f1,f1"
    assert shots[0].frame_wh == (100, 80)
    large = Track("v", "0", "thing", track.frames[:1], box[:1], seen[:1], ~seen[:1], wh[:1])
    index = TrackIndex.write(tmp_path / "large.arrow", [large])
    with pytest.raises(DatasetError, match="smaller than half"):
        TrackDomains(TrackSource("set", index, InFolder(tmp_path)))


def test_procedural_videos_are_domains():
    data = DomainDataset({"drawn": ProceduralDomains(ProceduralSource(), videos=3)}, SMALL)
    batch, again = data[1], data[1]
    assert 0 <= batch.domain < 3
    assert torch.equal(batch.positives, again.positives)
    assert torch.equal(batch.negatives, again.negatives)
    assert batch.source_id.startswith("procedural/train/t0/")


def test_a_network_of_branches_trains_on_them(source):
    class Branches(pl.LightningModule):
        def __init__(self, domains):
            super().__init__()
            self.branches = torch.nn.Parameter(torch.zeros(domains, 3))

        def training_step(self, batch, batch_idx):
            crops = torch.cat([batch.positives, batch.negatives]).float().mean(dim=(2, 3)) / 128 - 1
            labels = torch.zeros(len(crops))
            labels[: len(batch.positives)] = 1
            logits = crops @ self.branches[batch.domain]
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)

        def validation_step(self, batch, batch_idx):
            validated.append(batch.source_id)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    validated = []
    data = module(source, val_sources={"set": TrackDomains(source, most=2)})
    learner = Branches(data.domains)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(learner, data)
    assert trainer.global_step == VIDEOS
    assert len(validated) == 2
    assert (learner.branches[:, 1] > 0).all()  # the target is green in every domain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positives": 30}, "multiples of frames"),
        ({"frames": 0}, "multiples of frames"),
        ({"negative_overlap": 1.5}, "overlaps in"),
        ({"padding": 54}, "below half"),
        ({"scene_padding": 0.9}, "scene_padding >= 1"),
        ({"scene_jitter": 0.5}, "scene_jitter"),
    ],
)
def test_bad_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DomainSampling(**options)


def test_validation_serves_other_videos_the_same_ones_every_time(source):
    held_out = {"drawn": ProceduralDomains(ProceduralSource(split="val"), videos=3)}
    data = module(source, val_sources=held_out)
    first, second = ([b.source_id for b in data.val_dataloader()] for _ in range(2))
    assert first == second
    assert len(first) == 3
    assert all(i.startswith("procedural/val/") for i in first)
    assert data.domains == VIDEOS  # no branch for them
    assert len(module(source, val_sources=held_out, val_batches=2).val_dataloader()) == 2
    assert module(source).val_dataloader() == []


def test_validation_neither_transforms_nor_jitters(source):
    videos = {"set": TrackDomains(source)}
    data = module(source, val_sources=videos, transforms=[alb.InvertImg(p=1)])
    assert data.held_out.transforms is None
    jittered = DomainSampling(frames=4, positives=8, negatives=12, scene_jitter=1.5)
    data = DomainDataModule(videos, jittered, crops=False, val_sources=videos)
    for batch in data.val_dataloader():
        for scene in batch.scenes:
            box = green(scene)
            assert (box[2:] - box[:2] - 107).abs().max() <= 4
