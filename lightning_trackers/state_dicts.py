"""Names and tensors of a network: read from a file without executing it, compared with what fits."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_SHOWN = 5  # names of each kind of difference
_SUFFIXES = (".ckpt", ".pt", ".pth", ".tar", ".model")


def read_tensor_file(path: Path, what: str) -> Any:
    """Return what ``torch.save`` wrote, if it is made of tensors and plain containers alone.

    Args:
        path: The file.
        what: What the file should be, for messages.

    Raises:
        FileNotFoundError: If there is no such file; the message names those beside it.
        ValueError: If it is anything else. A pickle that names other functions or classes is refused;
            nothing in it is called.
    """
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.glob("*") if p.suffix in _SUFFIXES)
        raise FileNotFoundError(
            f"{what} {path}: no such file; {path.parent} holds {beside or 'no checkpoint'}"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = (
            f"it asks for {asked[1]}, which was not called; expected tensors and plain containers"
            if asked
            else str(error).strip().partition("\n")[0]
        )
        raise ValueError(f"{what} {path}: not a file of weights: {reason}") from error


def check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> None:
    """Check that two sets of tensors have the same names and shapes.

    Args:
        expected: What a network has, tensors of any device.
        found: What a file holds.
        what: What the file is, for messages.

    Raises:
        ValueError: If they differ; the message names the first five names of each kind.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    reshaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    parts = [
        f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", reshaped),
        )
        if names
    ]
    if parts:
        raise ValueError(f"{what}: weights of another architecture; {'; '.join(parts)}")
