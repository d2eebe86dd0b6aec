"""Cross-correlation of each exemplar with its own search region, as one grouped convolution."""

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
    kernels = exemplar.reshape(b * c, 1, *exemplar.shape[2:])  # (B * C, 1, Hz, Wz)
    response = functional.conv2d(search.reshape(1, b * c, hx, wx), kernels, groups=b * c)
    return response.reshape(b, c, *response.shape[2:])  # (B, C, Hx - Hz + 1, ...)
