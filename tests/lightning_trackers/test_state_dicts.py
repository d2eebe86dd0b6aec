import pickle
from pathlib import Path

import pytest
import torch

from lightning_trackers.state_dicts import check_fit, read_tensor_file


class Attack:
    """Unpickles as a call that creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_calls_something_is_refused_and_not_executed(tmp_path):
    created, file = tmp_path / "created", tmp_path / "weights.pth"
    torch.save({"state_dict": Attack(created)}, file)
    with pytest.raises(ValueError, match=r"not a file of weights: it asks for .*not called"):
        read_tensor_file(file, "checkpoint")
    file.write_bytes(pickle.dumps(Attack(created)))
    with pytest.raises(ValueError, match="not a file of weights"):
        read_tensor_file(file, "checkpoint")
    assert not created.exists()
    pickle.loads(file.read_bytes())  # the attack is a real one
    assert created.exists()


def test_a_missing_file_names_those_beside_it(tmp_path):
    torch.save({}, tmp_path / "model.pth")
    with pytest.raises(FileNotFoundError, match=r"weights.pth: no such file.*model\.pth"):
        read_tensor_file(tmp_path / "weights.pth", "checkpoint")


def test_differences_name_five_of_each_kind():
    expected = {f"a{i}": torch.zeros(2) for i in range(6)} | {"same": torch.zeros(1)}
    found = {f"b{i}": torch.zeros(2) for i in range(5)} | {
        "same": torch.zeros(3),
        "a5": torch.zeros(2),
    }
    with pytest.raises(ValueError, match="another architecture") as caught:
        check_fit(expected, found, "file.pt")
    message = str(caught.value)
    assert "file.pt" in message
    assert "5 missing: a0, a1, a2, a3, a4;" in message
    assert "5 unexpected: b0, b1, b2, b3, b4;" in message
    assert "1 of another shape: same (3,) instead of (1,)" in message
    found |= {"b5": torch.zeros(1), "b6": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"7 unexpected: b0, b1, b2, b3, b4, \.\.\.;"):
        check_fit(expected, found, "file.pt")


def test_equal_names_and_shapes_fit():
    check_fit({"a": torch.zeros(2, device="meta")}, {"a": torch.ones(2)}, "file.pt")
