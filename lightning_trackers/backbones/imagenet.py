"""First weights of a backbone: those of a network that learnt to classify ImageNet."""

from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_trackers.state_dicts import check_fit, read_tensor_file

DOWNLOAD = "download"


def load_imagenet(backbone: nn.Module, source: str | Path) -> None:
    """Load a backbone's weights, every one of them, from a file of tensors.

    The weights must belong to RGB images of ImageNet's mean and deviation, as torchvision's do. A
    backbone with ``from_imagenet`` says how names and shapes of the published file become its own;
    another one's file has the backbone's own names.

    Args:
        backbone: Network to fill.
        source: The file, or ``download`` for torchvision's own from the server that hosts it, kept in
            torch.hub's folder and checked against the hash in its name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not one of tensors, names or shapes differ, or nobody hosts weights
            for this backbone.
    """
    state = _downloaded(backbone) if source == DOWNLOAD else _read(Path(source))
    if hasattr(backbone, "from_imagenet"):
        state = backbone.from_imagenet(state)  # type: ignore[operator]
    own = backbone.state_dict()
    # Files of before torch 0.4.1 lack these counters, which nothing reads.
    state = {n: v for n, v in own.items() if n.endswith("num_batches_tracked")} | state
    check_fit(own, state, f"ImageNet weights {source} for {type(backbone).__name__}")
    backbone.load_state_dict(state)


def _downloaded(backbone: nn.Module) -> dict[str, Tensor]:
    url = getattr(backbone, "imagenet_url", None)
    if url is None:
        raise ValueError(
            f"ImageNet weights: nobody hosts any for {type(backbone).__name__}; give a file"
        )
    state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
        url, map_location="cpu", check_hash=True, weights_only=True
    )
    return state


def _read(path: Path) -> dict[str, Tensor]:
    state = read_tensor_file(path, "ImageNet weights")
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"ImageNet weights {path}: expected names and tensors, as "
            "torch.save(model.state_dict()) writes them"
        )
    return state
