"""Variational autoencoders of many videos that learn at once, each from its own video alone.

Source: Wang et al., SINT++, CVPR 2018, Section 4.1, Eq. 2-4; Kingma and Welling, Auto-Encoding
Variational Bayes, ICLR 2014.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 64
"""Side of a target, px."""


def negative_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """Return ``-KL(N(mean, var) || N(0, I))`` in closed form (Eq. 3), ``(..., J)`` to ``(...)``."""
    return 0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(-1)


def lower_bound(images: Tensor, logits: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return the bound on ``log p(x)`` from one sample of the latent variable (Eq. 4, L = 1).

    Args:
        images: What is to be explained, in [0, 1], shape ``(..., P)``.
        logits: Decoded from the sample; a pixel's Bernoulli probability is their sigmoid.
        mean: Of the latent variable, shape ``(..., J)``.
        log_var: Logarithm of its variance.

    Returns:
        Bound, nats, shape ``(...)``.
    """
    likelihood = -functional.binary_cross_entropy_with_logits(logits, images, reduction="none")
    return negative_kl(mean, log_var) + likelihood.sum(-1)


def _logits(shares: Tensor) -> Tensor:
    return shares.clamp(0.02, 0.98).logit()  # what is black or white has none


class VideoVAEs(nn.Module, ABC):
    """V autoencoders, one of each video; subclasses say what their layers are.

    No value of one video's enters another's, so that they learn what each would learn by itself: the
    first weights of a video depend on its seed alone.

    Args:
        seeds: A seed for each video.
        latent: Length J of the latent variable.

    Legend: V videos, N targets of a video, P = 3 * 64 * 64 values of a target, J latent values.
    """

    def __init__(self, seeds: Sequence[int], latent: int) -> None:
        super().__init__()
        self.seeds = tuple(seeds)
        self.latent = latent

    @abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, ``(V, N, J)`` each, of images in [0, 1], ``(V, N, P)``."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Return the logits of pixels, ``(V, N, J)`` to ``(V, N, P)``."""

    @abstractmethod
    def one(self, video: int) -> "VideoVAEs":
        """Return a copy of one video's autoencoder."""

    @abstractmethod
    def begin_at(self, images: Tensor) -> None:
        """Put the last layers' biases where they show these images, ``(V, P)`` in [0, 1]."""

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return the bound of each image, ``(V, N)``.

        Args:
            images: Shape ``(V, N, P)``, in [0, 1].
            noise: Standard normal, shape ``(V, N, J)``.
        """
        mean, log_var = self.encode(images)
        sample = mean + (0.5 * log_var).exp() * noise  # (V, N, J)
        return lower_bound(images, self.decode(sample), mean, log_var)

    def _weight(self, shape: Sequence[int], fan: tuple[int, int], number: int) -> nn.Parameter:
        """Return one layer's weights ``(V, *shape)``, uniform as Glorot and Bengio's (2010, Eq. 16)."""
        limit = sqrt(6 / sum(fan))
        drawn = [
            torch.rand(tuple(shape), generator=torch.Generator().manual_seed(seed + number))
            for seed in self.seeds
        ]
        return nn.Parameter(torch.stack(drawn).mul_(2 * limit).sub_(limit))

    def _dense(self, name: str, values: Tensor) -> Tensor:
        """Apply every video's own linear layer, ``(V, N, a)`` to ``(V, N, b)``."""
        weight, bias = self.get_parameter(f"{name}_weight"), self.get_parameter(f"{name}_bias")
        return torch.baddbmm(bias, values, weight)

    def _copied_from(self, other: "VideoVAEs", video: int) -> "VideoVAEs":
        """Take over another one's video number ``video``."""
        with torch.no_grad():
            for own, theirs in zip(self.parameters(), other.parameters(), strict=True):
                own.copy_(theirs[video : video + 1])
        return self


class DenseVAEs(VideoVAEs):
    """The paper's network: P -> 512 -> 2 -> 512 -> P, a batched matrix product a layer.

    The paper does not name the activation: ReLU, as in Keras's example, with which it shares Bernoulli
    likelihood, optimizer and the latent plane.

    Args:
        seeds: A seed for each video.
        hidden: Width of the layers between.
        latent: Length of the latent variable.
        pixels: Values of a target.
    """

    def __init__(
        self, seeds: Sequence[int], hidden: int = 512, latent: int = 2, pixels: int = 3 * SIDE**2
    ) -> None:
        super().__init__(seeds, latent)
        self.hidden, self.pixels = hidden, pixels
        sizes = {
            "encoder": (pixels, hidden),
            "mean": (hidden, latent),
            "log_var": (hidden, latent),
            "decoder": (latent, hidden),
            "output": (hidden, pixels),
        }
        for number, (name, size) in enumerate(sizes.items()):
            setattr(self, f"{name}_weight", self._weight(size, size, number))
            setattr(self, f"{name}_bias", nn.Parameter(torch.zeros(len(seeds), 1, size[1])))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`VideoVAEs`."""
        hidden = self._dense("encoder", images).relu()  # (V, N, H)
        return self._dense("mean", hidden), self._dense("log_var", hidden)

    def decode(self, latents: Tensor) -> Tensor:
        """See :class:`VideoVAEs`."""
        return self._dense("output", self._dense("decoder", latents).relu())

    @torch.no_grad()
    def begin_at(self, images: Tensor) -> None:
        """See :class:`VideoVAEs`."""
        self.get_parameter("output_bias").copy_(_logits(images)[:, None])

    def one(self, video: int) -> "VideoVAEs":
        """See :class:`VideoVAEs`."""
        alone = DenseVAEs(self.seeds[video : video + 1], self.hidden, self.latent, self.pixels)
        return alone._copied_from(self, video)


class ConvolutionalVAEs(VideoVAEs):
    """The variant that Section 4.1.2 mentions: strided convolutions, one group of channels a video.

    The paper gives no sizes: three convolutions of 4 × 4 and stride 2 make 8 × 8 cells of 64 × 64 px.

    Args:
        seeds: A seed for each video.
        width: Channels of the first convolution; the next ones have 2 and 4 times as many.
        latent: Length of the latent variable.
    """

    def __init__(self, seeds: Sequence[int], width: int = 16, latent: int = 2) -> None:
        super().__init__(seeds, latent)
        self.width = width
        self._channels = (3, width, 2 * width, 4 * width)
        self._cells = (4 * width, SIDE // 8, SIDE // 8)
        flat, videos = prod(self._cells), len(seeds)
        for i, (few, many) in enumerate(pairwise(self._channels)):
            # Convolutions have their outputs first, transposed ones their inputs: the same shape.
            for number, (name, bias) in enumerate((("down", many), ("up", few))):
                weight = self._weight((many, few, 4, 4), (16 * few, 16 * many), 2 * i + number)
                setattr(self, f"{name}{i}_weight", weight)
                setattr(self, f"{name}{i}_bias", nn.Parameter(torch.zeros(videos, bias)))
        sizes = {"mean": (flat, latent), "log_var": (flat, latent), "decoder": (latent, flat)}
        for number, (name, size) in enumerate(sizes.items()):
            setattr(self, f"{name}_weight", self._weight(size, size, 6 + number))
            setattr(self, f"{name}_bias", nn.Parameter(torch.zeros(videos, 1, size[1])))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`VideoVAEs`."""
        values = images.reshape(*images.shape[:2], 3, SIDE, SIDE)  # (V, N, 3, S, S)
        for i in range(3):
            values = self._convolve(f"down{i}", values, functional.conv2d).relu()
        hidden = values.flatten(2)  # (V, N, F)
        return self._dense("mean", hidden), self._dense("log_var", hidden)

    def decode(self, latents: Tensor) -> Tensor:
        """See :class:`VideoVAEs`."""
        values = self._dense("decoder", latents).reshape(*latents.shape[:2], *self._cells)
        for i in (2, 1, 0):
            values = self._convolve(f"up{i}", values.relu(), functional.conv_transpose2d)
        return values.flatten(2)  # (V, N, P)

    @torch.no_grad()
    def begin_at(self, images: Tensor) -> None:
        """Put them where they show the images' mean colours; see :class:`VideoVAEs`."""
        colours = images.view(len(images), 3, -1).mean(-1)  # (V, 3)
        self.get_parameter("up0_bias").copy_(_logits(colours))

    def one(self, video: int) -> "VideoVAEs":
        """See :class:`VideoVAEs`."""
        alone = ConvolutionalVAEs(self.seeds[video : video + 1], self.width, self.latent)
        return alone._copied_from(self, video)

    def _convolve(self, name: str, values: Tensor, operation: Callable[..., Tensor]) -> Tensor:
        weight, bias = self.get_parameter(f"{name}_weight"), self.get_parameter(f"{name}_bias")
        videos = len(self.seeds)
        found = operation(
            values.transpose(0, 1).flatten(1, 2),  # (N, V * C, H, W)
            weight.flatten(0, 1),
            bias.flatten(),
            stride=2,
            padding=1,
            groups=videos,
        )
        apart = found.reshape(len(found), videos, -1, *found.shape[2:])
        return apart.transpose(0, 1)  # (V, N, C', H', W')
