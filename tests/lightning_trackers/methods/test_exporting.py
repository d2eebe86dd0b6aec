import pytest
import torch

from lightning_trackers.methods import load_tracker
from lightning_trackers.methods.exporting import export_tracker
from lightning_trackers.methods.loading import write_checkpoint
from lightning_trackers.runtime import onnx as runtime

METHODS = "lightning_trackers.methods"
TINY = {"_target_": "lightning_trackers.backbones.Tiny"}


def checkpoint(folder, tracker, network=TINY, **arguments):
    described = {
        "network": network,
        "tracker": {"_target_": tracker, "_partial_": True, **arguments},
    }
    write_checkpoint(folder / "last.ckpt", described, {"weight": torch.zeros(1)})
    return folder / "last.ckpt"


@pytest.mark.parametrize(
    ("tracker", "reason"),
    [
        ("gradnet.GradNetTracker", "its template is corrected by the gradient of its loss"),
        ("mdnet.MDNetTracker", "layers of its own that are trained"),
    ],
)
def test_an_online_learner_is_refused_with_the_reason(tracker, reason, tmp_path):
    path = checkpoint(tmp_path, f"{METHODS}.{tracker}")
    with pytest.raises(ValueError, match=f"Tracker learns online: .*{reason}"):
        export_tracker(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_network_without_the_two_graphs_is_refused(tmp_path):
    path = checkpoint(tmp_path, f"{METHODS}.siamfc.SiamFCTracker")
    with pytest.raises(ValueError, match=r"SiamFCTracker is no Siamese tracker: .* got Tiny"):
        export_tracker(path, tmp_path / "out")


def test_a_missing_package_says_how_to_get_it(monkeypatch, tmp_path):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(runtime.importlib, "import_module", absent)
    with pytest.raises(RuntimeError, match=r"pip install 'lightning-trackers\[onnx\]'"):
        runtime.package("onnxruntime")


def test_an_unknown_runtime_is_refused():
    with pytest.raises(ValueError, match="runtime=tensorrt: no such runtime"):
        load_tracker(runtime="tensorrt")
