from functools import partial
from math import exp

import pytest
import torch

from lightning_trackers.backbones import Tiny, TinyResNet
from lightning_trackers.heads import FCOSHead
from lightning_trackers.methods.hnse import HNSE, RoIEmbedding
from lightning_trackers.methods.hnse.network import weighted_sum

GENERATOR = torch.Generator().manual_seed(0)
EXEMPLAR = torch.randn(2, 3, 127, 127, generator=GENERATOR)
SEARCH = torch.randn(2, 3, 255, 255, generator=GENERATOR)


@pytest.fixture
def network():
    torch.manual_seed(0)
    embedding = partial(RoIEmbedding, channels=6)
    return HNSE(TinyResNet(2), partial(FCOSHead, hidden=8), embedding, channels=8).eval()


def test_three_levels_of_equal_channels_meet_in_maps_of_25_cells(network):
    features = network.features(SEARCH)
    assert [tuple(level.shape) for level in features] == [(2, 8, 31, 31)] * 3
    kernels = network.kernels(network.features(EXEMPLAR))
    assert kernels.cls.shape == kernels.box.shape == (2, 3, 8, 5, 5)
    assert network.compare(features, kernels).log_ltrb.shape == (2, 25, 25, 4)


def test_the_exemplar_s_middle_is_what_is_compared(network):
    features = network.features(EXEMPLAR)
    border = torch.ones(15, 15, dtype=torch.bool)
    border[4:11, 4:11] = False
    disturbed = type(features)(*(level + 5 * border for level in features))
    assert torch.equal(network.kernels(features).cls, network.kernels(disturbed).cls)
    inside = type(features)(*(level + 5 * ~border for level in features))
    assert not torch.equal(network.kernels(features).cls, network.kernels(inside).cls)


def test_levels_are_summed_with_their_weights_by_hand():
    maps = (torch.tensor([1.0, 2]), torch.tensor([10.0, 20]), torch.tensor([100.0, 200]))
    assert weighted_sum(torch.tensor([1.0, 2, -3]), maps).tolist() == [1 + 20 - 300, 2 + 40 - 600]


@pytest.mark.parametrize("name", ["cls_weights", "centerness_weights", "box_weights"])
def test_each_map_has_weights_of_its_own_that_learn(network, name):
    kernels = network.exemplar(EXEMPLAR)
    before = network.track(SEARCH, kernels)
    weights = getattr(network, name)
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3))
    with torch.no_grad():
        weights[1] += 1
    after = network.track(SEARCH, kernels)
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    fields = ["cls_weights", "centerness_weights", "box_weights"]
    assert moved == [field == name for field in fields]
    sum(m.sum() for m in after).backward()
    assert (weights.grad.abs() > 0).all()


def test_one_level_alone_gives_that_head_s_maps(network):
    with torch.no_grad():
        for weights in (network.cls_weights, network.centerness_weights, network.box_weights):
            weights.copy_(torch.tensor([0.0, 1, 0]))
    features, kernels = network.features(SEARCH), network.exemplar(EXEMPLAR)
    head, level = network.heads[1], features.block3
    alone = head(level, type(kernels)(kernels.cls[:, 1], kernels.box[:, 1]))
    fused = network.compare(features, kernels)
    for a, b in zip(alone, fused, strict=True):
        torch.testing.assert_close(a, b)


def test_boxes_by_hand(network):
    log_ltrb = torch.zeros(1, 25, 25, 4)
    log_ltrb[0, 12, 13] = torch.tensor([1.0, 2, 3, 200])  # the last would be 8 e^200 px
    boxes = network.boxes_xyxy(log_ltrb, 255)
    torch.testing.assert_close(boxes[0, 12, 12], torch.tensor([119.5, 119.5, 135.5, 135.5]))
    expected = [135.5 - 8 * exp(1), 127.5 - 8 * exp(2), 135.5 + 8 * exp(3), 127.5 + 8 * 64]
    torch.testing.assert_close(boxes[0, 12, 13], torch.tensor(expected))


def test_an_overflowing_distance_has_a_finite_slope(network):
    log_ltrb = torch.full((1, 5, 5, 4), 200.0, requires_grad=True)
    network.boxes_xyxy(log_ltrb, 255).sum().backward()
    assert log_ltrb.grad.isfinite().all()


def test_vectors_see_blocks_3_and_4_at_the_box_alone(network):
    features = network.features(SEARCH)
    # Cell (r, c) of 31 looks at 7.5 + 8 c px: the box covers the cells from 10 to 14 along both axes.
    edge = 3.5 + 8 * torch.tensor([10.0, 10, 15, 15])
    boxes = edge.expand(2, 1, 4)
    plain = network.vectors(features, boxes, 255)
    assert plain.shape == (2, 1, 6)

    def disturbed(level, rows):
        changed = [f.clone() for f in features]
        changed[level][:, :, rows, rows] += 3
        return network.vectors(type(features)(*changed), boxes, 255)

    assert torch.equal(disturbed(0, slice(10, 15)), plain)
    for level in (1, 2):
        assert not torch.allclose(disturbed(level, slice(10, 11)), plain)
        assert not torch.allclose(disturbed(level, slice(14, 15)), plain)
        # Samples lie a quarter of a cell or more inside the box, and reach the cells beside it, but no
        # further.
        assert torch.equal(disturbed(level, slice(0, 9)), plain)
        assert torch.equal(disturbed(level, slice(16, 31)), plain)


def test_a_box_is_pooled_from_the_cells_that_look_at_it(network):
    pooled = []
    network.embedding.layers.register_forward_hook(
        lambda module, inputs, output: pooled.append(inputs[0])
    )
    ramp = torch.arange(31.0).expand(1, 8, 31, 31)  # each cell holds its column
    features = network.features(SEARCH[:1])._replace(block3=ramp, block4=ramp)
    # Column c looks at 7.5 + 8 c px, so the middle of the columns 10 to 14 lies at 103.5 px.
    network.vectors(features, torch.tensor([[[83.5, 83.5, 123.5, 123.5]]]), 255)
    torch.testing.assert_close(pooled[0][0, 0], torch.arange(10.0, 15).expand(5, 5))
    # In an exemplar crop of 127 px, 15 cells: column c looks at 7.5 + 8 c px as well.
    ramp = torch.arange(15.0).expand(1, 8, 15, 15)
    features = features._replace(block3=ramp, block4=ramp)
    network.vectors(features, torch.tensor([[[43.5, 43.5, 83.5, 83.5]]]), 127)
    torch.testing.assert_close(pooled[1][0, 0], torch.arange(5.0, 10).expand(5, 5))


def test_pooled_features_are_5_by_5_and_two_convolutions_make_the_vector(network):
    shapes = []
    network.embedding.layers.register_forward_hook(
        lambda module, inputs, output: shapes.append((inputs[0].shape, output.shape))
    )
    boxes = torch.tensor([[30.0, 30, 90, 100]]).expand(2, 3, 4)
    network.vectors(network.features(SEARCH), boxes, 255)
    assert [tuple(s) for s in shapes[0]] == [(6, 16, 5, 5), (6, 6, 1, 1)]
    convolutions = [m for m in network.embedding.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 2


def test_without_emphasis_there_are_no_vectors():
    network = HNSE(TinyResNet(1), partial(FCOSHead, hidden=4), channels=4)
    assert not any(name.startswith("embedding") for name, _ in network.named_parameters())
    with pytest.raises(RuntimeError, match="without an embedding"):
        network.vectors(network.features(SEARCH[:1]), torch.zeros(1, 1, 4), 255)


def test_a_backbone_of_one_output_is_refused():
    with pytest.raises(ValueError, match="three outputs, got channels 16"):
        HNSE(Tiny(4, 16), partial(FCOSHead, hidden=4))
    with pytest.raises(ValueError, match=r"three outputs, got channels \(8, 16\)"):
        HNSE(TinyResNet(1, outputs=(2, 3)), partial(FCOSHead, hidden=4))
