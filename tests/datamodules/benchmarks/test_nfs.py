import pytest

from datamodules.benchmarks.nfs import nfs_benchmark
from datamodules.errors import DatasetError


def vatic(count, lost=(), occluded=()):
    """Lines whose box moves right by one px a line, and whose label holds a blank."""
    return "".join(
        f"0 {5 + t} 7 {25 + t} 17 {t} {int(t in lost)} {int(t in occluded)} 0 " + '"the ball"\n'
        for t in range(count)
    )


@pytest.fixture
def make(tmp_path, paint):
    def write(name, images, text, fps=30):
        folder = tmp_path / name / str(fps)
        paint(folder / name, range(1, images + 1), "{:05d}.jpg")
        (folder / f"{name}.txt").write_text(text)
        return tmp_path

    return write


def test_corners_are_read_as_they_are(make, shown):
    root = make("ball", 3, vatic(3, lost=[1], occluded=[2]))
    (ball,) = nfs_benchmark(root, sequences=["ball"])
    assert shown(ball) == [1, 2, 3]
    assert ball.boxes_xyxy.tolist() == [[5, 7, 25, 17], [6, 7, 26, 17], [7, 7, 27, 17]]
    assert ball.absent.tolist() == [False, True, False]
    assert ball.frame_attributes["occluded"].tolist() == [False, False, True]
    assert ball.valid.all()


@pytest.mark.parametrize(
    ("images", "lines", "kept"),
    [(5, 40, 5), (5, 33, 5), (5, 39, 5), (10, 9, 9), (10, 10, 10), (9, 10, 9)],
)
def test_every_eighth_line_and_one_line_short(make, images, lines, kept):
    root = make("ball", images, vatic(lines))
    (ball,) = nfs_benchmark(root, sequences=["ball"])
    assert len(ball) == kept
    step = 8 if lines > 12 else 1
    assert ball.boxes_xyxy[:, 0].tolist() == [5 + step * t for t in range(kept)]


def test_more_than_one_line_short_is_refused(make):
    root = make("ball", 10, vatic(8))
    with pytest.raises(
        DatasetError, match=r"ball: .* got 10 images in .* and 8 lines in .*ball\.txt"
    ):
        nfs_benchmark(root, sequences=["ball"])


def test_both_rates_are_read_from_one_root(make):
    make("ball", 2, vatic(2))
    root = make("ball", 16, vatic(16), fps=240)
    assert len(nfs_benchmark(root, fps=240, sequences=["ball"]).sequences[0]) == 16
    assert nfs_benchmark(root, sequences=["ball"]).name == "nfs30"
    with pytest.raises(ValueError, match="fps: expected 30 or 240, got 60"):
        nfs_benchmark(root, fps=60)
    with pytest.raises(DatasetError, match="100 sequences of NfS at 30 fps, found 1"):
        nfs_benchmark(root)


def test_a_line_that_is_not_vatic_is_named(make, tmp_path):
    root = make("ball", 2, vatic(1) + "10,20,30,40\n")
    with pytest.raises(DatasetError, match=r"ball\.txt, line 2: expected id xmin .* got '10,20"):
        nfs_benchmark(root, sequences=["ball"])
    with pytest.raises(DatasetError, match=r"no <Sequence>/240/<Sequence>.txt in it"):
        nfs_benchmark(root, fps=240)
