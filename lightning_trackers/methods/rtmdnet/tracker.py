"""RT-MDNet online: a frame is looked at once, around the target, and boxes take what they need of it.

Source: Jung et al., Real-Time MDNet, ECCV 2018, Section 3.5; the loop is ``online/tracker.py``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightning_trackers.backbones.vgg_m import PIXEL_OFFSET
from lightning_trackers.box_sampling import MIN_SIDE
from lightning_trackers.methods.rtmdnet.network import RTMDNet
from lightning_trackers.online import OnlineSettings, OnlineTracker
from lightning_trackers.scenes import Scene, padded, scene_around

_FILL = np.full(3, PIXEL_OFFSET)
_TOGETHER = 64  # small scenes of a forward pass


class Looked(NamedTuple):
    """A frame that has been looked at.

    Args:
        frame: The frame.
        scene: Which part of it.
        maps: Dense features of that part, ``(1, C, H', W')``.
    """

    frame: np.ndarray
    scene: Scene
    maps: Tensor


class SceneFeatures:
    """Features of boxes from one pass over the surroundings of the target.

    A box that does not lie in them, e.g. a negative sample from elsewhere in the first frame, is
    looked at by itself, at the same scale.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        reach: How far the centres of boxes lie from where the target was, relative to the mean of
            its width and height; the scene is as large as they need.

    Raises:
        ValueError: If ``reach`` is not positive.
    """

    def __init__(self, network: RTMDNet, reach: float = 2.5) -> None:
        if not reach > 0:
            raise ValueError(f"rtmdnet: expected reach > 0, got {reach}")
        self.network = network
        self.reach = reach
        self._device = next(network.parameters()).device

    @torch.no_grad()
    def look(self, frames: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]) -> list[Looked]:
        """Return the frames with a map of the surroundings of each target."""
        looks = []
        for frame, box in zip(frames, boxes_xyxy, strict=True):
            net = self.network
            scene = scene_around(
                box,
                np.maximum(box[2:] - box[:2], MIN_SIDE),
                (frame.shape[1], frame.shape[0]),
                self.reach,
                net.padding,
                net.target_size,
                net.smallest,
            )
            looks.append(Looked(frame, scene, net.maps(self._images([scene.shown(frame, _FILL)]))))
        return looks

    @torch.no_grad()
    def features(self, looks: Sequence[Looked], boxes_xyxy: Sequence[np.ndarray]) -> list[Tensor]:
        """Return the features of the boxes of each frame, ``(n, d)`` for each."""
        return [self._of(look, own) for look, own in zip(looks, boxes_xyxy, strict=True)]

    def _of(self, look: Looked, boxes: np.ndarray) -> Tensor:
        in_scene = look.scene.to_scene(boxes)
        seen = padded(in_scene, self.network.padding)
        inside = ((seen[:, :2] >= 0) & (seen[:, 2:] <= look.scene.size_wh)).all(axis=1)
        found = self.network.features(look.maps, self._tensor(in_scene)[None])[0]  # (n, d)
        if not inside.all():
            found[torch.from_numpy(~inside).to(found.device)] = self._apart(look, boxes[~inside])
        return found

    def _apart(self, look: Looked, boxes: np.ndarray) -> Tensor:
        """Return the features of boxes that are looked at one by one, ``(n, d)``."""
        net, steps = self.network, look.scene.steps
        around = padded(boxes, net.padding)
        # Of one size, so that they can be looked at together.
        side = (around[:, 2:] - around[:, :2]).max(axis=0)
        centres = (around[:, :2] + around[:, 2:]) / 2
        least = max(net.smallest, *np.ceil(side / steps).astype(int))
        corners = centres - least * steps / 2
        found = []
        for i in range(0, len(boxes), _TOGETHER):
            scenes = [Scene(corner, steps, (least, least)) for corner in corners[i : i + _TOGETHER]]
            own = np.stack(
                [s.to_scene(b) for s, b in zip(scenes, boxes[i : i + _TOGETHER], strict=True)]
            )
            maps = net.maps(self._images([s.shown(look.frame, _FILL) for s in scenes]))
            found.append(net.features(maps, self._tensor(own)[:, None])[:, 0])
        return torch.cat(found)

    def _images(self, pictures: Sequence[np.ndarray]) -> Tensor:
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)  # channels-last memory
        return images.to(self._device)

    def _tensor(self, boxes: np.ndarray) -> Tensor:
        return torch.from_numpy(boxes).float().to(self._device)


class RTMDNetTracker(OnlineTracker[Looked]):
    """Follows targets with RT-MDNet.

    Args:
        network: Network prepared by ``siamese.for_inference``.
        loss: Loss of online learning.
        settings: Constants.
        reach: See :class:`SceneFeatures`.
    """

    def __init__(
        self, network: RTMDNet, loss: nn.Module, settings: OnlineSettings, reach: float = 2.5
    ) -> None:
        super().__init__(SceneFeatures(network, reach), network.head, loss, settings)
