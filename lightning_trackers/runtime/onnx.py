"""Siamese networks as ONNX graphs: one for the exemplar, one for tracking, any number of targets.

Both files carry the recipe of network and tracker, the names of inputs and outputs and the input
convention, so the pair is enough to track.
"""

import copy
import hashlib
import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_trackers.files import atomic_file
from lightning_trackers.siamese import normalise

EXEMPLAR, TRACK = "exemplar.onnx", "track.onnx"
TOLERANCE = 1e-4
"""Largest difference between the runtimes, relative to the largest value where that is above 1."""

_KEY = "lightning_trackers"  # of the metadata
_IMAGES = "images"
_PACKAGE = __name__.partition(".")[0]


def export_network(
    network: nn.Module,
    folder: Path,
    recipe: Mapping[str, Any],
    *,
    exemplar_size: int,
    search_size: int,
) -> None:
    """Write ``exemplar.onnx`` and ``track.onnx``, checked against torch before they are kept.

    Args:
        network: Network with ``exemplar(images)`` and ``track(images, kept)``, which take and return
            tensors, or tuples of them, whose first axis is the target. It stays as it is.
        folder: Where to write; made if missing.
        recipe: Plain description of network and tracker.
        exemplar_size: Side of the exemplar crop, px.
        search_size: Side of the search crop, px.

    Raises:
        RuntimeError: If a package is missing, or onnxruntime computes something else than torch.
    """
    package("onnxscript")
    network = copy.deepcopy(network).eval().requires_grad_(False).cpu().float()
    black = normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.float64)
    white = normalise(torch.ones(1, 3, 1, 1, dtype=torch.uint8), torch.float64)
    std = 1 / (white - black)
    images = [_drawn_images(2, size) for size in (exemplar_size, search_size)]
    with torch.no_grad():
        kept = network.exemplar(images[0])  # type: ignore[operator]
        found = network.track(images[1], kept)  # type: ignore[operator]
    inputs, outputs = dict(_leaves(kept, "kept")), dict(_leaves(found, "found"))
    meta = {
        "recipe": recipe,
        "weights": _digest(network),
        "exemplar_size": exemplar_size,
        "search_size": search_size,
        "input": "RGB, (pixel - mean) / std with pixels in [0, 255], shape (targets, 3, size, size)",
        "mean": (-black * std).flatten().tolist(),
        "std": std.flatten().tolist(),
        "kept": _structure(kept, "kept"),
        "found": _structure(found, "found"),
    }
    with (
        atomic_file(folder / EXEMPLAR) as exemplar_path,
        atomic_file(folder / TRACK) as track_path,
    ):
        _write(_Exemplar(network), [images[0]], [_IMAGES], list(inputs), exemplar_path, meta)
        arguments, names = [images[1], *inputs.values()], [_IMAGES, *inputs]
        _write(_Track(network, meta["kept"]), arguments, names, list(outputs), track_path, meta)
        _compare(network, Exported._of(exemplar_path, track_path, "cpu"))


@dataclass(frozen=True)
class Exported:
    """Both graphs of one export, ready to run.

    Args:
        exemplar: Session of the exemplar's graph.
        track: Session of the tracking graph.
        meta: What export wrote into both files.
    """

    exemplar: Any
    track: Any
    meta: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path, device: str | torch.device = "cpu") -> "Exported":
        """Open an export, named by its folder or by either of its files.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is not one of these graphs, or they were not exported together.
            RuntimeError: If onnxruntime is not installed, or has no such device.
        """
        folder = path if path.is_dir() else path.parent
        for name in (EXEMPLAR, TRACK):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder}: expected {EXEMPLAR} and {TRACK}, as experiments.export writes them; "
                    f"there is no {name}"
                )
        return cls._of(folder / EXEMPLAR, folder / TRACK, device)

    @classmethod
    def _of(cls, exemplar: Path, track: Path, device: str | torch.device) -> "Exported":
        sessions = _session(exemplar, device), _session(track, device)
        metas = [
            _meta(session, path) for session, path in zip(sessions, (exemplar, track), strict=True)
        ]
        if metas[0] != metas[1]:
            raise ValueError(f"{exemplar} and {track} are not of one export; export again")
        return cls(*sessions, metas[0])

    @property
    def recipe(self) -> dict[str, Any]:
        """Plain description of network and tracker."""
        return dict(self.meta["recipe"])


class OnnxNetwork:
    """Stands in for a network inside its tracker: the graphs compute, and torch does not.

    Args:
        described: The network of the recipe, asked for everything but ``exemplar`` and ``track``:
            stride, anchors. Its parameters are not read and may be on the meta device.
        exported: The graphs.
    """

    def __init__(self, described: nn.Module, exported: Exported) -> None:
        self._described = described
        self._exported = exported

    def __getattr__(self, name: str) -> Any:
        """Return what the described network says."""
        return getattr(self._described, name)

    def parameters(self) -> Iterator[Tensor]:
        """Yield a tensor of the type and on the device that the graphs take."""
        yield torch.zeros(())

    def exemplar(self, images: Tensor) -> Any:
        """Return what is kept of exemplar images ``(B, 3, Hz, Wz)``."""
        exported = self._exported
        return _run(exported.exemplar, {_IMAGES: images}, exported.meta["kept"])

    def track(self, images: Tensor, kept: Any) -> Any:
        """Return the network's answer for search images ``(B, 3, Hx, Wx)``."""
        exported = self._exported
        inputs = {_IMAGES: images, **dict(_leaves(kept, "kept"))}
        return _run(exported.track, inputs, exported.meta["found"])


def package(name: str) -> Any:
    """Return an optional package.

    Raises:
        RuntimeError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(
            f"ONNX needs the package {name}: pip install 'lightning-trackers[onnx]'"
        ) from error


class _Exemplar(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        kept = self.network.exemplar(images)  # type: ignore[operator]
        return tuple(value for _, value in _leaves(kept, "kept"))


class _Track(nn.Module):
    def __init__(self, network: nn.Module, structure: Any) -> None:
        super().__init__()
        self.network = network
        self.names = list(_names(structure))
        self.structure = structure

    def forward(self, images: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
        values = _restored(self.structure, dict(zip(self.names, kept, strict=True)))
        found = self.network.track(images, values)  # type: ignore[operator]
        return tuple(value for _, value in _leaves(found, "found"))


def _write(
    graph: nn.Module,
    inputs: Sequence[Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    path: Path,
    meta: Mapping[str, Any],
) -> None:
    # One name for all: every input has as many rows as there are targets.
    targets = torch.export.Dim("targets", min=1)
    first, *rest = [{0: targets} for _ in inputs]
    with _quiet():
        program = torch.onnx.export(
            graph.eval(),
            tuple(inputs),
            dynamo=True,
            dynamic_shapes=(first, tuple(rest)) if rest else (first,),
            input_names=input_names,
            output_names=output_names,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[_KEY] = json.dumps(meta)
    program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says of its own steps from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _compare(network: nn.Module, exported: Exported) -> None:
    """Compare the runtimes on drawn images, for other numbers of targets than at export.

    Raises:
        RuntimeError: If they differ by more than the tolerance.
    """
    graphs = OnnxNetwork(network, exported)
    for count in (1, 3):
        exemplars = _drawn_images(count, exported.meta["exemplar_size"])
        searches = _drawn_images(count, exported.meta["search_size"])
        with torch.no_grad():
            kept = network.exemplar(exemplars)  # type: ignore[operator]
            found = network.track(searches, kept)  # type: ignore[operator]
        exported_kept = graphs.exemplar(exemplars)
        pairs = (
            (kept, exported_kept, "kept"),
            (found, graphs.track(searches, exported_kept), "found"),
        )
        for ours, theirs, name in pairs:
            expected, got = dict(_leaves(ours, name)), dict(_leaves(theirs, name))
            for key, value in expected.items():
                largest = max(1.0, float(value.abs().max()))
                difference = float((value - got[key]).abs().max())
                if not difference <= TOLERANCE * largest:
                    raise RuntimeError(
                        f"onnx: {key} differs from torch by {difference:.1e} of {largest:.1e} for "
                        f"{count} targets, more than {TOLERANCE:g}; nothing was written"
                    )


def _digest(network: nn.Module) -> str:
    """Return what tells one network's weights from another's."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _drawn_images(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return normalise(pixels)


def _run(session: Any, inputs: Mapping[str, Tensor], structure: Any) -> Any:
    """Return a graph's answer in the structure that torch's would have.

    Raises:
        ValueError: If an input has not the size that was exported.
    """
    for expected in session.get_inputs():
        got = list(inputs[expected.name].shape)
        if got[1:] != expected.shape[1:]:
            raise ValueError(
                f"onnx: {expected.name}: exported for {expected.shape}, got {got}; the sizes of crops "
                "are fixed at export"
            )
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {name: x.contiguous().numpy() for name, x in inputs.items()})
    values = {name: torch.from_numpy(x) for name, x in zip(names, found, strict=True)}
    return _restored(structure, values)


def _session(path: Path, device: str | torch.device) -> Any:
    """Return onnxruntime's session of a file, with as many threads as torch has."""
    runtime = package("onnxruntime")
    kind = torch.device(device).type
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind)
    if provider not in runtime.get_available_providers():
        raise RuntimeError(
            f"device={device}: this onnxruntime has {', '.join(runtime.get_available_providers())}; "
            "NVIDIA GPUs need the package onnxruntime-gpu in its place"
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        return runtime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:
        raise ValueError(f"{path}: not an ONNX graph: {error}") from error


def _meta(session: Any, path: Path) -> dict[str, Any]:
    text = session.get_modelmeta().custom_metadata_map.get(_KEY)
    if text is None:
        raise ValueError(f"{path}: an ONNX graph, but not one that experiments.export wrote")
    meta: dict[str, Any] = json.loads(text)
    return meta


# What a network keeps and answers is a tensor, or a (named) tuple of such. In a file each tensor has a
# name, such as kept.cls, and the structure is kept as JSON.


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a structure with their names."""
    if isinstance(value, Tensor):
        yield name, value
        return
    if not isinstance(value, tuple):
        raise TypeError(f"onnx: {name}: expected a tensor or a tuple of such, got {type(value)}")
    for key, item in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
        yield from _leaves(item, f"{name}.{key}")


def _structure(value: Any, name: str) -> Any:
    """Return a structure with names in the tensors' places, out of plain values."""
    if isinstance(value, Tensor):
        return name
    keys = getattr(value, "_fields", range(len(value)))
    kind = type(value)
    items = [_structure(item, f"{name}.{key}") for key, item in zip(keys, value, strict=True)]
    return {"tuple": f"{kind.__module__}.{kind.__qualname__}", "items": items}


def _names(structure: Any) -> Iterator[str]:
    if isinstance(structure, str):
        yield structure
        return
    for item in structure["items"]:
        yield from _names(item)


def _restored(structure: Any, values: Mapping[str, Tensor]) -> Any:
    """Return the structure with tensors in the names' places.

    Raises:
        ValueError: If it names something else than a named tuple of this package.
    """
    if isinstance(structure, str):
        return values[structure]
    items = [_restored(item, values) for item in structure["items"]]
    if structure["tuple"] == "builtins.tuple":
        return tuple(items)
    module, _, name = structure["tuple"].rpartition(".")
    if module.partition(".")[0] != _PACKAGE:
        raise ValueError(f"onnx: expected a tuple of {_PACKAGE}, got {structure['tuple']}")
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")):
        raise ValueError(f"onnx: expected a named tuple, got {structure['tuple']}")
    return kind(*items)
