"""MDNet online: every candidate is cut out of the frame and looked at by itself.

Source: Nam & Han, MDNet, CVPR 2016, Algorithm 1; the loop is ``online/tracker.py``.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lightning_trackers.backbones.vgg_m import PIXEL_OFFSET
from lightning_trackers.crops import crop_box
from lightning_trackers.methods.mdnet.network import MDNet
from lightning_trackers.online import OnlineSettings, OnlineTracker

_FILL = np.full(3, PIXEL_OFFSET)
_CPU_BATCH = 32  # crops whose activations fit into a CPU's cache: a fifth faster than 256 at once


class CropFeatures:
    """Features of boxes, each stretched to a square with a margin around it.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        padding: Margin on each side of the box, crop px.
        batch_size: Crops of a forward pass, a limit of memory; on the CPU 32 at most.

    Raises:
        ValueError: If the margin leaves nothing of a crop, or ``batch_size`` is not positive.
    """

    def __init__(self, network: MDNet, padding: int = 16, batch_size: int = 256) -> None:
        if not 0 <= 2 * padding < network.crop_size or batch_size < 1:
            raise ValueError(
                f"mdnet: expected 0 <= 2 * padding < {network.crop_size} and batch_size >= 1, got "
                f"padding={padding} batch_size={batch_size}"
            )
        self.network = network
        self.padding = padding
        self._device = next(network.parameters()).device
        on_cpu = self._device.type == "cpu"
        self.batch_size = min(batch_size, _CPU_BATCH) if on_cpu else batch_size

    def look(
        self, frames: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return the frames as they are."""
        return list(frames)

    @torch.no_grad()
    def features(
        self, looks: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[Tensor]:
        """Return the features of the boxes of each frame, ``(n, d)`` for each."""
        wanted = [(look, box) for look, own in zip(looks, boxes_xyxy, strict=True) for box in own]
        found = [
            self._features_of(wanted[i : i + self.batch_size])
            for i in range(0, len(wanted), self.batch_size)
        ]
        return list(torch.split(torch.cat(found), [len(own) for own in boxes_xyxy]))

    def _features_of(self, wanted: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tensor:
        size = self.network.crop_size
        crops = np.stack([crop_box(look, box, size, self.padding, _FILL) for look, box in wanted])
        images = torch.from_numpy(crops).permute(0, 3, 1, 2)  # (B, 3, S, S), channels-last memory
        return self.network.features(images.to(self._device))


class MDNetTracker(OnlineTracker[np.ndarray]):
    """Follows targets with MDNet, or with SPGA's two ideas on top of it.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        loss: Loss of online learning: cross-entropy (MDNet) or the gradient sensitive loss (SPGA).
        settings: Constants; ``update.generated`` is the number of statistical positives (SPGA).
        padding: Margin around a candidate in its crop, crop px.
        batch_size: Crops of a forward pass.
    """

    def __init__(
        self,
        network: MDNet,
        loss: nn.Module,
        settings: OnlineSettings,
        padding: int = 16,
        batch_size: int = 256,
    ) -> None:
        super().__init__(CropFeatures(network, padding, batch_size), network.head, loss, settings)
