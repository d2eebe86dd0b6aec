"""The FCOS head of a Siamese tracker: at each place a score, a centre-ness and the four distances.

Source: Zhang and Zhang, Hard Negative Samples Emphasis Tracker without Anchors, MM 2020, Section 3.2,
Eq. 1 and Fig. 3; Tian et al., FCOS, ICCV 2019, Section 3.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_trackers.heads.rpn import Kernels
from lightning_trackers.ops import xcorr_depthwise


class PointMaps(NamedTuple):
    """What a head says of every place of the response map.

    Args:
        cls_logits: Logit of "target", shape ``(B, H, W)``: the difference of the two maps of S in
            Eq. 1, whose sigmoid is their softmax.
        centerness_logits: Logit of the centre-ness, shape ``(B, H, W)``.
        log_ltrb: Logarithms of the distances to the left, upper, right and lower side, in strides,
            shape ``(B, H, W, 4)``.
    """

    cls_logits: Tensor
    centerness_logits: Tensor
    log_ltrb: Tensor


class FCOSHead(nn.Module):
    """Depth-wise correlation, then a tower of 3 × 3 convolutions, for each of the two branches.

    The centre-ness comes from the classification tower by a 1 × 1 convolution, as the paper says; it
    does not say by what the score and the distances leave their towers, so they do likewise. The head
    gives logarithms of distances, as FCOS does, so that distances are positive.

    Args:
        in_channels: Channels of the features.
        hidden: Channels inside the head.
        layers: Convolutions of a tower; four in the paper.
        prior: Score that an untrained head gives to every place; the focal loss paper's 0.01, without
            which the many negatives drown the first steps.
        start_distance: Distance that an untrained head gives, strides. Half the side of a square
            target in its own exemplar crop of 127 px is 32 px.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int = 256,
        layers: int = 4,
        prior: float = 0.01,
        start_distance: float = 4.0,
    ) -> None:
        super().__init__()
        self.cls_exemplar = _conv(in_channels, hidden, padding=0)
        self.cls_search = _conv(in_channels, hidden, padding=0)
        self.box_exemplar = _conv(in_channels, hidden, padding=0)
        self.box_search = _conv(in_channels, hidden, padding=0)
        self.cls_tower = nn.Sequential(*(_conv(hidden, hidden, padding=1) for _ in range(layers)))
        self.box_tower = nn.Sequential(*(_conv(hidden, hidden, padding=1) for _ in range(layers)))
        self.cls_out = nn.Conv2d(hidden, 2, 1)
        self.centerness_out = nn.Conv2d(hidden, 1, 1)
        self.box_out = nn.Conv2d(hidden, 4, 1)
        background = math.log((1 - prior) / prior)
        _begin(self.cls_out, (background, 0.0))
        _begin(self.centerness_out, (0.0,))
        _begin(self.box_out, 4 * (math.log(start_distance),))

    def exemplar(self, features: Tensor) -> Kernels:
        """Return the kernels of exemplar features ``(B, C, Hz, Wz)``."""
        return Kernels(self.cls_exemplar(features), self.box_exemplar(features))

    def forward(self, features: Tensor, kernels: Kernels) -> PointMaps:
        """Return the maps for search features ``(B, C, Hx, Wx)``; H and W are Hx - Hz + 1 each."""
        cls = self.cls_tower(xcorr_depthwise(self.cls_search(features), kernels.cls))
        box = self.box_tower(xcorr_depthwise(self.box_search(features), kernels.box))
        background, target = self.cls_out(cls).unbind(1)  # (B, H, W) each
        centerness = self.centerness_out(cls)[:, 0]  # (B, H, W)
        return PointMaps(target - background, centerness, self.box_out(box).permute(0, 2, 3, 1))


def _conv(inputs: int, outputs: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _begin(conv: nn.Conv2d, answer: tuple[float, ...]) -> None:
    """Let a last convolution give this answer everywhere, but for a little noise."""
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    with torch.no_grad():
        conv.bias.copy_(torch.tensor(answer))
