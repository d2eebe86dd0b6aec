import pytest
import torch

from experiments import convert
from lightning_trackers.methods.conversion import SOURCES


def test_arguments_become_a_conversion(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(convert, "convert", lambda *arguments: asked.append(arguments))
    out = convert.run(
        ["source=pysot_siamrpn", f"checkpoint={tmp_path}/a.pth", f"out={tmp_path}/b.pt"]
    )
    assert out == tmp_path / "b.pt"
    assert asked == [("pysot_siamrpn", tmp_path / "a.pth", tmp_path / "b.pt")]


def test_the_usage_names_every_source():
    assert all(source in convert.USAGE for source in SOURCES)


def test_a_wrong_file_ends_in_one_line(monkeypatch, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    arguments = ["source=siamfc_pytorch", f"checkpoint={tmp_path}/a.pth", f"out={tmp_path}/b.pt"]
    monkeypatch.setattr("sys.argv", ["convert", *arguments])
    with pytest.raises(SystemExit, match=r"error: siamfc_pytorch .*unexpected: a"):
        convert.main()
    assert not (tmp_path / "b.pt").exists()
