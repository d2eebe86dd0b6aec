"""A small unpadded network with AlexNet's geometry, for profiles that train in minutes."""

from torch import Tensor, nn


class Tiny(nn.Module):
    """Convolutions of stride 2, 2, 2, 1, ... without padding, so that features move with the image.

    Without padding the exemplar's cells see exactly what the same cells of a search region see; a
    padded network would mark the border and break the correlation.

    127 px become 6 × 6 cells, 255 px become 22 × 22, as in :class:`AlexNet`.

    Args:
        width: Channels of the first convolution; the following have 2, 3, 4 and 4 times as many.
        out_channels: Channels of the features.
    """

    stride = 8

    def __init__(self, width: int = 24, out_channels: int = 128) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.layers = nn.Sequential(
            *_conv(3, width, 7, stride=2),  # 127 -> 61, 255 -> 125
            *_conv(width, 2 * width, 3, stride=2),  # 30, 62
            *_conv(2 * width, 3 * width, 4, stride=2),  # 14, 30
            *_conv(3 * width, 4 * width, 3),  # 12, 28
            *_conv(4 * width, 4 * width, 3),  # 10, 26
            *_conv(4 * width, 4 * width, 3),  # 8, 24
            *_conv(4 * width, out_channels, 3)[:-1],  # 6, 22; no ReLU: the correlation needs signs
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return features, ``(B, 3, H, W)`` to ``(B, C, H', W')``."""
        features: Tensor = self.layers(images)
        return features


def _conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, kernel, stride, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
