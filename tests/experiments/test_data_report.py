import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from datamodules.errors import DatasetError
from datamodules.frames import read_frame
from datamodules.packing import PackSettings, pack
from datamodules.shards import ShardSource
from datamodules.sources.tracks import TrackSource
from datamodules.sources.vid import VIDSource
from datamodules.tracks import Skipped, TrackIndex
from experiments.data_report import contact_sheet, count, draw_pairs, write_data_report
from tests.datamodules import miniature as mini


@pytest.fixture
def source(tmp_path):
    mini.vid(tmp_path)
    return VIDSource(tmp_path)


def test_counts_are_those_of_visible_boxes(tmp_path):
    tracks = [
        # 30 × 10 and 10 × 10 px; the second row shows nothing.
        mini.track("a", "0", "dog", [0, 3, 5], [(0, 0, 30, 10), (0, 0, 0, 0), (0, 0, 10, 10)],
                   visible=[True, False, True], occluded=[False, True, True]),
        mini.track("a", "1", "cat", [2], [(0, 0, 20, 20)], wh=(40, 10)),
        mini.track("b", "0", "dog", [7], [(0, 0, 8, 2)]),
    ]  # fmt: skip
    counts = count(TrackIndex.write(tmp_path / "i.arrow", tracks))
    assert (counts.videos, counts.tracks, counts.boxes) == (2, 3, 4)
    assert (counts.occluded, counts.invisible) == (1, 1)
    np.testing.assert_allclose(counts.side, [np.sqrt(300), 10, 20, 4])
    np.testing.assert_allclose(counts.aspect, [3, 1, 1, 4])
    np.testing.assert_allclose(counts.relative_side[2], 20 / np.sqrt(400))
    assert counts.length.tolist() == [2, 1, 1]
    assert counts.gap.tolist() == [5]
    assert counts.by_category == {"dog": 2, "cat": 1}
    assert counts.image_sizes == {(mini.WIDTH, mini.HEIGHT): 3, (40, 10): 1}


def test_the_page_needs_no_other_file_and_says_what_was_left_out(source, tmp_path):
    path = source.index.path
    skipped = [Skipped("box <inverted>", 1234, "Bär/1.xml")]
    tracks = [source.index.track(i) for i in range(len(source.index))]
    source = TrackSource("vid", TrackIndex.write(path, tracks, "", skipped), source.frame_path)
    report = write_data_report(source, tmp_path / "report", pairs=5)
    page = report.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert page.count("<figure>") == 5
    assert "box &lt;inverted&gt;" in page
    assert "1,234" in page
    assert "Bär/1.xml" in page
    for name in ("histograms.png", "pairs.png"):
        assert read_frame(report.parent / name).std() > 10


def test_nothing_left_out_is_said(source, tmp_path):
    assert "every entry of the annotations" in write_data_report(
        source, tmp_path, pairs=1
    ).read_text(encoding="utf-8")


def test_the_sheet_shows_the_pairs_and_their_boxes(source):
    pairs = draw_pairs(source, 4, max_gap=3, seed=0)
    assert len({p.source_id for p in pairs}) > 1
    again = draw_pairs(source, 4, max_gap=3, seed=0)
    assert [p.source_id for p in pairs] == [p.source_id for p in again]
    sheet = contact_sheet(pairs, columns=2)
    np.testing.assert_array_equal(sheet[12 : 12 + 255, 12 : 12 + 255], pairs[0].exemplar)
    drawn = np.abs(pairs[0].exemplar.astype(int) - (0, 158, 115)).sum(axis=2) < 20
    assert drawn.sum() > 100  # the colour of the box
    ys, xs = np.nonzero(drawn)
    assert abs(ys.mean() - 127) < 3  # around the centre
    assert abs(xs.mean() - 127) < 3


def test_a_pair_that_cannot_be_read_is_replaced_and_a_source_of_such_refused(source):
    frames = sorted(source.frame_path.folder.rglob("*.JPEG"))
    frames[2].write_bytes(b"")
    assert len(draw_pairs(source, 20, max_gap=100, seed=0)) == 20
    for file in frames:
        file.unlink()
    with pytest.raises(DatasetError, match=r"vid: of 80 pairs only 0 could be read; .*\.JPEG"):
        draw_pairs(source, 20, max_gap=100, seed=0)


def test_packed_crops_are_reported_too(source, tmp_path):
    pack(source, tmp_path / "shards", PackSettings(shard_frames=20))
    report = write_data_report(ShardSource(tmp_path / "shards"), tmp_path / "report", pairs=2)
    assert "511 × 511" in report.read_text(encoding="utf-8")


def test_long_and_foreign_ids_fit_the_sheet(source):
    (pair,) = draw_pairs(source, 1, max_gap=0, seed=0)
    sheet = contact_sheet([replace(pair, source_id="ö" * 300)], columns=1)
    assert sheet.shape == (255 + 12 + 22 + 12, 2 * 255 + 24, 3)
    assert cv2.cvtColor(sheet, cv2.COLOR_RGB2GRAY)[-12:].min() == 255
