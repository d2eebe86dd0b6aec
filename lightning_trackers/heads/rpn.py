"""Region proposal heads that compare exemplar and search features.

Source: Li et al., High Performance Visual Tracking with Siamese Region Proposal Network, CVPR 2018,
Section 3.2 (up-channel correlation); Li et al., SiamRPN++, CVPR 2019, Section 3.3 (depth-wise).

Both heads keep two logits per anchor, background first, as the published weights do, and hand out
their difference: the sigmoid of the difference is the softmax of the two.
"""

from typing import NamedTuple

from torch import Tensor, nn

from lightning_trackers.ops import xcorr, xcorr_depthwise


class Kernels(NamedTuple):
    """What is kept of an exemplar while it is tracked.

    Args:
        cls: Classification kernels, first axis B.
        box: Box-regression kernels, first axis B.
    """

    cls: Tensor
    box: Tensor


class Proposals(NamedTuple):
    """What a head says of every anchor.

    Args:
        cls_logits: Logit of "target", shape ``(B, A, H, W)``.
        box_deltas: Offsets and log sizes relative to the anchor, shape ``(B, A, H, W, 4)``.
    """

    cls_logits: Tensor
    box_deltas: Tensor


class DepthwiseRPN(nn.Module):
    """Depth-wise correlation, then two 1 × 1 convolutions, for each of the two branches.

    Args:
        in_channels: Channels of the backbone's features.
        anchors: Anchors per cell.
        hidden: Channels inside the head.
    """

    def __init__(self, in_channels: int, anchors: int = 5, hidden: int = 256) -> None:
        super().__init__()
        self.cls_exemplar = _adjust(in_channels, hidden)
        self.cls_search = _adjust(in_channels, hidden)
        self.cls_out = _out(hidden, 2 * anchors)
        self.box_exemplar = _adjust(in_channels, hidden)
        self.box_search = _adjust(in_channels, hidden)
        self.box_out = _out(hidden, 4 * anchors)

    def exemplar(self, features: Tensor) -> Kernels:
        """Return the kernels of exemplar features ``(B, C, Hz, Wz)``."""
        return Kernels(self.cls_exemplar(features), self.box_exemplar(features))

    def forward(self, features: Tensor, kernels: Kernels) -> Proposals:
        """Return the proposals for search features ``(B, C, Hx, Wx)``."""
        cls = self.cls_out(xcorr_depthwise(self.cls_search(features), kernels.cls))
        box = self.box_out(xcorr_depthwise(self.box_search(features), kernels.box))
        return _proposals(cls, box)


class UpChannelRPN(nn.Module):
    """Full correlation with as many kernels as there are outputs (Eq. 15 of the shrinkage paper).

    Args:
        in_channels: Channels of the backbone's features.
        anchors: Anchors per cell.
    """

    def __init__(self, in_channels: int, anchors: int = 5) -> None:
        super().__init__()
        self.cls_exemplar = nn.Conv2d(in_channels, in_channels * 2 * anchors, 3)
        self.cls_search = nn.Conv2d(in_channels, in_channels, 3)
        self.box_exemplar = nn.Conv2d(in_channels, in_channels * 4 * anchors, 3)
        self.box_search = nn.Conv2d(in_channels, in_channels, 3)
        self.box_out = nn.Conv2d(4 * anchors, 4 * anchors, 1)

    def exemplar(self, features: Tensor) -> Kernels:
        """Return the kernels of exemplar features ``(B, C, Hz, Wz)``."""
        return Kernels(self.cls_exemplar(features), self.box_exemplar(features))

    def forward(self, features: Tensor, kernels: Kernels) -> Proposals:
        """Return the proposals for search features ``(B, C, Hx, Wx)``."""
        cls = xcorr(self.cls_search(features), kernels.cls)
        box = self.box_out(xcorr(self.box_search(features), kernels.box))
        return _proposals(cls, box)


def _proposals(cls: Tensor, box: Tensor) -> Proposals:
    background, target = cls.chunk(2, dim=1)  # (B, A, H, W) each
    b, coordinates, h, w = box.shape
    deltas = box.reshape(b, 4, coordinates // 4, h, w).permute(0, 2, 3, 4, 1)  # (B, A, H, W, 4)
    return Proposals(target - background, deltas)


def _adjust(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _out(hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(hidden, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, outputs, 1),
    )
