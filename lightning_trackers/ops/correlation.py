"""Cross-correlation of each exemplar with its own search region, as one grouped convolution.

ONNX fixes the number of a convolution's groups, and there is a group for each exemplar here. A graph
for any number of targets is therefore exported with products and shifted sums in their place.
"""

import torch
from torch import Tensor
from torch.nn import functional


def xcorr(search: Tensor, exemplar: Tensor) -> Tensor:
    """Correlate every exemplar with its search region over all channels.

    Source: Bertinetto et al., Fully-Convolutional Siamese Networks, ECCVW 2016, Eq. 2.

    Args:
        search: Search features, shape ``(B, C, Hx, Wx)``.
        exemplar: Exemplar features, shape ``(B, O * C, Hz, Wz)``; O kernels per exemplar.

    Returns:
        Response, shape ``(B, O, Hx - Hz + 1, Wx - Wz + 1)``.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    b, c, hx, wx = search.shape
    if exemplar.shape[0] != b or exemplar.shape[1] % c:
        raise ValueError(
            f"xcorr: expected an exemplar of shape ({b}, k * {c}, Hz, Wz), got "
            f"{tuple(exemplar.shape)}"
        )
    outputs = exemplar.shape[1] // c
    if torch.onnx.is_in_onnx_export():
        return _shifted_products(search, exemplar.reshape(b, outputs, c, *exemplar.shape[2:]))
    kernels = exemplar.reshape(b * outputs, c, *exemplar.shape[2:])  # (B * O, C, Hz, Wz)
    response = functional.conv2d(search.reshape(1, b * c, hx, wx), kernels, groups=b)
    return response.reshape(b, outputs, *response.shape[2:])  # (B, O, Hx - Hz + 1, ...)


def xcorr_depthwise(search: Tensor, exemplar: Tensor) -> Tensor:
    """Correlate every exemplar with its search region channel by channel.

    Source: Li et al., SiamRPN++, CVPR 2019, Section 3.3.

    Args:
        search: Search features, shape ``(B, C, Hx, Wx)``.
        exemplar: Exemplar features, shape ``(B, C, Hz, Wz)``.

    Returns:
        Response, shape ``(B, C, Hx - Hz + 1, Wx - Wz + 1)``.

    Raises:
        ValueError: If batch or channels differ.
    """
    b, c, hx, wx = search.shape
    if exemplar.shape[:2] != (b, c):
        raise ValueError(
            f"xcorr_depthwise: expected an exemplar of shape ({b}, {c}, Hz, Wz), got "
            f"{tuple(exemplar.shape)}"
        )
    if torch.onnx.is_in_onnx_export():
        return _shifted_sums(search, exemplar)
    kernels = exemplar.reshape(b * c, 1, *exemplar.shape[2:])  # (B * C, 1, Hz, Wz)
    response = functional.conv2d(search.reshape(1, b * c, hx, wx), kernels, groups=b * c)
    return response.reshape(b, c, *response.shape[2:])  # (B, C, Hx - Hz + 1, ...)


def _shifted_products(search: Tensor, kernels: Tensor) -> Tensor:
    """Correlate over all channels: every kernel cell with every search cell, then shifted sums.

    Args:
        search: Shape ``(B, C, Hx, Wx)``.
        kernels: Shape ``(B, O, C, Hz, Wz)``.
    """
    b, outputs, c, hz, wz = kernels.shape
    hx, wx = search.shape[2:]
    cells = kernels.permute(0, 3, 4, 1, 2).reshape(b, hz * wz * outputs, c)
    products = torch.bmm(cells, search.reshape(b, c, hx * wx))  # (B, Hz * Wz * O, Hx * Wx)
    products = products.reshape(b, hz, wz, outputs, hx, wx)
    height, width = hx - hz + 1, wx - wz + 1
    terms = [
        products[:, i, j, :, i : i + height, j : j + width] for i in range(hz) for j in range(wz)
    ]
    return sum(terms[1:], start=terms[0])  # (B, O, Hx - Hz + 1, Wx - Wz + 1)


def _shifted_sums(search: Tensor, kernels: Tensor) -> Tensor:
    """Correlate channel by channel: ``(B, C, Hx, Wx)`` with ``(B, C, Hz, Wz)``."""
    hz, wz = kernels.shape[2:]
    height, width = search.shape[2] - hz + 1, search.shape[3] - wz + 1
    rows = [search[:, :, i : i + height] for i in range(hz)]
    cells = kernels.flatten(2)[..., None, None].unbind(2)  # Hz * Wz of (B, C, 1, 1)
    terms = [rows[i][..., j : j + width] * cells[i * wz + j] for i in range(hz) for j in range(wz)]
    return sum(terms[1:], start=terms[0])  # (B, C, Hx - Hz + 1, Wx - Wz + 1)
