"""What SiamRPN++ adds to SiamRPN: a proposal head on each of three depths of a deep backbone.

Source: Li et al., SiamRPN++: Evolution of Siamese Visual Tracking with Very Deep Networks, CVPR 2019,
Sections 3.2 to 3.4 (Eq. 2: layer-wise aggregation).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_trackers.heads import DepthwiseRPN, Kernels, Proposals


class LayerwiseRPN(nn.Module):
    """One depth-wise proposal head per depth; their answers are added with learnt weights.

    ``SiamRPN(ResNet50(), LayerwiseRPN)`` is SiamRPN++.

    The weights are softmax values, one set for the scores and one for the boxes, and the same for every
    place and anchor.

    Args:
        in_channels: Channels of the backbone's features, from shallow to deep.
        anchors: Anchors per cell.
        hidden: Channels that every depth is brought to.
        exemplar_cells: Side of the middle part of the exemplar's features that is kept: a padded
            backbone marks the border, and smaller kernels cost less.

    Raises:
        ValueError: If the backbone has features of one depth only.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        anchors: int = 5,
        hidden: int = 256,
        exemplar_cells: int = 7,
    ) -> None:
        super().__init__()
        if isinstance(in_channels, int):
            raise ValueError(
                "siamrpnpp: expected a backbone with features of several depths, such as ResNet50 or "
                f"TinyResNet, got one with {in_channels} channels"
            )
        self.exemplar_cells = exemplar_cells
        self.adjust = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden))
            for inputs in in_channels
        )
        self.rpns = nn.ModuleList(DepthwiseRPN(hidden, anchors, hidden) for _ in in_channels)
        self.cls_weights = nn.Parameter(torch.ones(len(in_channels)))
        self.box_weights = nn.Parameter(torch.ones(len(in_channels)))

    def exemplar(self, features: Sequence[Tensor]) -> Kernels:
        """Return the kernels of exemplar features ``(B, C_i, Hz, Wz)``, D depths: ``(B, D, C, h, w)``."""
        kernels: list[Kernels] = [
            rpn.exemplar(centre(adjust(depth), self.exemplar_cells))  # type: ignore[operator]
            for rpn, adjust, depth in zip(self.rpns, self.adjust, features, strict=True)
        ]
        return Kernels(
            torch.stack([k.cls for k in kernels], 1), torch.stack([k.box for k in kernels], 1)
        )

    def forward(self, features: Sequence[Tensor], kernels: Kernels) -> Proposals:
        """Return the proposals for search features ``(B, C_i, Hx, Wx)``."""
        proposals: list[Proposals] = [
            rpn(adjust(depth), Kernels(cls, box))
            for rpn, adjust, depth, cls, box in zip(
                self.rpns,
                self.adjust,
                features,
                kernels.cls.unbind(1),
                kernels.box.unbind(1),
                strict=True,
            )
        ]
        return Proposals(
            fuse([p.cls_logits for p in proposals], self.cls_weights),
            fuse([p.box_deltas for p in proposals], self.box_weights),
        )


def centre(features: Tensor, cells: int) -> Tensor:
    """Return the middle ``cells`` × ``cells`` of features ``(B, C, H, W)``.

    Raises:
        ValueError: If there are fewer.
    """
    height, width = features.shape[-2:]
    if min(height, width) < cells:
        raise ValueError(
            f"exemplar: expected at least {cells} x {cells} cells, got {height} x {width}; make "
            "exemplar_size larger or exemplar_cells smaller"
        )
    top, left = (height - cells) // 2, (width - cells) // 2
    return features[..., top : top + cells, left : left + cells]


def fuse(answers: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return the sum of equally shaped tensors, weighted with the softmax of ``weights`` (Eq. 2)."""
    shares = torch.softmax(weights, dim=0)
    first, *rest = (answer * share for answer, share in zip(answers, shares, strict=True))
    fused: Tensor = sum(rest, first)
    return fused
