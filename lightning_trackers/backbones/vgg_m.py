"""The first three convolutions of VGG-M, without padding: the features of MDNet and RT-MDNet.

Source: Chatfield et al., Return of the Devil in the Details, BMVC 2014 (VGG-M); Nam & Han, MDNet, CVPR
2016, Section 3.1 (107 px, three convolutions); py-MDNet ``modules/model.py`` (order of the layers);
Jung et al., Real-Time MDNet, ECCV 2018, Section 3.2 (dense features).
"""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_trackers.ops.normalised_pool import normalised_pool

PIXEL_OFFSET = 128.0  # what MDNet subtracts from pixels, of every channel

_CAFFE = re.compile(r"conv(\d)\.(weight|bias)")
_PY_MDNET = re.compile(r"conv(\d)\.0\.(weight|bias)")


class LocalResponseNorm(nn.Module):
    """Divide each value by a power of its neighbours' mean square over channels.

    The same as ``torch.nn.LocalResponseNorm``, which computes through a padded 3-D average pool, in a
    fraction of its time.

    Source: Krizhevsky et al., ImageNet Classification, NIPS 2012, Section 3.3.

    Args:
        size: Channels that are averaged: ``size // 2`` before the value's own, the rest from it on.
        alpha: Weight of the mean square.
        beta: Power.
        k: What is added to it.
    """

    def __init__(
        self, size: int = 2, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, features: Tensor) -> Tensor:
        """Return normalised features, ``(B, C, H, W)`` to ``(B, C, H, W)``."""
        squares = features.square()
        total = squares.clone()
        for shift in range(1, self.size // 2 + 1):
            total[:, shift:] += squares[:, :-shift]
        for shift in range(1, (self.size - 1) // 2 + 1):
            total[:, :-shift] += squares[:, shift:]
        divisor = total.mul_(self.alpha / self.size).add_(self.k)
        if self.beta == 0.75:  # two square roots instead of a logarithm and an exponential
            root = divisor.rsqrt()
            return features * root * root.sqrt()
        return features * divisor.pow(-self.beta)


class NormalisedPool(nn.Module):
    """ReLU, local response norm and max pool of 3 px with stride 2.

    Where nothing is to be learnt, on the CPU, the three are one pass over channels-last features.

    Args:
        norm_size: Channels of the norm.
    """

    def __init__(self, norm_size: int = 2) -> None:
        super().__init__()
        self.norm = LocalResponseNorm(norm_size)
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Return pooled features, ``(B, C, H, W)`` to ``(B, C, (H - 3) // 2 + 1, ...)``."""
        learns = torch.is_grad_enabled() and features.requires_grad
        plain = features.device.type == "cpu" and features.dtype == torch.float32
        if learns or not plain or self.norm.size != 2:
            pooled: Tensor = self.pool(self.norm(features.relu()))
            return pooled
        # (B, C, H, W) -> (B, H, W, C), for nothing where the memory is channels-last
        last = features.detach().permute(0, 2, 3, 1).contiguous().numpy()
        found = normalised_pool(last, self.norm.alpha, self.norm.k)
        return torch.from_numpy(found).permute(0, 3, 1, 2)  # (B, C, H', W')


class VGGM(nn.Module):
    """Three unpadded convolutions, each with ReLU; local response norm and pool after the first two.

    107 px become 3 × 3 cells. Parameters have py-MDNet's names, ``conv1.0.weight``. Images are RGB
    less 128.

    Args:
        widths: Channels of the three convolutions.
        norm_size: Channels of a local response norm: py-MDNet has 2, VGG-M itself 5.
        dense: Twice as many cells along each axis, as RT-MDNet has them: no pool after the second
            convolution, and the third one dilated by 3, which leaves a cell's receptive field at 75 px.
    """

    receptive_field = 75
    """Side of what a cell looks at, px; cell i begins at pixel ``stride * i``."""

    def __init__(
        self,
        widths: tuple[int, int, int] = (96, 256, 512),
        norm_size: int = 2,
        dense: bool = False,
    ) -> None:
        super().__init__()
        w1, w2, w3 = widths
        self.out_channels = w3
        self.stride = 8 if dense else 16
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, w1, 7, 2),  # 107 -> 51
            NormalisedPool(norm_size),  # 25
        )
        self.conv2 = nn.Sequential(
            nn.Conv2d(w1, w2, 5, 2),  # 11
            *([nn.ReLU(), LocalResponseNorm(norm_size)] if dense else [NormalisedPool(norm_size)]),
        )  # 11 if dense, else 5
        self.conv3 = nn.Sequential(  # 5 or 3
            nn.Conv2d(w2, w3, 3, dilation=3 if dense else 1), nn.ReLU(inplace=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None  # these convolutions have biases
                nn.init.zeros_(module.bias)
        with torch.no_grad():  # pixels reach to ± 128, features should begin near 1
            self.conv1[0].get_parameter("weight").div_(PIXEL_OFFSET / 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return features, ``(B, 3, H, W)`` to ``(B, C, H', W')``."""
        features: Tensor = self.conv3(self.conv2(self.conv1(images)))
        return features

    def from_imagenet(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return published weights as this network's; layers above conv3 fall away.

        Args:
            state: py-MDNet's names (``conv1.0.weight``, RGB) or Caffe's (``conv1.weight``, BGR: the
                first convolution's channels are turned round).
        """
        found = {}
        for name, value in state.items():
            own, caffe = _PY_MDNET.fullmatch(name), _CAFFE.fullmatch(name)
            match = own or caffe
            if match is None or int(match[1]) > 3:
                continue
            first = caffe is not None and name == "conv1.weight"
            found[f"conv{match[1]}.0.{match[2]}"] = value.flip(1) if first else value
        return found


def read_matconvnet(path: Path) -> dict[str, Tensor]:
    """Read the convolutions of MatConvNet's ``imagenet-vgg-m.mat`` under Caffe's layout, RGB.

    Returns:
        Tensors by py-MDNet's names.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no convolutions.
    """
    from scipy.io import loadmat  # type: ignore[import-untyped]

    if not path.is_file():
        raise FileNotFoundError(f"VGG-M weights {path}: no such file")
    layers = loadmat(path, simplify_cells=True, variable_names=["layers"]).get("layers", ())
    layers = [layers] if isinstance(layers, dict) else layers  # a single one
    weights = [layer["weights"] for layer in layers if len(layer.get("weights", ())) == 2]
    found = {}
    for number, (kernel, bias) in enumerate(weights[:3], start=1):
        tensor = (
            torch.from_numpy(kernel).float().permute(3, 2, 0, 1)
        )  # (H, W, I, O) -> (O, I, H, W)
        found[f"conv{number}.0.weight"] = tensor.contiguous()
        found[f"conv{number}.0.bias"] = torch.from_numpy(bias).float().flatten()
    if len(found) < 6:
        raise ValueError(
            f"VGG-M weights {path}: expected 'layers' with three convolutions, as MatConvNet's "
            f"imagenet-vgg-m.mat has, got {len(weights)}"
        )
    return found
