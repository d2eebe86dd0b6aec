"""The anchor-free tracker online.

Source: Zhang and Zhang, Hard Negative Samples Emphasis Tracker without Anchors, MM 2020, Section 3.5,
Eq. 9-11.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_trackers.boxes import xyxy_to_cxcywh
from lightning_trackers.heads import Kernels
from lightning_trackers.methods.hnse.network import HNSE
from lightning_trackers.proposal_tracker import ProposalSettings, ProposalTracker, Proposed


@dataclass(frozen=True)
class HNSESettings(ProposalSettings):
    """Constants of the tracker.

    The paper gives none of them but the crops' sizes in training. k of Eq. 10 is ``-scale_penalty``:
    with a positive k a change would be rewarded.

    Deviation: the paper takes the size of the box at the best place; here sizes are interpolated as in
    SiamRPN, from which its penalty comes, because boxes of single frames flicker.
    """

    search_size: int = 255


class HNSETracker(ProposalTracker):
    """Follows targets with a trained network; the exemplar is the first frame's throughout.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        settings: Constants.
    """

    network: HNSE

    def __init__(self, network: HNSE, settings: HNSESettings) -> None:
        super().__init__(network, settings)

    def propose(self, images: Tensor, kernels: Kernels) -> Proposed:
        """Return boxes, and the softmax of S times the centre-ness as scores."""
        maps = self.network.track(images, kernels)
        boxes_xyxy = self.network.boxes_xyxy(maps.log_ltrb, images.shape[-1])  # (B, H, W, 4)
        # The sigmoid of the logits' difference is the softmax of the two.
        scores = maps.cls_logits.float().sigmoid() * maps.centerness_logits.float().sigmoid()
        return Proposed(xyxy_to_cxcywh(boxes_xyxy)[:, None].cpu(), scores[:, None].cpu())

    def penalty(self, change: Tensor, strength: Tensor) -> Tensor:
        """Return exp(k max(r/r', r'/r) max(s/s', s'/s)), Eq. 10 to the letter: exp(k) for no change."""
        return torch.exp(-strength * change)
