"""The SiamRPN network: one backbone for both crops, a region proposal head between them.

Source: Li et al., High Performance Visual Tracking with Siamese Region Proposal Network, CVPR 2018,
Section 3; Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Eq. 15.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lightning_trackers.heads import Kernels, Proposals
from lightning_trackers.methods.siamrpn.anchors import anchor_sides, grid_anchors


class SiamRPN(nn.Module):
    """Compares an exemplar with a search region.

    Args:
        backbone: Feature extractor with ``stride`` and ``out_channels``.
        head: Makes the head from ``in_channels`` and ``anchors`` (their number a cell).
        anchor_ratios: Height over width of a cell's anchors.
        anchor_scale: Side of the square anchor in strides.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: Callable[..., nn.Module],
        anchor_ratios: Sequence[float] = (0.33, 0.5, 1, 2, 3),
        anchor_scale: float = 8,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head(in_channels=backbone.out_channels, anchors=len(anchor_ratios))
        self.stride = int(backbone.stride)  # type: ignore[arg-type]
        self.anchor_sides = anchor_sides(anchor_ratios, anchor_scale, self.stride)

    def anchors_cxcywh(self, cells: int, search_size: int) -> Tensor:
        """Return the anchors of a response map, ``(A, cells, cells, 4)``, search-crop px."""
        return grid_anchors(self.anchor_sides, cells, self.stride, search_size)

    def exemplar(self, images: Tensor) -> Kernels:
        """Return what is kept of exemplar images ``(B, 3, Hz, Wz)``."""
        kernels: Kernels = self.head.exemplar(self.backbone(images))  # type: ignore[operator]
        return kernels

    def track(self, images: Tensor, kernels: Kernels) -> Proposals:
        """Return proposals in search images ``(B, 3, Hx, Wx)``."""
        proposals: Proposals = self.head(self.backbone(images), kernels)
        return proposals

    def forward(self, exemplars: Tensor, searches: Tensor) -> Proposals:
        """Return proposals for exemplars ``(B, 3, Hz, Wz)`` in searches ``(B, 3, Hx, Wx)``."""
        return self.track(searches, self.exemplar(exemplars))
