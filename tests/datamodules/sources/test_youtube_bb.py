import numpy as np
import pytest

from datamodules.errors import DatasetError
from datamodules.sources.youtube_bb import YouTubeBBSource
from datamodules.sources.youtube_bb_csv import parse_annotations, parse_sizes
from tests.datamodules import miniature as mini

LINE = "AAB6lO-XiKE,238000,0,person,0,present,0.482,0.54,0.25,0.625"


def parse(*lines):
    return parse_annotations("\n".join(lines).encode(), "f.csv")


def reasons(rows):
    return {(s.reason, s.count) for s in rows.skipped}


def test_the_official_order_of_the_edges_is_xmin_xmax_ymin_ymax():
    rows = parse(LINE)
    assert rows.boxes_xyxy.tolist() == [[0.482, 0.25, 0.54, 0.625]]
    assert rows.second.tolist() == [238]
    assert (rows.videos[0], rows.categories[0], rows.track(0)) == ("AAB6lO-XiKE", "person", "0-0")


def test_rows_are_sorted_by_video_object_and_time():
    lines = [
        LINE.replace("238000", "240000"),
        LINE.replace("AAB", "0AB"),
        LINE.replace("n,0,p", "n,1,p"),
        LINE,
    ]
    rows = parse(*lines)
    got = [
        (str(rows.videos[v]), rows.track(i), int(rows.second[i])) for i, v in enumerate(rows.video)
    ]
    a, b = "0AB6lO-XiKE", "AAB6lO-XiKE"
    assert got == [(a, "0-0", 238), (b, "0-0", 238), (b, "0-0", 240), (b, "0-1", 238)]
    assert rows.starts().tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("a,b,c", "line without 10 values"),
        (LINE + ",1", "line without 10 values"),
        ("\xff\xfe", "line without 10 values"),
        (LINE.replace("0.482", "x"), "line with a value that is no number"),
        (LINE.replace("0.482", ""), "line with a value that is no number"),
        (LINE.replace("238000", "2.5"), "line with a value that is no number"),
        (LINE.replace("person", "persön"), "class_name is not plain text"),
        (LINE.replace("AAB6", "../6"), "youtube_id is no id"),
        (LINE.replace("238000", "238500"), "time is not a whole second"),
        (LINE.replace("238000", "-1000"), "time is not a whole second"),
        (LINE.replace("n,0,p", "n,-1,p"), "class or object has a negative number"),
        (LINE.replace("present", "here"), "presence is neither present nor absent"),
    ],
)
def test_lines_that_cannot_be_used_are_counted_and_the_others_read(bad, reason):
    rows = parse(LINE, bad, LINE.replace("238000", "239000"), bad)
    assert rows.second.tolist() == [238, 239]
    assert reasons(rows) == {(reason, 2)}
    assert rows.skipped[0].example.startswith("f.csv")


def test_quotes_are_characters_like_others():
    rows = parse(LINE, '"' + LINE, LINE.replace("238000", "239000"))
    assert rows.second.tolist() == [238, 239]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\x00\x01", b"{}", b"<xml/>", b"\xff" * 100])
def test_files_that_hold_no_line_are_refused(data):
    with pytest.raises(DatasetError, match=r"f\.csv: expected lines youtube_id,time_ms|not a CSV"):
        parse_annotations(data, "f.csv")


def test_a_file_of_which_no_line_can_be_used_is_refused(tmp_path):
    mini.youtube_bb(tmp_path)
    (tmp_path / "yt_bb_detection_train.csv").write_text(LINE.replace("238000", "238500"))
    with pytest.raises(DatasetError, match=r"no usable track .* 1 × time is not a whole second"):
        YouTubeBBSource(tmp_path)


def test_a_list_of_sizes_replaces_the_frames(tmp_path):
    expected = mini.youtube_bb(tmp_path / "whole")
    (tmp_path / "bare").mkdir()
    file = tmp_path / "whole" / "yt_bb_detection_train.csv"
    sizes = tmp_path / "sizes.csv"
    lines = [f"{t.video},{t.image_wh[0, 0]},{t.image_wh[0, 1]}" for t in expected]
    sizes.write_text("youtube_id,width,height\n" + "\n".join(lines) + "\nother,3,4\n")
    source = YouTubeBBSource(tmp_path / "bare", annotations=file, sizes=sizes)
    mini.assert_same_tracks(source.index, expected)
    assert source.index.skipped == ()
    sizes.write_text(lines[0] + "\n")
    index = YouTubeBBSource(tmp_path / "bare", annotations=file, sizes=sizes).index
    assert len(index) == 1
    assert [(s.reason, s.count) for s in index.skipped] == [
        ("video without a usable size in the list of sizes", 2)
    ]


def test_bad_lines_of_a_list_of_sizes_are_counted():
    data = b"youtube_id,width,height\na,640,480\nb,0,480\n\nc,x,3\nd,1\n"
    image_wh, skipped = parse_sizes(data, np.array(["a", "b", "c", "d"], object), "s.csv")
    assert image_wh.tolist() == [[640, 480], [0, 0], [0, 0], [0, 0]]
    assert [s.example for s in skipped] == [
        "s.csv, line 3: 'b,0,480'",
        "s.csv, line 5: 'c,x,3'",
        "s.csv, line 6: 'd,1'",
    ]


def test_an_object_whose_own_file_is_missing_leaves_the_others(tmp_path):
    mini.youtube_bb(tmp_path)
    for file in (tmp_path / "yt_bb_detection_train" / "0").glob("cB-_000_*"):
        file.unlink()
    source = YouTubeBBSource(tmp_path)
    tracks = [source.index.track(i) for i in range(len(source.index))]
    assert [(t.video, t.track) for t in tracks if t.video == "cB-_000"] == [("cB-_000", "23-1")]
    assert source.frame_path("cB-_000", 31).name == "cB-_000_31000_23_1.jpg"
    # Five frames: at second 2 the object is absent, and its missing file no mistake.
    assert [(s.reason, s.count) for s in source.index.skipped] == [
        ("frame missing or unreadable", 5)
    ]


def test_a_video_whose_first_frame_is_no_image_is_left_out(tmp_path):
    mini.youtube_bb(tmp_path)
    (tmp_path / "yt_bb_detection_train/0/bB-_001_30000_0_0.jpg").write_bytes(b"gone")
    index = YouTubeBBSource(tmp_path).index
    assert "bB-_001" not in {index.video(i) for i in range(len(index))}
    assert [(s.reason, s.count) for s in index.skipped] == [("image cannot be read", 1)]


def test_the_frame_of_any_object_of_a_video_is_found(tmp_path):
    expected = mini.youtube_bb(tmp_path)
    source = YouTubeBBSource(tmp_path)
    for track in expected:
        for frame in track.frames:
            path = source.frame_path(track.video, int(frame))
            assert path.is_file()
            assert path.name.startswith(f"{track.video}_{1000 * frame}_")
    for video, frame in [("cB-_000", 99), ("none", 31), ("zzz", 31)]:
        with pytest.raises(KeyError, match=f"{video}, frame {frame}: no such frame"):
            source.frame_path(video, frame)


def test_new_frames_are_noticed(tmp_path):
    mini.youtube_bb(tmp_path)
    file = tmp_path / "yt_bb_detection_train/0/bB-_001_33000_0_0.jpg"
    picture = file.read_bytes()
    file.unlink()
    fewer = YouTubeBBSource(tmp_path).index.boxes
    file.write_bytes(picture)
    assert YouTubeBBSource(tmp_path).index.boxes == fewer + 1
    assert YouTubeBBSource(tmp_path).index.skipped == ()


def test_many_videos_are_cut_into_units_without_loss(tmp_path):
    lines = [
        f"v{v:04d},{1000 * t},0,person,0,present,0.1,0.5,0.1,0.5"
        for v in range(200)
        for t in range(3)
    ]
    (tmp_path / "yt_bb_detection_train.csv").write_text("\n".join(lines))
    (tmp_path / "sizes.csv").write_text("".join(f"v{v:04d},{100 + v},50\n" for v in range(200)))
    index = YouTubeBBSource(tmp_path, sizes=tmp_path / "sizes.csv").index
    assert (len(index), index.boxes) == (200, 600)
    for v in (0, 63, 64, 127, 128, 199):
        track = index.track(v)
        assert track.video == f"v{v:04d}"
        width = 100 + v
        np.testing.assert_allclose(
            track.boxes_xyxy[2], [0.1 * width, 5, 0.5 * width, 25], rtol=1e-6
        )


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected split train or validation, got 'test'"):
        YouTubeBBSource(tmp_path, split="test")
