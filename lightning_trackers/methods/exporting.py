"""From a checkpoint to ONNX graphs that track."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning_trackers.methods.dslt import DSLTTracker
from lightning_trackers.methods.gradnet import GradNetTracker
from lightning_trackers.methods.loading import build, load_weights, read_checkpoint
from lightning_trackers.online import OnlineTracker
from lightning_trackers.runtime.onnx import export_network

_ONLINE: Mapping[type, str] = {
    DSLTTracker: "every target has a regression of its own that is trained while it is tracked",
    GradNetTracker: "its template is corrected by the gradient of its loss, on the first frame too",
    OnlineTracker: "every target has layers of its own that are trained while it is tracked",
}
"""Why graphs of fixed weights cannot stand for a tracker."""


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
    make_tracker: partial[Any] = build(recipe["tracker"])
    tracker: Any = make_tracker.func
    name = tracker.__name__
    for kind, reason in _ONLINE.items():
        if issubclass(tracker, kind):
            raise ValueError(
                f"checkpoint {checkpoint}: {name} learns online: {reason}. An ONNX graph has fixed "
                "weights and no gradients; use runtime=torch"
            )
    network = build(recipe["network"])
    if not (hasattr(network, "exemplar") and hasattr(network, "track")):
        raise ValueError(
            f"checkpoint {checkpoint}: {name} is no Siamese tracker: expected a network with exemplar "
            f"and track, got {type(network).__name__}"
        )
    load_weights(network, weights, f"checkpoint {checkpoint}")
    settings = make_tracker(network).settings
    export_network(
        network,
        folder,
        recipe,
        exemplar_size=settings.exemplar_size,
        search_size=settings.search_size,
    )
