"""From a checkpoint, or a small file of weights, to a tracker.

Both hold a *recipe*: the plain description (class path and arguments) of network and tracker. Files
are read with ``weights_only=True`` and a recipe may name classes of this package alone, so nothing
that a downloaded file says is executed.
"""

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_trackers.evaluation.tracker import Tracker
from lightning_trackers.files import atomic_file
from lightning_trackers.runtime.onnx import Exported, OnnxNetwork
from lightning_trackers.siamese import for_inference
from lightning_trackers.state_dicts import check_fit, read_tensor_file

SHIPPED = Path(__file__).parents[1] / "weights" / "siamrpn_sl.pt"
"""Weights that come with the package: SiamRPN with shrinkage loss, trained on procedural video."""


def load_tracker(
    checkpoint: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    runtime: str = "torch",
) -> Tracker[Any]:
    """Build the tracker that a checkpoint describes.

    Args:
        checkpoint: A training's checkpoint or a file of :func:`save_weights`; the shipped weights by
            default. With ``runtime="onnx"`` the folder of an export, or one of its two files.
        settings: Tracker constants that replace the checkpoint's.
        device: Where the network runs.
        runtime: What runs it, ``torch`` or ``onnx`` (onnxruntime).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint of this project, its weights do not fit its
            recipe, or a setting or runtime is unknown.
        RuntimeError: If onnxruntime is asked for and missing, or has no such device.
    """
    if runtime == "onnx":
        recipe, network = _exported(checkpoint, device)
    elif runtime == "torch":
        path = SHIPPED if checkpoint is None else Path(checkpoint)
        recipe, weights = read_checkpoint(path)
        network = build(recipe["network"])
        load_weights(network, weights, f"checkpoint {path}")
        network = for_inference(network.to(device))
    else:
        raise ValueError(f"runtime={runtime}: no such runtime; there are torch and onnx")
    described = {**recipe["tracker"], "settings": _replaced(recipe["tracker"], settings or {})}
    tracker: Tracker[Any] = build(described)(network)
    return tracker


def read_recipe(checkpoint: Path, runtime: str = "torch") -> dict[str, Any]:
    """Return the recipe of a checkpoint, or of an export with ``runtime="onnx"``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of this project, or not an export.
    """
    return Exported.open(checkpoint).recipe if runtime == "onnx" else read_checkpoint(checkpoint)[0]


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the recipe and the network's weights (float32) of a checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of this project.
    """
    content = read_tensor_file(path, "checkpoint")
    if not isinstance(content, dict) or not {"recipe", "state_dict"} <= content.keys():
        raise ValueError(
            f"checkpoint {path}: expected the keys 'recipe' and 'state_dict', as this project's "
            "trainings and save_weights write them"
        )
    weights = {
        name.removeprefix("network."): value.float() if value.is_floating_point() else value
        for name, value in content["state_dict"].items()
        if name.startswith("network.")
    }
    return content["recipe"], weights


def save_weights(checkpoint: Path, path: Path) -> None:
    """Write the recipe and the network's weights of a checkpoint in half precision.

    Half precision halves the file; the weights are computed with in float32 again.
    """
    recipe, weights = read_checkpoint(checkpoint)
    halved = {n: v.half() if v.is_floating_point() else v for n, v in weights.items()}
    write_checkpoint(path, recipe, halved)


def write_checkpoint(path: Path, recipe: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write a recipe and a network's weights as :func:`read_checkpoint` reads them."""
    state = {f"network.{name}": value for name, value in weights.items()}
    with atomic_file(path) as temporary:
        torch.save({"recipe": dict(recipe), "state_dict": state}, temporary)


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Give a network its weights, every one of them.

    Args:
        network: The network.
        weights: Its weights by name.
        what: Where they come from, for messages.

    Raises:
        ValueError: If names or shapes differ; the message names the first five of each kind.
    """
    check_fit(network.state_dict(), weights, what)
    network.load_state_dict(weights)


def build(node: Any) -> Any:
    """Build what a recipe describes: mappings with ``_target_`` become calls of that class.

    ``_partial_`` gives the call with its arguments bound, to be finished by the caller.

    Raises:
        ValueError: If a class is not one of this package.
    """
    if isinstance(node, Mapping):
        arguments = {k: build(v) for k, v in node.items() if k not in ("_target_", "_partial_")}
        if "_target_" not in node:
            return arguments
        module_name, _, name = str(node["_target_"]).rpartition(".")
        if module_name.partition(".")[0] != __name__.partition(".")[0]:
            raise ValueError(
                f"recipe: expected a class of lightning_trackers, got {node['_target_']}"
            )
        found = getattr(importlib.import_module(module_name), name)
        if not isinstance(found, type):
            raise ValueError(f"recipe: {node['_target_']} is not a class")
        return partial(found, **arguments) if node.get("_partial_") else found(**arguments)
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [build(item) for item in node]
    return node


def _exported(
    checkpoint: str | Path | None, device: str | torch.device
) -> tuple[dict[str, Any], OnnxNetwork]:
    """Return the recipe of an export, and what runs in its network's place."""
    if checkpoint is None:
        raise ValueError("runtime=onnx: name an export, checkpoint=folder of experiments.export")
    exported = Exported.open(Path(checkpoint), device)
    with torch.device("meta"):  # only its geometry is asked for
        described: nn.Module = build(exported.recipe["network"])
    return exported.recipe, OnnxNetwork(described, exported)


def _replaced(tracker: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    known = dict(tracker["settings"])
    unknown = settings.keys() - known.keys()
    if unknown:
        names = sorted(k for k in known if not k.startswith("_"))
        raise ValueError(f"tracker settings: unknown {sorted(unknown)}; known: {names}")
    return {**known, **settings}
