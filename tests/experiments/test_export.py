import pytest

from experiments import evaluate, export
from lightning_trackers.methods.loading import SHIPPED


def test_arguments_become_an_export(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(export, "export_tracker", lambda *arguments: asked.append(arguments))
    assert export.run([f"checkpoint={tmp_path}/last.ckpt", f"out={tmp_path}/a"]) == tmp_path / "a"
    export.run([f"out={tmp_path}/b"])
    assert asked == [(tmp_path / "last.ckpt", tmp_path / "a"), (SHIPPED, tmp_path / "b")]


def test_a_missing_checkpoint_ends_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "sys.argv", ["export", f"checkpoint={tmp_path}/no.ckpt", f"out={tmp_path}/a"]
    )
    with pytest.raises(SystemExit, match=r"error: checkpoint .*no\.ckpt: no such file"):
        export.main()


def test_results_of_an_export_are_told_apart_by_its_graphs(tmp_path):
    (tmp_path / "track.onnx").write_bytes(b"graph")
    first = evaluate.fingerprint(tmp_path, {})
    assert evaluate.fingerprint(tmp_path, {}) == first
    (tmp_path / "exemplar.onnx").write_bytes(b"another")
    assert evaluate.fingerprint(tmp_path, {}) != first
