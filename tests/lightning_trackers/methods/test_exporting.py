import pytest
import torch

from lightning_trackers.methods import load_tracker
from lightning_trackers.methods.exporting import export_tracker
from lightning_trackers.methods.loading import write_checkpoint
from lightning_trackers.runtime import onnx as runtime


def checkpoint(folder, network, tracker):
    described = {"network": {"_target_": network}, "tracker": {"_target_": tracker}}
    write_checkpoint(folder / "last.ckpt", described, {"weight": torch.zeros(1)})
    return folder / "last.ckpt"


@pytest.mark.parametrize(
    ("tracker", "reason"),
    [
        (
            "lightning_trackers.methods.gradnet.GradNetTracker",
            "corrects its template by the gradient",
        ),
        ("lightning_trackers.methods.mdnet.MDNetTracker", "trains its last layers on every target"),
    ],
)
def test_an_online_learner_is_refused_with_the_reason(tracker, reason, tmp_path):
    path = checkpoint(tmp_path, "lightning_trackers.backbones.Tiny", tracker)
    with pytest.raises(ValueError, match=f"learns online .*{reason}"):
        export_tracker(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_network_without_the_two_graphs_is_refused(tmp_path):
    tracker = "lightning_trackers.methods.other.OtherTracker"
    path = checkpoint(tmp_path, "lightning_trackers.backbones.Tiny", tracker)
    with pytest.raises(ValueError, match=r"OtherTracker is no Siamese tracker: .* got Tiny"):
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
