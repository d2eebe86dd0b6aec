"""From a checkpoint to ONNX graphs that track."""

from pathlib import Path
from typing import Any

from lightning_trackers.methods.loading import build, load_weights, read_checkpoint
from lightning_trackers.runtime.onnx import export_network

_ONLINE = {
    "GradNetTracker": "it corrects its template by the gradient of its loss, on the first frame too",
    "MDNetTracker": "it trains its last layers on every target",
    "RTMDNetTracker": "it trains its last layers on every target",
    "SPGATracker": "it trains its last layers on every target",
    "DSLTTracker": "it trains a regression network on every target",
}
"""Why a graph of fixed weights cannot stand for a tracker, by the tracker's name."""


def export_tracker(checkpoint: Path, folder: Path) -> None:
    """Write a checkpoint's network as ``exemplar.onnx`` and ``track.onnx``.

    ``load_tracker(folder, runtime="onnx")`` tracks with them.

    Args:
        checkpoint: A training's checkpoint or a file of weights.
        folder: Where to write; made if missing.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of this project, or its tracker learns online.
        RuntimeError: If a package is missing, or onnxruntime computes something else than torch.
    """
    recipe, weights = read_checkpoint(checkpoint)
    name = str(recipe["tracker"]["_target_"]).rpartition(".")[2]
    if name in _ONLINE:
        raise ValueError(
            f"checkpoint {checkpoint}: {name} learns online ({_ONLINE[name]}), and ONNX graphs have "
            "fixed weights and no gradients; run it with runtime=torch"
        )
    network: Any = build(recipe["network"])
    if not (hasattr(network, "exemplar") and hasattr(network, "track")):
        raise ValueError(
            f"checkpoint {checkpoint}: {name} is no Siamese tracker: expected a network with exemplar "
            f"and track, got {type(network).__name__}"
        )
    load_weights(network, weights, f"checkpoint {checkpoint}")
    settings = build(recipe["tracker"])(network).settings
    export_network(
        network,
        folder,
        recipe,
        exemplar_size=settings.exemplar_size,
        search_size=settings.search_size,
    )
