"""A network of hand-made features and a drawn target, for the tests of this room."""

import numpy as np
import torch
from torch import nn

from lightning_trackers.losses import ShrinkageRegressionLoss
from lightning_trackers.methods.dslt import DSLT, DSLTSettings, DSLTTracker
from lightning_trackers.siamese import for_inference


class Patches(nn.Module):
    """The image in cells of 8 px: what is bright and what is dark, and the same once more, blurred."""

    stride = 8
    out_channels = (6, 6)

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        cells = nn.functional.avg_pool2d(images, 8) * self.scale
        shallow = torch.cat([cells.relu(), (-cells).relu()], dim=1)
        return shallow, nn.functional.avg_pool2d(shallow, 3, stride=1)  # a cell less on each side


def network(**options):
    torch.manual_seed(0)
    return for_inference(DSLT(Patches(), **{"channels": 8} | options))


def tracker(loss=None, options=None, **settings):
    settings = {
        "search_size": 264, "scale_size": 200, "regression_lr": 0.03, "reduction_lr": 1e-3,
        "initial_iterations": 60,
    } | settings  # fmt: skip
    return DSLTTracker(
        network(**options or {}), loss or ShrinkageRegressionLoss(), DSLTSettings(**settings)
    )


def video(count=10, seed=0, size=(40, 40), step=(4, 2)):
    """A rectangle of coloured tiles that moves over grey noise, and its boxes."""
    rng = np.random.default_rng(seed)
    width, height = size
    tiles = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    tiles = tiles[:height, :width]
    background = rng.integers(110, 140, (200, 260, 3)).astype(np.uint8)
    frames, boxes = [], []
    for t in range(count):
        frame = background.copy()
        x, y = 60 + step[0] * t, 70 + step[1] * t
        frame[y : y + height, x : x + width] = tiles
        frames.append(frame)
        boxes.append([x, y, x + width, y + height])
    return frames, np.array(boxes, dtype=np.float32)
