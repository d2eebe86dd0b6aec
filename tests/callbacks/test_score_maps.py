from dataclasses import dataclass

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from callbacks.score_maps import ScoreMapFigures, compared, nearest_frame, score_map_figure
from lightning_trackers.crops import Window, crop
from lightning_trackers.evaluation.score_maps import ScoreMaps
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence
from lightning_trackers.evaluation.tracker import Prediction

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)


def moving(frames=8, name="moving"):
    boxes = np.array([[20.0 + 3 * t, 20, 40 + 3 * t, 40] for t in range(frames)])
    pictures = [np.full((60, 100, 3), 10 * t, np.uint8) for t in range(frames)]
    return TrackingSequence(name, pictures, boxes, np.ones(frames, dtype=bool))


@dataclass
class State:
    box_xyxy: np.ndarray
    steps: int = 0


class Counter:
    """Shows a map that is full of the number of frames it was given."""

    size = 64

    def start(self, frame, box_xyxy):
        return State(box_xyxy)

    def step(self, states, frames):
        for state in states:
            state.steps += 1
            state.box_xyxy = np.zeros(4)
        return [Prediction(state.box_xyxy, 0.5) for state in states]

    def score_maps(self, state, frame):
        cx, cy = (state.box_xyxy[:2] + state.box_xyxy[2:]) / 2
        window = Window(cx, cy, 64, self.size)
        return ScoreMaps(
            crop(frame, window), window, {"score": np.full((5, 5), state.steps, float)}, 8
        )


def drawn(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_maps_lie_where_their_cells_look_and_share_a_scale():
    maps = {"a": np.arange(25.0).reshape(5, 5), "b": torch.full((5, 5), 30.0)}
    figure = score_map_figure(IMAGE, maps, stride=8, box_xyxy=np.array([10, 20, 30, 50]))
    search, a, b, _ = figure.axes
    # 5 cells of 8 px in the middle of 80 px.
    assert a.images[1].get_extent() == [20, 60, 60, 20]
    assert a.images[1].get_clim() == b.images[1].get_clim() == (0, 30)
    np.testing.assert_array_equal(a.images[1].get_array(), maps["a"])
    assert [axis.get_title() for axis in (search, a, b)] == ["search region", "a", "b"]
    for axis in (search, a, b):
        assert axis.get_xlim() == (0, 80)
        assert axis.get_ylim() == (80, 0)
        assert axis.patches[0].get_bbox().extents.tolist() == [10, 20, 30, 50]
    assert drawn(figure).std() > 0


def test_without_a_stride_a_map_is_spread_over_the_region():
    figure = score_map_figure(IMAGE, {"a": np.eye(4)})
    assert figure.axes[1].images[1].get_extent() == [0, 80, 80, 0]


@pytest.mark.parametrize("maps", [{}, {"a": np.zeros((1, 4, 4))}])
def test_what_is_no_map_is_refused(maps):
    with pytest.raises(ValueError, match=r"expected maps of shape \(H, W\)"):
        score_map_figure(IMAGE, maps)


def test_trackers_follow_first_and_then_look_around_the_ground_truth():
    figure = compared({"ours": Counter(), "other": Counter()}, moving(), 5)
    titles = [axis.get_title() for axis in figure.axes[:3]]
    assert titles == ["search region", "ours: score", "other: score"]
    # Frames 1 to 4 were stepped through; the region is that of frame 5 around the box of frame 4,
    # 3 px behind the target of 20 px: its left edge is at 32 + 3 - 10.
    assert (figure.axes[1].images[1].get_array() == 4).all()
    assert (figure.axes[0].images[0].get_array() == 50).mean() > 0.8
    assert figure.axes[0].patches[0].get_bbox().extents.tolist() == [25, 22, 45, 42]


def test_trackers_that_look_elsewhere_are_refused():
    wide = Counter()
    wide.size = 80
    with pytest.raises(ValueError, match="one search size"):
        compared({"ours": Counter(), "wide": wide}, moving(), 5)


def test_the_frame_is_annotated_as_is_the_one_before():
    sequence = moving(10)
    assert nearest_frame(sequence, 0.5) == 5
    sequence.valid[4:6] = False
    assert nearest_frame(sequence, 0.5) == 3
    sequence.boxes_xyxy[2] = np.nan
    assert nearest_frame(sequence, 0.5) == 7
    sequence.valid[:] = False
    with pytest.raises(ValueError, match="moving has no two annotated frames"):
        nearest_frame(sequence, 0.5)


class Lends(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def tracker(self):
        assert not self.layer.training
        return Counter()

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


# LeafSpec: Lightning 2.6 uses what torch 2.13 calls deprecated.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_figures_are_written_after_training(tmp_path):
    benchmark = Benchmark("drawn", [moving(name=name) for name in ("one", "two", "three")])
    callback = ScoreMapFigures(benchmark, tmp_path / "maps", sequences=2)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        callbacks=[callback],
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Lends(), torch.utils.data.DataLoader(torch.zeros(2, 1)))
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == ["one.png", "two.png"]


def test_a_tracker_without_maps_is_named(tmp_path):
    callback = ScoreMapFigures(Benchmark("drawn", [moving()]), tmp_path)
    with pytest.raises(TypeError, match="'plain': object shows none"):
        callback.draw({"plain": object()})


def test_a_missing_checkpoint_is_noticed_before_training(tmp_path):
    callback = ScoreMapFigures(
        Benchmark("drawn", [moving()]), tmp_path, beside={"without": tmp_path / "no.ckpt"}
    )
    with pytest.raises(FileNotFoundError, match="'without': no checkpoint"):
        callback.setup(None, None, "fit")


def test_the_frame_is_a_share(tmp_path):
    with pytest.raises(ValueError, match=r"frame in \(0, 1\), got 1"):
        ScoreMapFigures(Benchmark("drawn", [moving()]), tmp_path, frame=1)
