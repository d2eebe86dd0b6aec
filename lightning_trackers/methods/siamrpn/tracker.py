"""SiamRPN online: anchors moved by their offsets, one forward pass for all targets.

Source: Li et al., SiamRPN, CVPR 2018, Section 4.3; constants of pysot's ``siamrpn_alex_dwxcorr``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_trackers.heads import Kernels, Proposals
from lightning_trackers.methods.siamrpn.anchors import decode
from lightning_trackers.methods.siamrpn.network import SiamRPN
from lightning_trackers.proposal_tracker import ProposalSettings, ProposalTracker, Proposed


@dataclass(frozen=True)
class SiamRPNSettings(ProposalSettings):
    """Constants of the tracker; see :class:`ProposalSettings`."""


class SiamRPNTracker(ProposalTracker):
    """Follows targets with a trained network.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        settings: Constants.
    """

    network: SiamRPN

    def __init__(self, network: SiamRPN, settings: SiamRPNSettings) -> None:
        super().__init__(network, settings)
        self._anchors: dict[int, Tensor] = {}

    def propose(self, images: Tensor, kernels: Kernels) -> Proposed:
        """Return the boxes and scores of all anchors."""
        proposals: Proposals = self.network.track(images, kernels)
        logits = proposals.cls_logits.float().cpu()  # (B, A, H, W)
        cells = logits.shape[-1]
        if cells not in self._anchors:
            self._anchors[cells] = self.network.anchors_cxcywh(cells, images.shape[-1])
        boxes = decode(proposals.box_deltas.float().cpu(), self._anchors[cells])
        return Proposed(boxes, torch.sigmoid(logits))
