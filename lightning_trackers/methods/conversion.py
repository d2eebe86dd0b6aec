"""Published weights of other code bases as checkpoints of this project.

Every source has an explicit map of names. Names without a counterpart are an error on either side.
The other code's input convention is folded into the first convolution, and its crop geometry and
tracking constants go into the recipe, so the result runs like any checkpoint of ours.

Source: STVIR/pysot d04028f (networks and ``experiments/*/config.yaml``); huanglianghua/siamfc-pytorch
3957205 (``siamfc/backbones.py``, ``heads.py``, ``siamfc.py``).
Deviation: both toolkits round the side and the corner of a crop to whole frame px and ours does not,
because crops would then jump by a pixel; boxes differ by a fraction of one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_trackers.methods.loading import build, write_checkpoint
from lightning_trackers.siamese import normalise
from lightning_trackers.state_dicts import check_fit, read_tensor_file

_COUNTER = "num_batches_tracked"  # absent before torch 0.4.1; nothing reads it


@dataclass(frozen=True)
class Published:
    """A network of another code base.

    Args:
        network: Recipe of the same network here.
        tracker: Recipe of its tracker, with the other code's constants.
        names: Maps of the beginnings of our names to theirs; several where published files differ.
        adapt: Turns their values, under our names, into ours in place.
    """

    network: Mapping[str, Any]
    tracker: Mapping[str, Any]
    names: tuple[Mapping[str, str], ...]
    adapt: Callable[[dict[str, Tensor]], None]


def convert(source: str, checkpoint: Path, out: Path) -> None:
    """Write published weights as a checkpoint that ``load_tracker`` reads.

    Args:
        source: A key of :data:`SOURCES`.
        checkpoint: The published file, a state dict by itself or under the key ``state_dict``.
        out: File to write.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the source is unknown, the file is no state dict, or its names or shapes are
            not those of the source; the message names the first five of each kind.
    """
    if source not in SOURCES:
        raise ValueError(f"source={source}: no such source; there are {', '.join(SOURCES)}")
    published = SOURCES[source]
    weights = translated(published, read_state_dict(checkpoint), f"{source} {checkpoint}")
    write_checkpoint(out, {"network": published.network, "tracker": published.tracker}, weights)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the names and tensors of a published file, without the prefix of a parallel training.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds anything else.
    """
    content = read_tensor_file(path, "checkpoint")
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(
            f"checkpoint {path}: expected a state dict (names and tensors), by itself or under the "
            "key 'state_dict'"
        )
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def translated(published: Published, state: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Return published weights under our names and for our input convention, float32.

    Args:
        published: Where they come from.
        state: Their names and tensors.
        what: The file, for messages.

    Raises:
        ValueError: If names or shapes differ.
    """
    with torch.device("meta"):  # names and shapes alone
        ours = build(published.network).state_dict()
    pairs = max(
        ({name: _their_name(name, prefixes) for name in ours} for prefixes in published.names),
        key=lambda pairs: sum(theirs in state for theirs in pairs.values()),
    )
    counters = {
        n: torch.tensor(0) for n in pairs.values() if n is not None and n.endswith(_COUNTER)
    }
    state = counters | dict(state)
    expected = {theirs: ours[name] for name, theirs in pairs.items() if theirs is not None}
    check_fit(expected, state, what)
    weights = {
        name: state[theirs].float() if value.is_floating_point() else state[theirs]
        for name, value in ours.items()
        if (theirs := pairs[name]) is not None
    }
    published.adapt(weights)
    return weights


def _their_name(name: str, prefixes: Mapping[str, str]) -> str | None:
    """Return their name of ours, None if they have no such tensor."""
    for ours, theirs in prefixes.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return None


def _expect_raw_pixels(
    weights: dict[str, Tensor], conv: str, offset: str, sign: int, *, bgr: bool
) -> None:
    """Fold the input convention into the first convolution, which is not padded.

    Theirs sees pixels in [0, 255], ours ``(pixel - mean) / std`` in RGB order.

    Args:
        weights: Changed in place.
        conv: Name of the convolution.
        offset: Name of the tensor that takes the constant part: a bias, or what is subtracted next.
        sign: 1 for a bias, -1 for what is subtracted.
        bgr: Whether their first channel is blue.
    """
    black = normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.float64)
    white = normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), torch.float64)
    std = 255 / (white - black)  # (1, 3, 1, 1)
    mean = -black * std
    kernel = weights[f"{conv}.weight"].double()  # (O, 3, h, w)
    if bgr:
        kernel = kernel.flip(1)
    constant = (kernel * mean).sum(dim=(1, 2, 3))  # (O,)
    weights[f"{conv}.weight"] = (kernel * std).float()
    weights[offset] = (weights[offset].double() + sign * constant).float()


def _adapt_siamrpn(weights: dict[str, Tensor]) -> None:
    _expect_raw_pixels(weights, "backbone.layers.0", "backbone.layers.0.bias", 1, bgr=True)


def _adapt_siamrpnpp(weights: dict[str, Tensor]) -> None:
    _expect_raw_pixels(weights, "backbone.conv1", "backbone.bn1.running_mean", -1, bgr=True)


def _adapt_siamrpnpp_otb(weights: dict[str, Tensor]) -> None:
    _adapt_siamrpnpp(weights)
    # The softmax of equal weights is the mean.
    weights |= {"head.cls_weights": torch.ones(3), "head.box_weights": torch.ones(3)}


def _adapt_siamfc(weights: dict[str, Tensor]) -> None:
    _expect_raw_pixels(weights, "backbone.layers.0", "backbone.layers.0.bias", 1, bgr=False)
    ours, theirs = 1e-5, 1e-6  # what batch norm adds to the variance
    for layer in (1, 5, 9, 12):
        norm = f"backbone.layers.{layer}"
        variance = weights[f"{norm}.running_var"].double()
        gain = torch.sqrt((variance + ours) / (variance + theirs))
        weights[f"{norm}.weight"] = (weights[f"{norm}.weight"].double() * gain).float()
    # They have no batch norm behind the last convolution and no bias on the response.
    channels = len(weights["backbone.layers.14.bias"])
    weights |= {
        "backbone.layers.15.weight": torch.full((channels,), (1 + ours) ** 0.5),
        "backbone.layers.15.bias": torch.zeros(channels),
        "backbone.layers.15.running_mean": torch.zeros(channels),
        "backbone.layers.15.running_var": torch.ones(channels),
        f"backbone.layers.15.{_COUNTER}": torch.tensor(0),
        "bias": torch.tensor(0.0),
    }


_ALEXNET = {
    "_target_": "lightning_trackers.backbones.AlexNet",
    "groups": 1,
    "widths": [96, 256, 384, 384, 256],
}
_ANCHORS = {"anchor_ratios": [0.33, 0.5, 1, 2, 3], "anchor_scale": 8}


def _head_names(ours: str, theirs: str) -> dict[str, str]:
    """Return the map of one depth-wise proposal head."""
    return {
        f"{ours}.{branch}_{part}.": f"{theirs}.{their_branch}.{their_part}."
        for branch, their_branch in (("cls", "cls"), ("box", "loc"))
        for part, their_part in (
            ("exemplar", "conv_kernel"),
            ("search", "conv_search"),
            ("out", "head"),
        )
    }


# Convolutions and batch norms of our AlexNet, in the order in which the other codes number them.
_ALEXNET_LAYERS = ((0, 1), (4, 5), (8, 9), (11, 12), (14, 15))


def _alexnet_names(theirs: str) -> dict[str, str]:
    """Return the map for files that name convolution i ``<theirs>i.0`` and its norm ``...i.1``."""
    return {
        f"backbone.layers.{layer}.": f"backbone.{theirs}{i}.{part}."
        for i, layers in enumerate(_ALEXNET_LAYERS, start=1)
        for part, layer in enumerate(layers)
    }


def _pysot_tracker(
    search_size: int, scale_penalty: float, window_influence: float, size_lr: float
) -> dict[str, Any]:
    return {
        "_target_": "lightning_trackers.methods.siamrpn.SiamRPNTracker",
        "_partial_": True,
        "settings": {
            "_target_": "lightning_trackers.methods.siamrpn.SiamRPNSettings",
            "exemplar_size": 127,
            "search_size": search_size,
            "context_amount": 0.5,
            "scale_penalty": scale_penalty,
            "window_influence": window_influence,
            "size_lr": size_lr,
            "min_side": 10.0,
        },
    }


_SIAMRPNPP = {
    "_target_": "lightning_trackers.methods.siamrpn.SiamRPN",
    "backbone": {"_target_": "lightning_trackers.backbones.ResNet50", "outputs": [2, 3, 4]},
    "head": {
        "_target_": "lightning_trackers.methods.siamrpnpp.LayerwiseRPN",
        "_partial_": True,
        "hidden": 256,
        "exemplar_cells": 7,
    },
    **_ANCHORS,
}
_SIAMRPNPP_NAMES = {
    "backbone.": "backbone.",
    **{f"head.adjust.{i}.": f"neck.downsample{i + 2}.downsample." for i in range(3)},
    **_head_names("head.rpns.0", "rpn_head.rpn2"),
    **_head_names("head.rpns.1", "rpn_head.rpn3"),
    **_head_names("head.rpns.2", "rpn_head.rpn4"),
}

SOURCES: Mapping[str, Published] = {
    # siamrpn_alex_dwxcorr
    "pysot_siamrpn": Published(
        network={
            "_target_": "lightning_trackers.methods.siamrpn.SiamRPN",
            "backbone": _ALEXNET,
            "head": {
                "_target_": "lightning_trackers.heads.DepthwiseRPN",
                "_partial_": True,
                "hidden": 256,
            },
            **_ANCHORS,
        },
        tracker=_pysot_tracker(287, 0.16, 0.40, 0.30),
        names=(
            # alexnetlegacy, and alexnet, which its training writes
            {"backbone.layers.": "backbone.features."} | _head_names("head", "rpn_head"),
            _alexnet_names("layer") | _head_names("head", "rpn_head"),
        ),
        adapt=_adapt_siamrpn,
    ),
    # siamrpn_r50_l234_dwxcorr
    "pysot_siamrpnpp": Published(
        network=_SIAMRPNPP,
        tracker=_pysot_tracker(255, 0.05, 0.42, 0.38),
        names=(
            _SIAMRPNPP_NAMES
            | {
                "head.cls_weights": "rpn_head.cls_weight",
                "head.box_weights": "rpn_head.loc_weight",
            },
        ),
        adapt=_adapt_siamrpnpp,
    ),
    # siamrpn_r50_l234_dwxcorr_otb, which takes the plain mean of its three heads
    "pysot_siamrpnpp_otb": Published(
        network=_SIAMRPNPP,
        tracker=_pysot_tracker(255, 0.24, 0.50, 0.25),
        names=(_SIAMRPNPP_NAMES,),
        adapt=_adapt_siamrpnpp_otb,
    ),
    "siamfc_pytorch": Published(
        network={
            "_target_": "lightning_trackers.methods.siamfc.SiamFC",
            "backbone": {**_ALEXNET, "groups": 2},
            "response_scale": 1e-3,
        },
        tracker={
            "_target_": "lightning_trackers.methods.siamfc.SiamFCTracker",
            "_partial_": True,
            "settings": {
                "_target_": "lightning_trackers.methods.siamfc.SiamFCSettings",
                "exemplar_size": 127,
                "search_size": 255,
                "context_amount": 0.5,
                "scales": 3,
                "scale_step": 1.0375,
                "scale_penalty": 0.9745,
                "scale_lr": 0.59,
                "window_influence": 0.176,
                "upsampling": 16,
            },
        },
        names=(
            {
                ours: theirs
                for ours, theirs in _alexnet_names("conv").items()
                if ours != "backbone.layers.15."
            },
        ),
        adapt=_adapt_siamfc,
    ),
}
"""Published networks by the name that ``experiments.convert source=`` takes."""
