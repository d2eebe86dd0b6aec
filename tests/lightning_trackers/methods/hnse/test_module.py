from functools import partial
from math import log

import pytest
import torch

from lightning_trackers.backbones import TinyResNet
from lightning_trackers.batches import PairBatch
from lightning_trackers.heads import FCOSHead, PointMaps
from lightning_trackers.losses import DetectionFocalLoss
from lightning_trackers.methods.hnse import (
    HNSE,
    HardNegativeSelection,
    HNSEModule,
    HNSESettings,
    HNSETracker,
    RoIEmbedding,
)
from lightning_trackers.methods.hnse.targets import centerness, encode, grid_points
from lightning_trackers.training import GeometricSchedule, Optimisation

TRACKER = partial(HNSETracker, settings=HNSESettings())
OPTIMISATION = Optimisation(
    partial(torch.optim.SGD, lr=0.1), partial(GeometricSchedule, end_factor=0.1), 4
)
BOX = torch.tensor([60.0, 70, 130, 120])


def made(*, emphasis=True, **options):
    torch.manual_seed(0)
    embedding = partial(RoIEmbedding, channels=6) if emphasis else None
    network = HNSE(TinyResNet(2), partial(FCOSHead, hidden=8), embedding, channels=8)
    selection = HardNegativeSelection(k=2) if emphasis else None
    return HNSEModule(network, DetectionFocalLoss(), TRACKER, OPTIMISATION, selection, **options)


def batch(is_positive=(True, True, True)):
    generator = torch.Generator().manual_seed(0)
    count = len(is_positive)

    def images(size):
        return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)

    return PairBatch(
        images(127),
        images(191),
        BOX.expand(count, 4),
        torch.tensor(is_positive),
        ["drawn"] * count,
        torch.tensor([30.0, 35, 100, 90]).expand(count, 4),
    )


def losses(module, pairs):
    return module.losses(pairs, torch.Generator().manual_seed(0))


def test_the_total_has_the_paper_s_weights():
    found = {name: value.item() for name, value in losses(made(), batch()).items()}
    parts = found["loss_cls"] + found["loss_centerness"] + found["loss_box"]
    assert found["loss"] == pytest.approx(parts + 0.1 * found["loss_contrastive"], rel=1e-5)
    assert found["loss_contrastive"] > 0
    weighted = made(cls_weight=2, centerness_weight=3, box_weight=5, contrastive_weight=7)
    total = losses(weighted, batch())["loss"].item()
    expected = (
        2 * found["loss_cls"]
        + 3 * found["loss_centerness"]
        + 5 * found["loss_box"]
        + 7 * found["loss_contrastive"]
    )
    assert total == pytest.approx(expected, rel=1e-5)


def test_a_network_that_knows_the_answer_has_almost_no_loss():
    module = made(emphasis=False)
    points = grid_points(17, 8, 191)
    ltrb = encode(points, BOX.expand(17, 17, 4))
    inside = ltrb.amin(-1) > 0
    knowing = PointMaps(
        torch.where(inside, 20.0, -20.0),
        torch.logit(centerness(ltrb), eps=1e-6),
        (ltrb.clamp(min=0.1) / 8).log(),
    )
    module.network.compare = lambda features, kernels: PointMaps(*(m[None] for m in knowing))
    found = losses(module, batch((True,)))
    assert found["loss_cls"] < 1e-6
    assert found["loss_box"] < 1e-4
    # What is left of the cross-entropy is the entropy of its targets.
    c = centerness(ltrb)
    entropy = -(torch.xlogy(c, c) + torch.xlogy(1 - c, 1 - c)).mean()
    assert found["loss_centerness"].item() == pytest.approx(entropy.item(), abs=1e-4)


def test_the_box_loss_is_minus_the_logarithm_of_the_overlap():
    module = made(emphasis=False)
    # Every place answers the target's box with its lower half cut off: overlap 1 / 2.
    half = torch.tensor([60.0, 70, 130, 95])
    module.network.boxes_xyxy = lambda log_ltrb, size: half.expand(3, 17, 17, 4)
    assert losses(module, batch())["loss_box"].item() == pytest.approx(log(2), rel=1e-5)


def test_centerness_counts_on_all_places():
    module = made(emphasis=False)
    maps = PointMaps(
        torch.zeros(3, 17, 17), torch.full((3, 17, 17), -30.0), torch.zeros(3, 17, 17, 4)
    )
    module.network.compare = lambda features, kernels: maps
    ltrb = encode(grid_points(17, 8, 191), BOX.expand(17, 17, 4))
    # Logit -30: 30 per unit of target, 0 where the target is 0, over 289 places.
    found = losses(module, batch())["loss_centerness"].item()
    assert found == pytest.approx(30 * centerness(ltrb).mean().item(), rel=1e-4)


def gradients(module):
    losses(module, batch())["loss"].backward()
    return {name: p.grad for name, p in module.network.named_parameters()}


def test_the_emphasis_changes_the_gradients_of_shared_layers():
    with_it, weightless = gradients(made()), gradients(made(contrastive_weight=0))
    without = gradients(made(emphasis=False))
    changed = {n for n, g in with_it.items() if not torch.equal(g, weightless[n])}
    # Blocks 3 and 4 and all that leads to them.
    for name in ("adjust.1.0.weight", "adjust.2.0.weight", "backbone.layer4.0.conv3.weight"):
        assert name in changed
    assert {"backbone.conv1.weight", "backbone.layer2.0.conv1.weight"} <= changed
    # Block 2's own adjustment and the heads learn nothing from it.
    assert not any(name.startswith(("heads", "adjust.0")) for name in changed)
    assert not any(name.startswith("embedding") for name in without)
    for name, gradient in without.items():
        torch.testing.assert_close(gradient, weightless[name])


def test_the_emphasis_teaches_both_branches():
    module, seen = made(), []
    features = module.network.features

    def recorded(images):
        seen.append(features(images))
        for level in seen[-1]:
            level.retain_grad()
        return seen[-1]

    module.network.features = recorded
    losses(module, batch())["loss_contrastive"].backward()
    exemplar, search = seen
    assert exemplar.block3.shape[-1] < search.block3.shape[-1]
    for branch in seen:
        assert branch.block2.grad is None
        assert branch.block3.grad.abs().sum() > 0
        assert branch.block4.grad.abs().sum() > 0


@pytest.mark.parametrize("emphasis", [True, False])
def test_every_parameter_gets_a_gradient(emphasis):
    # Otherwise several GPUs would wait for it.
    missing = [n for n, g in gradients(made(emphasis=emphasis)).items() if g is None]
    assert missing == []


def test_hard_negatives_are_pushed_away_and_positives_pulled():
    module = made()
    pairs = batch()
    optimizer = torch.optim.Adam(module.network.embedding.parameters(), lr=0.01)
    before = losses(module, pairs)["loss_contrastive"].item()
    for _ in range(10):
        optimizer.zero_grad()
        losses(module, pairs)["loss_contrastive"].backward()
        optimizer.step()
    assert losses(module, pairs)["loss_contrastive"].item() < 0.7 * before


def test_pairs_of_two_targets_teach_the_score_alone():
    found = losses(made(), batch((False, False)))
    assert found["loss_box"] == 0
    assert found["loss_contrastive"] == 0
    assert found["hard_negatives"] == 0
    assert found["loss_cls"] > 0


def test_one_positive_pair_among_others_has_its_own_rois():
    module = made().eval()
    found = losses(module, batch((True, False)))
    assert found["hard_negatives"] == 1  # two in the one pair
    alone = losses(module, PairBatch(*(part[:1] for part in batch((True, False)))))
    # Contrastive and box loss are means over what is counted, so the other pair changes nothing.
    torch.testing.assert_close(found["loss_contrastive"], alone["loss_contrastive"])
    torch.testing.assert_close(found["loss_box"], alone["loss_box"])


def test_selection_and_embedding_belong_together():
    network = made(emphasis=False).network
    with pytest.raises(ValueError, match=r"both selection and network\.embedding, or neither"):
        HNSEModule(network, DetectionFocalLoss(), TRACKER, OPTIMISATION, HardNegativeSelection(k=2))


def test_it_lends_a_tracker():
    assert isinstance(made().tracker(), HNSETracker)
