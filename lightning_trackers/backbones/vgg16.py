"""VGG-16 with its first two pools, stride 4: dense features of small targets.

Source: Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015, Table 1, column D; Tao et
al., Siamese Instance Search for Tracking, CVPR 2016, Section 3.1 (the later pools are left out).
"""

from collections.abc import Sequence

from torch import Tensor, nn

_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """Thirteen padded convolutions in five blocks, and the first fully connected layer.

    Features are taken after the ReLU. Parameters have torchvision's names: ``features.28`` is conv5_3,
    ``classifier.0`` is fc6.

    Args:
        outputs: Convolutions whose features are handed out, e.g. ``conv4_3``, in rising order; what
            lies above the last one is not made.
        pools: How many of the pools between the blocks are kept; each doubles the stride.
        fc6: Whether to make the fully connected layer that :meth:`fc6` applies to pooled regions.

    Raises:
        ValueError: If an output is not a convolution of the table, or the pools are not 0 to 4.
    """

    imagenet_url = "https://download.pytorch.org/models/vgg16-397923af.pth"

    def __init__(
        self,
        outputs: Sequence[str] = ("conv4_3", "conv5_3"),
        pools: int = 2,
        fc6: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= pools < len(_BLOCKS):
            raise ValueError(f"VGG16: expected 0 to {len(_BLOCKS) - 1} pools, got {pools}")
        self.stride = 2**pools
        layers: list[nn.Module] = []
        ends: dict[str, int] = {}
        widths: dict[str, int] = {}
        channels = 3
        for b, block in enumerate(_BLOCKS, start=1):
            for c, width in enumerate(block, start=1):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
                ends[f"conv{b}_{c}"], widths[f"conv{b}_{c}"] = len(layers), width
            # A pool that is left out keeps its place, so that the names behind it stay torchvision's.
            layers.append(nn.MaxPool2d(2) if b <= pools else nn.Identity())
        if not outputs or [n for n in ends if n in set(outputs)] != list(outputs):
            raise ValueError(f"VGG16: expected rising outputs out of {list(ends)}, got {outputs}")
        self.out_channels = tuple(widths[name] for name in outputs)
        self._ends = tuple(ends[name] for name in outputs)
        self.features = nn.Sequential(*layers[: self._ends[-1]])
        self.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 4096), nn.ReLU()) if fc6 else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None  # VGG's convolutions have biases
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the features of every output, ``(B, 3, H, W)`` to ``(B, C_i, H', W')`` each."""
        features = images
        found = []
        begin = 0
        for end in self._ends:
            features = self.features[begin:end](features)
            found.append(features)
            begin = end
        return tuple(found)

    def fc6(self, regions: Tensor) -> Tensor:
        """Return fc6 after its ReLU of pooled conv5_3 regions, ``(N, 512, 7, 7)`` to ``(N, 4096)``.

        Raises:
            ValueError: If the network was made without it.
        """
        if self.classifier is None:
            raise ValueError("VGG16: made without fc6; expected fc6=True")
        found: Tensor = self.classifier(regions.flatten(1))
        return found

    def from_imagenet(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a classification network's weights as this network's: what is not made falls away."""
        kept = {"classifier.0"} if self.classifier is not None else set()
        kept |= {f"features.{i}" for i in range(self._ends[-1])}
        return {n: v for n, v in state.items() if n.rpartition(".")[0] in kept}
