import math

import numpy as np
import pytest
import torch
from torch import nn

from lightning_trackers.backbones import AlexNet, Tiny
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.gradnet import GradNet
from lightning_trackers.siamese import for_inference

LOSS = BinaryCrossEntropy(balanced=True)


class Multipliers(nn.Module):
    """Four 1 × 1 convolutions of one channel: everything is a product of numbers."""

    stride = 1
    out_channels = 1

    def __init__(self, *weights):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Conv2d(1, 1, 1, bias=False) for _ in weights])
        for layer, weight in zip(self.layers, weights, strict=True):
            layer.weight.data.fill_(weight)

    def forward(self, images):
        return self.layers(images)


def scalar(value):
    return torch.full((1, 1, 1, 1), value)


def test_equations_4_to_8_by_hand():
    # f_2(z) = 2z, U1(h) = 3h, f_x(x) = 2 * 3 * x = 6x, one cell that is positive, scale 0.5.
    network = GradNet(Multipliers(2.0, 3.0, 1.0, 1.0), LOSS, response_scale=0.5, gradient_scale=10)
    network.u2[0].weight.data.zero_()
    network.u2[0].weight.data[0, 0, 1, 1] = -0.4  # the middle of the 3 × 3 kernel
    features = network.exemplar(scalar(1.0))  # f_2 = 2
    searches = network.search(scalar(1.0 / 6))  # f_x = 1
    adapted = network.adapt(features, searches, torch.ones(1, 1, 1))
    assert adapted.initial_template.item() == pytest.approx(6)  # Eq. 4
    s = 0.5 * 6 * 1  # Eq. 1
    assert network.score_map(searches, adapted.initial_template).item() == pytest.approx(s)
    loss = math.log(1 + math.exp(-s))  # Eq. 5
    assert adapted.initial_loss.item() == pytest.approx(loss)
    slope = -1 / (1 + math.exp(s)) * 0.5 * 1 * 3  # dL/dS * scale * f_x * dU1/df
    correction = -0.4 * 10 * slope
    assert adapted.correction.item() == pytest.approx(correction)
    assert adapted.features.item() == pytest.approx(2 + correction)  # Eq. 6
    assert adapted.template.item() == pytest.approx(3 * (2 + correction))  # Eq. 7
    final = network.score_map(searches, adapted.template).item()
    assert final == pytest.approx(0.5 * 3 * (2 + correction))  # Eq. 7
    assert final > s  # downhill


def u1(network, features):
    """U1 by loops over cells, numpy."""
    for layer in network.u1:
        if isinstance(layer, nn.Conv2d):
            features = convolved(
                features, layer.weight.detach().numpy(), layer.bias.detach().numpy()
            )
        else:
            features = np.log1p(np.exp(features))
    return features


def convolved(image, weight, bias=None):
    side = image.shape[-1] - weight.shape[-1] + 1
    out = np.zeros((len(weight), side, side))
    for o in range(len(weight)):
        for r in range(side):
            for c in range(side):
                k = weight.shape[-1]
                out[o, r, c] = (weight[o] * image[:, r : r + k, c : c + k]).sum()
    return out if bias is None else out + bias[:, None, None]


def initial_loss(network, features, searches, labels):
    """Eq. 4, 1, 5 and Algorithm 1, 2c: the sum over regions of balanced logistic losses."""
    template, total = u1(network, features), 0.0
    for search, label in zip(searches, labels, strict=True):
        scores = network.response_scale * convolved(search, template[None])[0]
        p = 1 / (1 + np.exp(-scores))
        share = label.mean()  # positives weigh the share of negatives and the other way round
        weights = np.where(label == 1, 1 - share, share)
        losses = -np.where(label == 1, np.log(p), np.log(1 - p))
        total += (weights * losses).sum() / weights.sum()
    return total


def test_adaptation_equals_loops_and_finite_differences(tiny, sample):
    network = tiny()
    exemplars, searches, labels = sample
    features = network.exemplar(exemplars)
    adapted = network.adapt(features, searches, labels)
    for g in range(2):
        own = features[g].detach().numpy()
        regions = searches[2 * g : 2 * g + 2].numpy(), labels[2 * g : 2 * g + 2].numpy()
        assert adapted.initial_loss[g].item() == pytest.approx(initial_loss(network, own, *regions))
        slope = np.zeros_like(own)
        for index in np.ndindex(own.shape):
            step = np.zeros_like(own)
            step[index] = 1e-5
            above = initial_loss(network, own + step, *regions)
            below = initial_loss(network, own - step, *regions)
            slope[index] = (above - below) / 2e-5
        padded = np.pad(network.gradient_scale * slope, ((0, 0), (1, 1), (1, 1)))
        updated = own + convolved(padded, network.u2[0].weight.detach().numpy())  # Eq. 6
        np.testing.assert_allclose(adapted.features[g], updated, atol=1e-7)
        np.testing.assert_allclose(adapted.template[g], u1(network, updated), atol=1e-7)  # Eq. 7


def test_one_template_meets_all_its_regions(tiny, sample):
    network = tiny(region_reduction="mean")
    exemplars, searches, labels = sample
    features = network.exemplar(exemplars)
    summed = tiny().adapt(features, searches, labels)
    averaged = network.adapt(features, searches, labels)
    torch.testing.assert_close(averaged.initial_loss * 2, summed.initial_loss)
    # Another search region changes the template of its own exemplar alone.
    searches = searches.clone()
    searches[1] += 1
    changed = network.adapt(features, searches, labels)
    assert not torch.allclose(changed.template[0], averaged.template[0])
    torch.testing.assert_close(changed.template[1], averaged.template[1])


def final_loss(network, sample, *, second_order):
    exemplars, searches, labels = sample
    adapted = network.adapt(
        network.exemplar(exemplars), searches, labels, second_order=second_order
    )
    return network.map_losses(network.score_map(searches, adapted.template), labels).sum()


def test_cutting_the_second_order_path_changes_the_gradient_of_u1(tiny, sample):
    network = tiny()
    exemplars, searches, labels = sample
    whole = torch.autograd.grad(
        final_loss(network, sample, second_order=True), list(network.u1.parameters())
    )
    # The same values with the gradient as a constant.
    features = network.exemplar(exemplars).detach().requires_grad_()
    loss = network.map_losses(network.score_map(searches, network.u1(features)), labels).sum()
    (slope,) = torch.autograd.grad(loss, features)
    updated = features + network.u2(slope * network.gradient_scale)
    scores = network.score_map(searches, network.u1(updated))
    final = network.map_losses(scores, labels).sum()
    torch.testing.assert_close(final, final_loss(network, sample, second_order=True))
    cut = torch.autograd.grad(final, list(network.u1.parameters()))
    for a, b in zip(whole, cut, strict=True):
        assert (a - b).norm() > 1e-3 * a.norm()  # rounding is at 1e-15


@pytest.mark.parametrize("options", [{}, {"shared_u1": False}])
def test_gradients_of_the_final_loss_equal_finite_differences(tiny, sample, options):
    network = tiny(**options)
    learnt = {n: p for n, p in network.named_parameters() if p.requires_grad}

    def loss(*values):
        given = dict(zip(learnt, values, strict=True))
        return torch.func.functional_call(network, given, (sample,), {"wanted": True})

    network.forward = lambda sample, wanted: final_loss(network, sample, second_order=wanted)
    values = [p.detach().clone().requires_grad_() for p in learnt.values()]
    assert torch.autograd.gradcheck(loss, values)


def test_unshared_u1_has_its_own_weights_after_the_correction(tiny, sample):
    exemplars, searches, labels = sample
    network = tiny(shared_u1=False)
    features = network.exemplar(exemplars)
    before = network.adapt(features, searches, labels)
    for parameter in network.u1_after.parameters():
        parameter.data.add_(0.1)
    after = network.adapt(features, searches, labels)
    assert torch.equal(before.initial_template, after.initial_template)
    assert torch.equal(before.features, after.features)
    assert not torch.allclose(before.template, after.template)
    # The initial U1 learns through the gradient alone.
    loss = final_loss(network, sample, second_order=True)
    assert all(g.norm() > 0 for g in torch.autograd.grad(loss, list(network.u1.parameters())))


def test_without_the_gradient_the_template_is_u1_of_the_features(tiny, sample):
    exemplars, searches, labels = sample
    network = tiny(gradient=False)
    expected = network.score_map(searches, network.u1(network.exemplar(exemplars)))
    network.search = lambda images: images
    torch.testing.assert_close(network(exemplars, searches, labels), expected)
    with pytest.raises(ValueError, match="gradient=False"):
        network.adapt(network.exemplar(exemplars), searches, labels)


@pytest.mark.parametrize("backbone", [AlexNet(groups=2, widths=(4, 8, 12, 12, 8)), Tiny(4, 8)])
@pytest.mark.parametrize("reading", ["paper", "released"])
def test_sizes_are_the_paper_s(backbone, reading):
    network = GradNet(backbone, LOSS, reading=reading).eval()
    features = network.exemplar(torch.zeros(1, 3, 127, 127))
    searches = network.search(torch.zeros(1, 3, 255, 255))
    assert features.shape[2:] == (12, 12)
    assert searches.shape[2:] == (22, 22)
    adapted = network.adapt(features, searches, torch.zeros(1, 17, 17))
    assert adapted.template.shape == (1, 8, 6, 6)
    assert network.score_map(searches, adapted.template).shape == (1, 17, 17)
    assert network.map_cells(features, searches) == 17


def test_u1_begins_as_the_embedding_s_last_three_layers():
    network = GradNet(Tiny(4, 8), LOSS, shared_u1=False).eval()
    images = torch.randn(1, 3, 127, 127, generator=torch.Generator().manual_seed(0))

    def check():
        for part in (network.u1, network.u1_after):
            torch.testing.assert_close(part(network.exemplar(images)), network.search(images))

    check()
    with torch.no_grad():
        for parameter in network.backbone.parameters():
            parameter.add_(1)  # other weights for the embedding
    network.begin()
    check()


def test_the_released_reading_has_a_target_branch_of_its_own():
    network = GradNet(AlexNet(widths=(4, 8, 12, 12, 8)), LOSS, reading="released")
    network.train()
    assert not network.backbone.training
    assert all(part.training for part in (network.f2, network.u1, network.u2))
    first = network.f2[0].weight
    assert first.std().item() == pytest.approx(0.01, rel=0.2)
    exemplars = torch.randn(2, 3, 127, 127, generator=torch.Generator().manual_seed(0))
    searches = torch.randn(2, 8, 22, 22, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(2, 17, 17)
    labels[:, 8, 8] = 1
    adapted = network.adapt(network.exemplar(exemplars), searches, labels, second_order=True)
    assert adapted.correction.abs().max() <= 1  # tanh
    scores = network.score_map(searches, adapted.template)
    network.map_losses(scores, labels).sum().backward()
    assert first.grad.norm() > 0


def test_frozen_layers_stay_in_evaluation_mode():
    network = GradNet(Tiny(4, 8), LOSS)
    assert network.training
    assert not any(m.training for m in (*network.backbone.modules(), *network.u1.modules()))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_templates_adapt_where_gradients_are_off(tiny, sample, context):
    network = tiny()
    exemplars, searches, labels = sample
    expected = network.adapt(network.exemplar(exemplars), searches, labels)
    with context():
        found = network.adapt(network.exemplar(exemplars), searches.clone(), labels.clone())
    torch.testing.assert_close(found.template, expected.template)
    assert not found.template.requires_grad


def test_the_inference_copy_adapts_to_the_same_template():
    # Wide layers, so that the copy computes U1 with fewer multiplications.
    network = GradNet(AlexNet(widths=(8, 16, 256, 16, 16)), LOSS, gradient_scale=1e4).eval()
    generator = torch.Generator().manual_seed(0)
    exemplars = torch.randn(2, 3, 127, 127, generator=generator)
    searches = torch.randn(2, 16, 22, 22, generator=generator)
    labels = torch.zeros(2, 17, 17)
    labels[:, 8, 8] = 1
    with torch.no_grad():
        expected = network.adapt(network.exemplar(exemplars), searches, labels)
        prepared = for_inference(network)
        assert not isinstance(prepared.u1[0], nn.Conv2d)
        assert prepared.map_cells(prepared.exemplar(exemplars), searches) == 17
        found = prepared.adapt(prepared.exemplar(exemplars), searches, labels)
    torch.testing.assert_close(found.template, expected.template, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reading": "code"}, "reading paper or released"),
        ({"region_reduction": "max"}, "sum or mean"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GradNet(Tiny(4, 8), LOSS, **options)


def test_a_backbone_of_three_convolutions_is_refused():
    with pytest.raises(ValueError, match="at least four convolutions"):
        GradNet(Multipliers(1.0, 1.0, 1.0), LOSS)
