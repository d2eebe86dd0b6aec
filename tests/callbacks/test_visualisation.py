import av
import numpy as np
import pytest

from callbacks.visualisation import ClipWriter, DrawnBox, draw_boxes, write_clip


def grey(height=40, width=60, value=100):
    return np.full((height, width, 3), value, dtype=np.uint8)


def decoded(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_box_is_drawn_on_its_outermost_pixels():
    # Continuous edges 10..30 × 5..25 cover the pixels 10..29 and 5..24.
    frame = grey()
    picture = draw_boxes(frame, [DrawnBox(np.array([10, 5, 30, 25]), colour=(255, 0, 0))])
    for y, x in ((5, 10), (5, 29), (24, 10), (24, 29), (15, 10), (5, 20)):
        assert picture[y, x].tolist() == [255, 0, 0]
    assert picture[15, 20].tolist() == [100, 100, 100]  # not filled
    assert picture[9, 35].tolist() == [100, 100, 100]
    assert (frame == 100).all()  # the input is unchanged


def test_box_that_is_not_finite_or_far_away_draws_nothing():
    frame = grey()
    boxes = [DrawnBox(np.full(4, np.nan)), DrawnBox(np.array([1e30, 1e30, 2e30, 2e30]))]
    assert (draw_boxes(frame, boxes) == frame).all()


@pytest.mark.parametrize("size_hw", [(20, 24), (120, 160), (1080, 1920)])
def test_label_and_caption_fit_into_any_frame(size_hw):
    frame = grey(*size_hw)
    box = np.array([size_hw[1] - 5, -3, size_hw[1] + 20, 4])  # its label would be outside
    plain = draw_boxes(frame, [DrawnBox(box)])
    labelled = draw_boxes(frame, [DrawnBox(box, "siamrpn_sl")], caption="12/150")
    assert labelled.shape == frame.shape
    assert (labelled != plain).any()


def test_clip_is_h264_that_browsers_play(tmp_path):
    path = tmp_path / "clips" / "a.mp4"
    with ClipWriter(path, fps=10) as clip:
        for value in (20, 120, 220):
            clip.write(grey(value=value))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 10
        assert container.format.name.startswith("mov,mp4")
    frames = decoded(path)
    # Lossy: a flat grey comes back within a few levels.
    assert [round(float(f.mean()), -1) for f in frames] == [20, 120, 220]


def test_odd_size_is_padded_by_repeating_the_border(tmp_path):
    frame = grey(41, 61)
    with ClipWriter(tmp_path / "a.mp4", crf=1) as clip:
        clip.write(frame)
    picture = decoded(tmp_path / "a.mp4")[0]
    assert picture.shape == (42, 62, 3)
    assert np.abs(picture.astype(int) - 100).max() < 8  # no black line


def test_wide_frames_are_scaled_down_and_later_sizes_follow_the_first(tmp_path):
    with ClipWriter(tmp_path / "a.mp4", max_width=40) as clip:
        clip.write(grey(50, 80))
        clip.write(grey(30, 44))
    assert [f.shape for f in decoded(tmp_path / "a.mp4")] == [(26, 40, 3)] * 2  # 25 rows, made even


def write_and_raise(path, error):
    with ClipWriter(path) as clip:
        clip.write(grey())
        clip.write(grey())
        raise error


def test_interrupted_clip_is_kept_and_plays(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(path, KeyboardInterrupt)
    assert len(decoded(path)) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_failed_clip_leaves_the_earlier_one_and_nothing_else(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(ZeroDivisionError):
        write_and_raise(path, ZeroDivisionError)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_clip_without_frames_is_no_file(tmp_path):
    with ClipWriter(tmp_path / "a.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), 5000])
def test_impossible_rate_is_refused(tmp_path, fps):
    with pytest.raises(ValueError, match="expected frames per second in"):
        ClipWriter(tmp_path / "a.mp4", fps)


def test_write_clip_scales_boxes_with_the_frame(tmp_path):
    frames = [grey(400, 960)] * 3
    boxes = np.tile([100.0, 100.0, 300.0, 300.0], (3, 1))
    path = write_clip(tmp_path / "a.mp4", frames, {"": boxes}, max_frames=2, max_width=480)
    pictures = decoded(path)
    assert len(pictures) == 2
    assert pictures[0].shape == (200, 480, 3)
    # Half size: the box lies at 50..150, so its left edge is green and its middle is grey.
    red, green, _ = pictures[0][100, 50].astype(int)
    assert green > red + 40
    assert np.abs(pictures[0][100, 100].astype(int) - 100).max() < 12
