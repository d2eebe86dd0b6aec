"""Convolution with fewer multiplications, for tracking on the CPU.

Source: Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for
Convolutional Neural Networks, CVPR 2016, Section 4.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Small points of both signs keep rounding low; 6 of them with infinity serve 3 × 3 kernels.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
_TILES = 64  # about so many go through the products together where an image has fewer


class WinogradConv2d(nn.Module):
    """Computes what a convolution of stride 1 computes, tile by tile.

    A tile of ``m`` × ``m`` outputs needs ``n`` × ``n`` inputs, ``n = m + r - 1`` for an ``r`` × ``r``
    kernel. Tiles and kernels are transformed so that their correlation becomes ``n * n`` products
    per channel instead of ``m * m * r * r``: 36 instead of 144 for ``m = 4`` and ``r = 3``. The
    products of all tiles are ``n * n`` matrix products over the channels.

    Worth it where both channel counts are large, as the transforms grow with their sum and the
    products with their product. A convolution of dilation ``d`` is an undilated one of each of the
    ``d`` × ``d`` images that take every ``d``-th pixel; their tiles go through the products together.
    Not trainable: the kernels are kept transformed.

    Args:
        conv: Convolution to replace; it stays as it is.
        tile: Side ``m`` of an output tile.

    Raises:
        ValueError: If the convolution is not of that kind.
    """

    kernels: Tensor
    to_tile: Tensor
    from_tile: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, tile: int = 4) -> None:
        super().__init__()
        if not is_plain(conv):
            raise ValueError(
                "WinogradConv2d: expected a square kernel, stride 1, the same padding and dilation on "
                f"both axes and one group, got {conv}"
            )
        self.tile = tile
        self.kernel_size = conv.kernel_size[0]
        self.dilation = conv.dilation[0]
        self.padding = int(conv.padding[0])
        inputs, kernel, outputs = transforms(tile, self.kernel_size)
        weight = torch.einsum("ak,bl,oikl->abio", kernel, kernel, conv.weight.detach().double())
        like = conv.weight
        self.register_buffer("kernels", weight.flatten(0, 1).to(like))  # (n * n, C, O)
        self.register_buffer("to_tile", torch.kron(inputs, inputs).to(like))  # (n * n, n * n)
        self.register_buffer("from_tile", torch.kron(outputs, outputs).to(like))  # (m * m, n * n)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().clone())

    def forward(self, images: Tensor) -> Tensor:
        """Return the convolution of images ``(B, C, H, W)``, channels last in memory."""
        together = self._together(images)
        found = [
            self._convolve(images[first : first + together])
            for first in range(0, max(1, len(images)), together)
        ]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _together(self, images: Tensor) -> int:
        """Return how many images are convolved at once.

        The products of several large images do not fit into the cache; small ones have so few tiles
        that reading the kernels would take longer than the products.
        """
        around = 2 * self.padding - self.dilation * (self.kernel_size - 1)
        outputs = (images.shape[2] + around) * (images.shape[3] + around)
        return max(1, _TILES * self.tile**2 // outputs)

    def _convolve(self, images: Tensor) -> Tensor:
        b, c, h, w = images.shape
        m, n, d = self.tile, self.tile + self.kernel_size - 1, self.dilation
        around = 2 * self.padding - d * (self.kernel_size - 1)
        height, width = h + around, w + around
        rows, columns = -(-height // (d * m)), -(-width // (d * m))  # of each of the d * d images
        # The last tiles may be partial.
        bottom = d * (rows * m + self.kernel_size - 1) - h - self.padding
        right = d * (columns * m + self.kernel_size - 1) - w - self.padding
        padded = functional.pad(images, (self.padding, right, self.padding, bottom))
        shape = (b, padded.shape[2] // d, d, padded.shape[3] // d, d, c)
        pixels = padded.permute(0, 2, 3, 1).reshape(shape)  # every d-th: (B, H', d, W', d, C)
        tiles = pixels.unfold(1, n, m).unfold(3, n, m)  # (B, R, d, Q, d, C, n, n), overlapping
        # (n * n, B * R * d * Q * d * C)
        tiles = tiles.permute(6, 7, 0, 1, 2, 3, 4, 5).reshape(n * n, -1)
        products = torch.bmm((self.to_tile @ tiles).view(n * n, -1, c), self.kernels)
        found = self.from_tile @ products.view(n * n, -1)  # (m * m, B * R * d * Q * d * O)
        found = found.view(m, m, b, rows, d, columns, d, -1).permute(2, 3, 0, 4, 5, 1, 6, 7)
        found = found.reshape(b, rows * m * d, columns * m * d, -1)
        found = found[:, :height, :width]  # (B, H, W, O)
        if self.bias is not None:
            found = found + self.bias
        return found.permute(0, 3, 1, 2)


def is_plain(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is square, of stride 1 and ungrouped, padded with zeros if at all."""
    return (
        conv.kernel_size[0] == conv.kernel_size[1]
        and conv.stride == (1, 1)
        and not isinstance(conv.padding, str)
        and conv.padding[0] == conv.padding[1]
        and conv.dilation[0] == conv.dilation[1]
        and conv.padding_mode == "zeros"
        and conv.groups == 1
    )


def transforms(tile: int, kernel_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices that make correlation a product: inputs, kernel, outputs.

    For inputs d (n), kernel g (r) and outputs y (m) in one dimension, y = outputs @ ((kernel @ g) *
    (inputs @ d)). It is Toom-Cook interpolation, transposed: polynomials are multiplied through
    their values at n - 1 points and their leading coefficient (the point at infinity).

    Returns:
        Float64 matrices of shape ``(n, n)``, ``(n, r)`` and ``(m, n)``.

    Raises:
        ValueError: If more points are needed than there are.
    """
    n = tile + kernel_size - 1
    if not 2 <= n <= len(_POINTS) + 1:
        raise ValueError(
            f"winograd: expected tile + kernel size in 3..{len(_POINTS) + 2}, got {tile} and "
            f"{kernel_size}"
        )
    points = torch.tensor(_POINTS[: n - 1], dtype=torch.float64)
    inputs = torch.zeros(n, n, dtype=torch.float64)
    kernel = torch.zeros(n, kernel_size, dtype=torch.float64)
    outputs = torch.zeros(tile, n, dtype=torch.float64)
    for j, point in enumerate(points):
        others = torch.cat([points[:j], points[j + 1 :]])
        inputs[j, : n - 1] = _polynomial(others)
        kernel[j] = point ** torch.arange(kernel_size) / (point - others).prod()
        outputs[:, j] = point ** torch.arange(tile)
    inputs[-1] = _polynomial(points)
    kernel[-1, -1] = outputs[-1, -1] = 1
    return inputs, kernel, outputs


def _polynomial(roots: Tensor) -> Tensor:
    """Return the coefficients of the product of (x - root), constant term first."""
    coefficients = torch.ones(1, dtype=roots.dtype)
    for root in roots:
        shifted = functional.pad(coefficients, (1, 0))  # times x
        coefficients = shifted - root * functional.pad(coefficients, (0, 1))
    return coefficients
