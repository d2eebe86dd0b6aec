"""A small stand-in for :class:`VGG16` where whole regions are compared, for profiles of minutes."""

from torch import Tensor, nn


class TinyVGG(nn.Module):
    """Padded convolutions of stride 2, 2, 1, ...: two levels of features at stride 4, and one layer more.

    As with :class:`VGG16`, all features are taken after a ReLU, and :meth:`fc6` looks at pooled regions
    of the last level.

    Args:
        width: Channels of the first convolution; the two levels have 4 times as many.
        pool: Bins along each axis of the regions that :meth:`fc6` is given.
        hidden: Length of what it returns.
    """

    stride = 4

    def __init__(self, width: int = 16, pool: int = 5, hidden: int = 128) -> None:
        super().__init__()
        level = 4 * width
        self.out_channels = (level, level)
        self.level4 = nn.Sequential(
            *_conv(3, width, 5, stride=2),
            *_conv(width, 2 * width, 3, stride=2),
            *_conv(2 * width, 2 * width, 3),
            *_conv(2 * width, level, 3),
        )
        self.level5 = nn.Sequential(*_conv(level, level, 3), *_conv(level, level, 3))
        self.classifier = nn.Sequential(nn.Linear(level * pool * pool, hidden), nn.ReLU())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of both levels, ``(B, 3, H, W)`` to ``(B, C, H / 4, W / 4)`` each."""
        level4 = self.level4(images)
        return level4, self.level5(level4)

    def fc6(self, regions: Tensor) -> Tensor:
        """Return the last layer's answer to pooled regions, ``(N, C, P, P)`` to ``(N, hidden)``."""
        found: Tensor = self.classifier(regions.flatten(1))
        return found


def _conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
