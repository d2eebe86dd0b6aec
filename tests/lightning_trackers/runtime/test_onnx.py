import functools
import json
import logging
import shutil
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_trackers.methods import load_tracker
from lightning_trackers.methods.exporting import export_tracker
from lightning_trackers.methods.loading import build, write_checkpoint
from lightning_trackers.runtime import onnx as runtime
from lightning_trackers.runtime.onnx import EXEMPLAR, TRACK, Exported, export_network

onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
for package in ("onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason="needs the extra 'onnx'")

TINY = {"_target_": "lightning_trackers.backbones.Tiny", "width": 4, "out_channels": 8}
RESNET = {"_target_": "lightning_trackers.backbones.TinyResNet", "width": 2}
HEADS = "lightning_trackers.heads"
METHODS = "lightning_trackers.methods"


def recipe(network, arguments, tracker, **settings):
    return {
        "network": {"_target_": f"{METHODS}.{network}", **arguments},
        "tracker": {
            "_target_": f"{METHODS}.{tracker}Tracker",
            "_partial_": True,
            "settings": {"_target_": f"{METHODS}.{tracker}Settings", **settings},
        },
    }


def head(target, **arguments):
    return {"_target_": target, "_partial_": True, **arguments}


SMALL = {"exemplar_size": 111, "search_size": 127}
SMALL_RESNET = {"exemplar_size": 63, "search_size": 79}
DEPTHWISE = head(f"{HEADS}.DepthwiseRPN", hidden=8)
LAYERWISE = head(f"{METHODS}.siamrpnpp.LayerwiseRPN", hidden=4, exemplar_cells=4)
FCOS = head(f"{HEADS}.FCOSHead", hidden=4, layers=1)
RECIPES = {
    "siamfc": recipe("siamfc.SiamFC", {"backbone": TINY}, "siamfc.SiamFC", scale_lr=0.59, **SMALL),
    "siamrpn": recipe(
        "siamrpn.SiamRPN", {"backbone": TINY, "head": DEPTHWISE}, "siamrpn.SiamRPN", **SMALL
    ),
    "siamrpn, up-channel head": recipe(
        "siamrpn.SiamRPN",
        {"backbone": TINY, "head": head(f"{HEADS}.UpChannelRPN"), "anchor_ratios": [1]},
        "siamrpn.SiamRPN",
        **SMALL,
    ),
    "siamrpnpp": recipe(
        "siamrpn.SiamRPN",
        {"backbone": RESNET, "head": LAYERWISE},
        "siamrpn.SiamRPN",
        **SMALL_RESNET,
    ),
    "hnse": recipe(
        "hnse.HNSE",
        {"backbone": RESNET, "head": FCOS, "channels": 4, "exemplar_cells": 4},
        "hnse.HNSE",
        **SMALL_RESNET,
    ),
}


def checkpoint_of(described, folder):
    torch.manual_seed(0)
    network = build(described["network"])
    write_checkpoint(folder / "last.ckpt", described, network.state_dict())
    return folder / "last.ckpt"


# One export takes seconds: the fixture `siamfc` shares the one of the first method.
METHODS_TESTED = [
    "siamfc",
    "siamrpn",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("siamrpn, up-channel head", "siamrpnpp", "hnse")
    ),
]


@pytest.fixture(scope="module")
def export_of(tmp_path_factory):
    """Return what gives a method's checkpoint and its export, made once."""

    @functools.cache
    def exported(name):
        folder = tmp_path_factory.mktemp("exported")
        checkpoint = checkpoint_of(RECIPES[name], folder)
        export_tracker(checkpoint, folder / "onnx")
        return SimpleNamespace(checkpoint=checkpoint, folder=folder / "onnx")

    return exported


@pytest.fixture(params=METHODS_TESTED)
def exported(request, export_of):
    return export_of(request.param)


@pytest.fixture
def siamfc(export_of):
    return export_of("siamfc").folder


def frames(count):
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
    return list(blocks.repeat(10, axis=1).repeat(10, axis=2))


BOXES = np.array([[20, 20, 60, 50], [90, 30, 120, 80], [50, 60, 110, 110]], dtype=np.float32)


def followed(tracker, boxes, shown):
    """Return the boxes and scores of targets followed together, ``(frames, targets, 5)``."""
    states = [tracker.start(shown[0], box) for box in boxes]
    rows = [tracker.step(states, [frame] * len(states)) for frame in shown[1:]]
    return np.array([[[*p.box_xyxy, p.score] for p in row] for row in rows])


def test_a_tracker_runs_from_the_exported_files(exported):
    shown = frames(4)
    graphs = load_tracker(exported.folder, runtime="onnx")
    ours = followed(load_tracker(exported.checkpoint), BOXES, shown)
    assert np.ptp(ours[..., :4], axis=0).max() > 0.5  # px: the boxes move at all
    np.testing.assert_allclose(followed(graphs, BOXES, shown), ours, atol=1e-2)
    # One target by itself: any number of them runs through the same file.
    alone = followed(graphs, BOXES[1:2], shown)
    np.testing.assert_allclose(alone, ours[:, 1:2], atol=1e-2)


def test_outputs_equal_those_of_torch(exported):
    # Sizes and seeds that the export's own check does not use.
    torch_network = load_tracker(exported.checkpoint).network
    graphs = load_tracker(exported.folder / TRACK, runtime="onnx").network
    meta = Exported.open(exported.folder).meta
    with torch.no_grad():
        z, x = (runtime._drawn_images(5, meta[key]) for key in ("exemplar_size", "search_size"))
        kept = torch_network.exemplar(z)
        expected = torch_network.track(x, kept)
    got = graphs.track(x, graphs.exemplar(z))
    assert type(got) is type(expected)
    for (_, value), (_, other) in zip(
        runtime._leaves(expected, ""), runtime._leaves(got, ""), strict=True
    ):
        assert value.std() > 0
        torch.testing.assert_close(other, value, rtol=0, atol=1e-4 * max(1, value.abs().max()))


def test_the_files_say_how_to_use_them(siamfc):
    meta = Exported.open(siamfc).meta
    assert meta["recipe"] == RECIPES["siamfc"]
    assert (meta["exemplar_size"], meta["search_size"]) == (111, 127)
    np.testing.assert_allclose(meta["mean"], [123.675, 116.28, 103.53], rtol=1e-9)
    np.testing.assert_allclose(meta["std"], [58.395, 57.12, 57.375], rtol=1e-9)


def test_constants_can_be_replaced_but_not_the_size_of_crops(siamfc):
    tracker = load_tracker(siamfc, {"scale_lr": 0.1}, runtime="onnx")
    assert tracker.settings.scale_lr == 0.1
    other = load_tracker(siamfc, {"search_size": 143}, runtime="onnx")
    with pytest.raises(
        ValueError, match=r"images: exported for .*127, 127.*got \[3, 3, 143, 143\]"
    ):
        followed(other, BOXES[:1], frames(2))


def test_files_of_two_exports_do_not_go_together(siamfc, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(siamfc, mixed)
    model = onnx.load(mixed / TRACK)
    meta = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps(meta | {"weights": "of another network"})
    onnx.save(model, mixed / TRACK)
    with pytest.raises(ValueError, match="not of one export"):
        load_tracker(mixed, runtime="onnx")


def test_what_is_no_export_is_refused(siamfc, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no exemplar\.onnx"):
        load_tracker(tmp_path, runtime="onnx")
    shutil.copy(siamfc / EXEMPLAR, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no track\.onnx"):
        load_tracker(tmp_path, runtime="onnx")
    (tmp_path / TRACK).write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"track\.onnx: not an ONNX graph"):
        load_tracker(tmp_path, runtime="onnx")
    with pytest.raises(ValueError, match="checkpoint=folder"):
        load_tracker(runtime="onnx")


def test_a_structure_names_tuples_of_this_package_alone():
    with pytest.raises(ValueError, match="expected a tuple of lightning_trackers"):
        runtime._restored({"tuple": "os.system", "items": ["a"]}, {"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="expected a named tuple"):
        runtime._restored({"tuple": "lightning_trackers.crops.Window", "items": []}, {})


class Pair(NamedTuple):
    first: Tensor
    rest: tuple[Tensor, ...]


def test_a_structure_comes_back_from_names_and_values(monkeypatch):
    value = Pair(torch.zeros(1), (torch.ones(2), torch.ones(3)))
    assert [n for n, _ in runtime._leaves(value, "kept")] == [
        "kept.first",
        "kept.rest.0",
        "kept.rest.1",
    ]
    monkeypatch.setattr(runtime, "_PACKAGE", __name__.partition(".")[0])
    monkeypatch.setattr(runtime.importlib, "import_module", lambda _: SimpleNamespace(Pair=Pair))
    structure = json.loads(json.dumps(runtime._structure(value, "kept")))
    restored = runtime._restored(structure, dict(runtime._leaves(value, "kept")))
    assert isinstance(restored, Pair)
    assert [len(restored.first), *map(len, restored.rest)] == [1, 2, 3]


class Wrong(nn.Module):
    """Computes something else when exported."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def exemplar(self, images):
        return images.mean(dim=(2, 3)) * self.gain

    def track(self, images, kept):
        wrong = 1.001 if torch.onnx.is_in_onnx_export() else 1.0
        return images.mean(dim=(2, 3)) + wrong * kept


def test_graphs_that_differ_from_torch_are_not_kept(tmp_path):
    with pytest.raises(RuntimeError, match="found differs from torch"):
        export_network(Wrong(), tmp_path / "onnx", {}, exemplar_size=4, search_size=6)
    assert list((tmp_path / "onnx").iterdir()) == []


def test_an_export_leaves_the_network_alone_and_is_quiet(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(runtime, "_compare", lambda *_: None)
    caplog.set_level(logging.INFO)
    network = Wrong().double()
    export_network(network, tmp_path, {}, exemplar_size=4, search_size=6)
    assert network.training
    assert network.gain.requires_grad
    assert network.gain.dtype == torch.float64
    assert caplog.records == []


def test_a_device_that_is_not_there_is_named(siamfc):
    with pytest.raises(RuntimeError, match="device=mps: this onnxruntime has"):
        load_tracker(siamfc, device="mps", runtime="onnx")
