"""What an agent sees: the part of a picture in a box, and its descriptor.

Source: Wang et al., SINT++, CVPR 2018, Section 4.2.1, "State".
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lightning_trackers.backbones import VGG16
from lightning_trackers.backbones.imagenet import load_imagenet
from lightning_trackers.ops import roi_align
from lightning_trackers.siamese import normalise


def look_at(pictures: Tensor, boxes_xyxy: Tensor, size: int) -> Tensor:
    """Return the parts of pictures that boxes show, resized.

    Args:
        pictures: uint8, shape ``(N, 3, S, S)``.
        boxes_xyxy: One box each, shape ``(N, 4)``, shares of the picture.
        size: Side of the result, px.

    Returns:
        Regions, float in [0, 255], shape ``(N, 3, size, size)``.
    """
    boxes = boxes_xyxy[:, None] * pictures.shape[-1]  # (N, 1, 4), px
    return roi_align(pictures.float(), boxes, size)[:, 0]


class RegionFeatures(nn.Module, ABC):
    """Descriptor of regions; it never learns.

    Attributes:
        region_size: Side of the regions that it takes, px.
        size: Length of a descriptor.
    """

    region_size: int
    size: int

    @abstractmethod
    def forward(self, regions: Tensor) -> Tensor:
        """Return descriptors, ``(N, 3, region_size, region_size)`` in [0, 255] to ``(N, size)``."""


class VGGFeatures(RegionFeatures):
    """The eighth convolution of VGG-16 on regions of 224 × 224 px.

    Deviation: conv4_1's map of 28 × 28 × 512 is averaged to ``cells`` × ``cells``. The paper does not
    say how the eighth layer becomes a vector; as it is, it would have 401,408 numbers, and a replay
    memory of 10,000 transitions 30 GB. (Counted on AlexNet's VGG variants, the eighth layer would be
    the classes' scores.)

    Args:
        weights: File of ImageNet weights, ``download``, or ``random``.
        cells: Cells along each axis.
    """

    def __init__(self, weights: str = "random", cells: int = 2) -> None:
        super().__init__()
        self.region_size = 224
        self.network = VGG16(("conv4_1",), pools=3)
        if weights != "random":
            load_imagenet(self.network, weights)
        self.pool = nn.AdaptiveAvgPool2d(cells)
        self.size = self.network.out_channels[0] * cells**2
        self.eval().requires_grad_(False)

    def forward(self, regions: Tensor) -> Tensor:
        """Return descriptors, ``(N, 3, 224, 224)`` to ``(N, size)``."""
        features: Tensor = self.pool(self.network(normalise(regions))[0])
        return features.flatten(1)


class PixelFeatures(RegionFeatures):
    """The region's pixels, for the laptop profile: small, and no network to run at every step.

    Args:
        region_size: Side to which regions are averaged, px.
    """

    def __init__(self, region_size: int = 12) -> None:
        super().__init__()
        self.region_size = region_size
        self.size = 3 * region_size**2

    def forward(self, regions: Tensor) -> Tensor:
        """Return centred pixels, ``(N, 3, H, W)`` to ``(N, 3 * H * W)``."""
        return (regions / 127.5 - 1).flatten(1)
