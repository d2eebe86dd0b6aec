import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from lightning_trackers.methods.sintpp.vae import (
    SIDE,
    ConvolutionalVAEs,
    DenseVAEs,
    lower_bound,
    negative_kl,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_kl_is_the_closed_form_of_equation_3():
    mean, log_var = normal(3, 5, 2), normal(3, 5, 2, seed=1)
    q = Independent(Normal(mean, (0.5 * log_var).exp()), 1)
    p = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(-negative_kl(mean, log_var), kl_divergence(q, p))


def test_bound_is_equation_4():
    images, logits = normal(4, 7).sigmoid(), 2 * normal(4, 7, seed=1)
    mean, log_var = normal(4, 2, seed=2), normal(4, 2, seed=3)
    q, p = Normal(mean, (0.5 * log_var).exp()), Normal(torch.zeros(2), torch.ones(2))
    # Pixels lie between 0 and 1, where the Bernoulli density is not normalised but still is the loss.
    likelihood = Bernoulli(logits=logits, validate_args=False).log_prob(images).sum(-1)
    expected = likelihood - kl_divergence(q, p).sum(-1)
    torch.testing.assert_close(lower_bound(images, logits, mean, log_var), expected)


def test_bound_is_below_the_likelihood():
    # One latent value, one pixel: log p(x) by a fine sum over the latent variable.
    torch.manual_seed(0)
    vae = DenseVAEs([3], hidden=4, latent=1, pixels=1).double()
    image = torch.ones(1, 1, 1, dtype=torch.float64)
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    p_x = vae.decode(z.view(1, -1, 1)).sigmoid().flatten()
    log_p = torch.trapezoid(p_x * Normal(0.0, 1.0).log_prob(z).exp(), z).log()
    bounds = vae(image.expand(1, 20_000, 1), normal(1, 20_000, 1)).mean()
    assert bounds < log_p


def make(kind, seeds):
    return DenseVAEs(seeds, 6, 2, 3 * SIDE**2) if kind == "dense" else ConvolutionalVAEs(seeds, 2)


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_videos_together_compute_what_each_computes_alone(kind):
    images, noise = normal(3, 4, 3 * SIDE**2).sigmoid().float(), normal(3, 4, 2).float()
    together = make(kind, [5, 50, 500])
    bounds = together(images, noise)
    for v, seed in enumerate([5, 50, 500]):
        alone = make(kind, [seed])
        expected = alone(images[v : v + 1], noise[v : v + 1])
        torch.testing.assert_close(bounds[v : v + 1], expected, rtol=1e-5, atol=1e-2)
        for a, b in zip(alone.parameters(), together.one(v).parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_a_video_s_gradient_comes_from_its_own_targets(kind):
    vae = make(kind, [5, 50])
    vae(normal(2, 3, 3 * SIDE**2).sigmoid().float(), normal(2, 3, 2).float())[0].sum().backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad[0].abs().sum() > 0, name
        assert parameter.grad[1].abs().sum() == 0, name


def test_the_paper_s_layers():
    vae = DenseVAEs([0])
    shapes = {n: tuple(p.shape[1:]) for n, p in vae.named_parameters() if n.endswith("weight")}
    assert shapes == {
        "encoder_weight": (12288, 512),
        "mean_weight": (512, 2),
        "log_var_weight": (512, 2),
        "decoder_weight": (2, 512),
        "output_weight": (512, 12288),
    }
