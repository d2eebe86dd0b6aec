import numpy as np
import pytest

from datamodules.domains import Shot
from datamodules.errors import DatasetError
from datamodules.hard_positives import HardPositives
from datamodules.manifolds import make_generated_positives
from lightning_trackers.methods.sintpp.psgn import PSGNSettings

SETTINGS = PSGNSettings(hidden=4, epochs=2, grid=3)


class Still:
    def __init__(self, frame):
        self.frame = frame

    def decoded(self, step=1.0):
        return 1, self.frame


class Videos:
    """Videos of a square on noise; of the second one there is only one different frame."""

    name = "squares"

    def __len__(self):
        return 3

    def draw(self, domain, rng, count):
        shots = []
        for t in range(count):
            frame = np.random.default_rng([domain, t * (domain != 1)]).integers(
                0, 256, (80, 100, 3), dtype=np.uint8
            )
            shots.append(Shot(Still(frame), (100, 80), np.array([30.0, 30, 50, 50])))
        return shots, f"squares/{domain}/{','.join(f'f{t}' for t in range(count))}"


class OneFrame(Videos):
    def __len__(self):
        return 1

    def draw(self, domain, rng, count):
        return super().draw(1, rng, count)


def test_every_video_with_two_targets_gets_pictures_of_its_own(tmp_path, caplog):
    made = make_generated_positives(
        tmp_path, {"squares": Videos()}, SETTINGS, frames=4, accelerator="cpu"
    )
    assert made.pictures.shape == (18, 3, 64, 64)
    assert made.videos.tolist() == [0] * 9 + [2] * 9
    assert "squares_1: 1 usable target" in caplog.text
    kept = HardPositives.read(tmp_path / "positives.npz")
    np.testing.assert_array_equal(kept.pictures, made.pictures)
    assert kept.provenance["videos"] == ["squares_0", "squares_2"]
    assert sorted(p.name for p in (tmp_path / "manifolds").glob("*.png")) == [
        "squares_0.png",
        "squares_2.png",
    ]


def test_no_video_with_two_targets_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="expected a video with two different targets"):
        make_generated_positives(
            tmp_path, {"squares": OneFrame()}, SETTINGS, frames=4, accelerator="cpu"
        )
