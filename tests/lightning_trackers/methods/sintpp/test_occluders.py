from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lightning_trackers.backbones import TinyVGG
from lightning_trackers.batches import TargetBatch
from lightning_trackers.methods.loading import write_checkpoint
from lightning_trackers.methods.sint import SINTNetwork
from lightning_trackers.methods.sintpp import (
    HPTN,
    AdversaryModule,
    AdversaryOccluder,
    AgentOccluder,
    OcclusionSettings,
    PixelFeatures,
    RandomOccluder,
    SINTScorer,
    SpatialTransformer,
    sint_scorer,
)

WHITE_ON_BLACK = TargetBatch(
    torch.full((40, 3, 20, 20), 255, dtype=torch.uint8),
    torch.full((40, 3, 20, 20), 255, dtype=torch.uint8),
    torch.zeros(40, 3, 20, 20, dtype=torch.uint8),
    [""] * 40,
)


class LeftHalf:
    """A tracker that is sure where the left half is bright."""

    def against(self, exemplars):
        return lambda images, rows=None: (
            images[..., : images.shape[-1] // 2].float().mean((1, 2, 3)) / 255
        )


def covered_share(images):
    return (images == 0).float().mean((1, 2, 3))


def test_random_occlusion_covers_the_area_it_is_told():
    areas = torch.linspace(0.09, 0.36, 40)
    images = RandomOccluder().covered(WHITE_ON_BLACK, areas, torch.Generator().manual_seed(0))
    # Whole pixels: half a pixel at most is gained or lost on each side of a box.
    assert (covered_share(images) - areas).abs().max() < 2 * 0.6 * 20 / 400 + 1 / 400
    assert (covered_share(images) - areas).mean().abs() < 0.01


def test_random_occlusion_draws_areas_between_its_limits():
    share = covered_share(
        RandomOccluder(0.1, 0.3)(WHITE_ON_BLACK, torch.Generator().manual_seed(0))
    )
    assert 0.05 < share.min() < 0.16
    assert 0.24 < share.max() < 0.36


@pytest.mark.parametrize("wrong", [{"least": 0.01}, {"most": 0.5}, {"least": 0.3, "most": 0.2}])
def test_areas_that_no_box_can_have_are_refused(wrong):
    with pytest.raises(ValueError, match="random occlusion: expected min_side² <= least"):
        RandomOccluder(**wrong)


def agent(seed=0):
    torch.manual_seed(seed)
    settings = OcclusionSettings(step_limit=3)
    return HPTN(
        LeftHalf(), PixelFeatures(2), partial(torch.optim.Adam, lr=1e-3), settings, hidden=(4,)
    )


def test_an_agent_s_checkpoint_makes_the_same_occluder(tmp_path):
    trained, other = agent(0), agent(1)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "last.ckpt")
    pictures = WHITE_ON_BLACK._replace(
        targets=torch.randint(
            0, 256, (40, 3, 20, 20), generator=torch.Generator().manual_seed(3)
        ).byte()
    )
    results = [
        occluder(pictures, torch.Generator().manual_seed(0))
        for occluder in (
            AgentOccluder(trained),
            AgentOccluder(other, tmp_path / "last.ckpt"),
            AgentOccluder(agent(1)),
        )
    ]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    with pytest.raises(FileNotFoundError):
        AgentOccluder(other, tmp_path / "none.ckpt")
    torch.save({}, tmp_path / "empty.ckpt")
    with pytest.raises(ValueError, match="expected the key 'state_dict'"):
        AgentOccluder(other, tmp_path / "empty.ckpt")


def test_the_spatial_transformer_begins_as_the_identity():
    images = torch.rand(2, 3, 16, 16) * 255
    torch.testing.assert_close(SpatialTransformer()(images), images, atol=1e-3, rtol=0)


def test_the_spatial_transformer_turns_by_ten_degrees_at_most():
    warp = SpatialTransformer(rotation=10.0, scale=0.0, translation=0.0)
    warp.last.bias.data[0] = 100.0
    size = 41
    images = torch.zeros(1, 3, size, size)
    images[:, :, 20, 36:39] = 255  # to the right of the centre, 17 px away
    y, x = torch.nonzero(warp(images)[0, 0] > 60).float().mean(dim=0) - 20
    # 10 degrees against the clock, as the sampling grid turns with it: y = -17 sin 10°.
    assert abs(y.item()) == pytest.approx(2.95, abs=0.5)
    assert x.item() == pytest.approx(16.7, abs=0.5)


def test_the_spatial_transformer_s_displacement_is_a_share_of_the_picture():
    warp = SpatialTransformer(rotation=0.0, scale=0.0, translation=0.1)
    warp.last.bias.data[2] = 100.0  # to the right by 0.1 of 20 px
    images = torch.zeros(1, 3, 20, 20)
    images[..., 10] = 255
    assert warp(images)[0, 0, 5].argmax() == 8


def test_the_adversary_learns_to_move_the_target_away():
    torch.manual_seed(0)
    module = AdversaryModule(
        SpatialTransformer(translation=0.3, width=4),
        LeftHalf(),
        partial(torch.optim.Adam, lr=1e-2),
    )
    targets = torch.zeros(8, 3, 20, 20, dtype=torch.uint8)
    targets[..., :10] = 255
    batch = TargetBatch(targets, targets, targets, [""] * 8)

    @torch.no_grad()
    def mean_score():
        return LeftHalf().against(targets)(module.network(targets.float())).mean().item()

    before = mean_score()
    trainer = pl.Trainer(
        max_epochs=1, logger=False, accelerator="cpu", enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader([batch] * 60, batch_size=None))
    assert before == pytest.approx(1.0)
    assert mean_score() < 0.75
    images = AdversaryOccluder(module, RandomOccluder())(batch, torch.Generator().manual_seed(0))
    assert images.dtype == torch.uint8
    assert images.shape == targets.shape


def network():
    torch.manual_seed(0)
    return SINTNetwork(TinyVGG(4, pool=3), pool=3)


def test_sint_s_score_is_one_for_the_exemplar_and_less_for_another():
    pictures = torch.randint(
        0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0)
    ).byte()
    score = SINTScorer(network()).against(pictures)
    torch.testing.assert_close(score(pictures), torch.ones(3))
    assert (score(pictures.flip(0))[[0, 2]] < 0.999).all()
    torch.testing.assert_close(score(pictures.float()), torch.ones(3))
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(score(pictures[rows], rows), torch.ones(2))


def test_sint_s_score_has_a_gradient_in_the_pictures_but_not_in_the_weights():
    scorer = SINTScorer(network())
    exemplars = torch.randint(
        0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)
    ).byte()
    pictures = exemplars.flip(0).float().requires_grad_()
    scorer.against(exemplars)(pictures).sum().backward()
    assert pictures.grad.abs().sum() > 0
    assert all(p.grad is None for p in scorer.network.parameters())


def test_a_scorer_comes_from_sint_s_checkpoint(tmp_path):
    trained = network()
    trained.backbone.requires_grad_(False)
    recipe = {
        "network": {
            "_target_": "lightning_trackers.methods.sint.SINTNetwork",
            "backbone": {"_target_": "lightning_trackers.backbones.TinyVGG", "width": 4, "pool": 3},
            "pool": 3,
        },
        "tracker": {},
    }
    write_checkpoint(tmp_path / "sint.pt", recipe, trained.state_dict())
    exemplars = torch.randint(
        0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)
    ).byte()
    images = exemplars.flip(0)
    expected = SINTScorer(trained).against(exemplars)(images)
    torch.testing.assert_close(
        sint_scorer(tmp_path / "sint.pt").against(exemplars)(images), expected
    )
    recipe["network"] = {"_target_": "lightning_trackers.backbones.TinyVGG", "width": 4}
    write_checkpoint(tmp_path / "other.pt", recipe, trained.state_dict())
    with pytest.raises(ValueError, match="expected the weights of SINT, got TinyVGG"):
        sint_scorer(tmp_path / "other.pt")
