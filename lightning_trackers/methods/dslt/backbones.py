"""Backbones that hand out a shallow and a deep map: ResNet-50 as published, and a tiny one.

Source: Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Section 4 (third and fourth
block of ResNet-50); He et al., Deep Residual Learning, CVPR 2016, Table 1.
"""

from torch import Tensor, nn

from lightning_trackers.backbones import ResNet50, Tiny
from lightning_trackers.backbones.resnet50 import Bottleneck


class StridedResNet50(ResNet50):
    """ResNet-50 with its published strides: Res3 (512 channels) at 8 px, Res4 (1024) at 16 px.

    What :class:`ResNet50` changes for Siamese trackers (dilation, an unpadded stem, wide shortcuts) is
    taken back; parameters have torchvision's names and shapes. For images of 8 n + 1 px, n even, the
    middle cell of both maps lies on the middle pixel.
    """

    deep_stride = 16

    def __init__(self) -> None:
        super().__init__(outputs=(2, 3))
        self.conv1.padding = (3, 3)
        for i in (1, 2, 3):
            layer = self.get_submodule(f"layer{i}")
            for b, block in enumerate(layer.children()):
                assert isinstance(block, Bottleneck)
                stride = 2 if i > 1 and b == 0 else 1
                block.conv2.stride = (stride, stride)
                block.conv2.padding = block.conv2.dilation = (1, 1)
                if block.downsample is not None:
                    inputs, outputs = block.conv1.in_channels, block.conv3.out_channels
                    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                    block.downsample[0] = conv


class TinyLevels(Tiny):
    """:class:`Tiny`, whose third convolution hands out its features too, as its weights are.

    Both maps have stride 8. Nothing is padded, so the deep map lacks four cells on every side of the
    shallow one: 263 px become 31 × 31 and 23 × 23 cells.

    Args:
        width: Channels of the first convolution; the shallow map has 3 times as many.
        out_channels: Channels of the deep map.
    """

    out_channels: tuple[int, int]  # type: ignore[assignment]  # one number in Tiny

    def __init__(self, width: int = 24, out_channels: int = 128) -> None:
        super().__init__(width, out_channels)
        self.out_channels = (3 * width, out_channels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return both maps, ``(B, 3, H, W)`` to ``(B, C_i, H_i, W_i)`` each."""
        shallow: Tensor = self.layers[:9](images)  # after the ReLU
        deep: Tensor = self.layers[9:](shallow)
        return shallow, deep
