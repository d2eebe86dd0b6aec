"""AlexNet without padding, stride 8: the embedding of SiamFC and SiamRPN.

Source: Bertinetto et al., Fully-Convolutional Siamese Networks, ECCVW 2016, Table 1.
"""

from torch import Tensor, nn


class AlexNet(nn.Module):
    """Five unpadded convolutions with batch norm; ReLU after all but the last.

    127 px become 6 × 6 cells, 255 px become 22 × 22.

    Args:
        groups: Groups of conv2, conv4 and conv5: 2 as in SiamFC's table, 1 as in the SiamRPN toolkit.
        widths: Channels of the five convolutions. SiamFC's table has ``(96, 256, 384, 384, 256)``.
    """

    stride = 8

    def __init__(
        self, groups: int = 1, widths: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    ) -> None:
        super().__init__()
        w1, w2, w3, w4, w5 = widths
        self.out_channels = w5
        self.layers = nn.Sequential(
            *_conv(3, w1, 11, stride=2),
            nn.MaxPool2d(3, 2),
            nn.ReLU(inplace=True),
            *_conv(w1, w2, 5, groups=groups),
            nn.MaxPool2d(3, 2),
            nn.ReLU(inplace=True),
            *_conv(w2, w3, 3),
            nn.ReLU(inplace=True),
            *_conv(w3, w4, 3, groups=groups),
            nn.ReLU(inplace=True),
            *_conv(w4, w5, 3, groups=groups),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return features, ``(B, 3, H, W)`` to ``(B, C, H', W')`` with ``H' = (H - 79) // 8``."""
        features: Tensor = self.layers(images)
        return features

    def from_imagenet(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the published files' weights, ``features.0.weight``, under this network's names."""
        return {name.replace("features.", "layers.", 1): value for name, value in state.items()}


def _conv(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, kernel, stride, groups=groups), nn.BatchNorm2d(outputs)
