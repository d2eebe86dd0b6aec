"""ResNet-50 at stride 8: the last three blocks keep the resolution and dilate their convolutions.

Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, Table 1; Li et al.,
SiamRPN++, CVPR 2019, Section 3.4; geometry of pysot's ``resnet_atrous``.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

_EXPANSION = 4  # channels of a bottleneck's output, relative to its 3 × 3 convolution


class DilatedResNet(nn.Module):
    """Bottleneck blocks whose layers 2, 3 and 4 all have stride 8.

    Layer 2 has stride 2 and is, like the stem's 7 × 7 convolution, not padded; layers 3 and 4 have
    stride 1 and dilation 2 and 4 (half of it in the block that changes the number of channels). The
    shortcuts that change it are 3 × 3 convolutions from layer 2 on, so that they see what the block's
    own 3 × 3 convolution sees. The middle cell lies on the middle pixel: 127 px become 15 × 15 cells,
    255 px become 31 × 31. The border of a padded network differs from its inside, so exemplars are
    compared by their central cells alone.

    Parameters have torchvision's names.

    Args:
        blocks: Bottlenecks of layers 1 to 4.
        width: Channels of the stem; layers 1 to 4 put out 4, 8, 16 and 32 times as many.
        outputs: Layers whose features are handed out, of 2, 3 and 4; those above the last one are not
            made.

    Raises:
        ValueError: If there are not four counts of blocks, or an output is no layer.
    """

    stride = 8

    def __init__(
        self, blocks: Sequence[int], width: int, outputs: Sequence[int] = (2, 3, 4)
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"ResNet: expected four positive counts of blocks, got {blocks}")
        if not outputs or list(outputs) != sorted(set(outputs) & {2, 3, 4}):
            raise ValueError(f"ResNet: expected rising outputs out of 2, 3, 4, got {outputs}")
        self.outputs = tuple(outputs)
        self.out_channels = tuple(_EXPANSION * width * 2 ** (i - 1) for i in outputs)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for i in range(1, max(outputs) + 1):
            inner = width * 2 ** (i - 1)
            stride, dilation = (2, 1) if i == 2 else (1, 2 ** max(0, i - 2))
            first = Bottleneck(channels, inner, stride, max(1, dilation // 2), wide_shortcut=i > 1)
            channels = _EXPANSION * inner
            rest = (Bottleneck(channels, inner, 1, dilation) for _ in range(blocks[i - 1] - 1))
            self.add_module(f"layer{i}", nn.Sequential(first, *rest))
        _initialise(self)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the features of every output layer, ``(B, 3, H, W)`` to ``(B, C_i, H', W')`` each."""
        features = functional.relu(self.bn1(self.conv1(images)), inplace=True)  # stride 2
        features = functional.max_pool2d(features, 3, stride=2, padding=1)  # stride 4
        found = []
        for i in range(1, max(self.outputs) + 1):
            features = self.get_submodule(f"layer{i}")(features)
            if i in self.outputs:
                found.append(features)
        return tuple(found)


class ResNet50(DilatedResNet):
    """ResNet-50 with layers 2, 3, 4 at stride 8: 512, 1024 and 2048 channels."""

    imagenet_url = "https://download.pytorch.org/models/resnet50-0676ba61.pth"

    def __init__(self, outputs: Sequence[int] = (2, 3, 4)) -> None:
        super().__init__((3, 4, 6, 3), 64, outputs)

    def from_imagenet(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a classification network's weights as this network's.

        The classifier and the layers above the last output fall away. torchvision's shortcuts are
        1 × 1 convolutions; here they are the middle of a 3 × 3 one that is 0 around it, which computes
        the same.
        """
        dropped = ("fc.", *(f"layer{i}." for i in range(max(self.outputs) + 1, 5)))
        mine = self.state_dict()
        found = {}
        for name, value in state.items():
            if name.startswith(dropped):
                continue
            if name.endswith("downsample.0.weight") and name in mine:
                margin = (mine[name].shape[-1] - value.shape[-1]) // 2
                value = functional.pad(value, [margin] * 4)
            found[name] = value
        return found


class TinyResNet(DilatedResNet):
    """The same geometry with one bottleneck a layer, for profiles that train in minutes.

    Args:
        width: Channels of the stem; layers 2, 3 and 4 put out 8, 16 and 32 times as many.
        outputs: Layers whose features are handed out.
    """

    def __init__(self, width: int = 8, outputs: Sequence[int] = (2, 3, 4)) -> None:
        super().__init__((1, 1, 1, 1), width, outputs)


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 and 1 × 1 convolution beside a shortcut.

    Args:
        inputs: Channels of the input.
        inner: Channels inside; the output has four times as many.
        stride: Stride of the 3 × 3 convolution, which is padded only at stride 1.
        dilation: Dilation of the 3 × 3 convolution.
        wide_shortcut: Whether a shortcut that changes the channels is 3 × 3 rather than 1 × 1.
    """

    def __init__(
        self, inputs: int, inner: int, stride: int, dilation: int, wide_shortcut: bool = True
    ) -> None:
        super().__init__()
        outputs = _EXPANSION * inner
        padding = dilation if stride == 1 else 0
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if inputs != outputs:
            conv = (
                nn.Conv2d(inputs, outputs, 3, stride, padding, dilation, bias=False)
                if wide_shortcut
                else nn.Conv2d(inputs, outputs, 1, bias=False)
            )
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Return features ``(B, inputs, H, W)`` as ``(B, 4 * inner, H', W')``."""
        found = functional.relu(self.bn1(self.conv1(features)), inplace=True)
        found = functional.relu(self.bn2(self.conv2(found)), inplace=True)
        found = self.bn3(self.conv3(found))
        shortcut = features if self.downsample is None else self.downsample(features)
        return functional.relu(found.add_(shortcut), inplace=True)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
