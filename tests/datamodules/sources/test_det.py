import numpy as np
import pytest

from datamodules.sources.det import DETSource
from tests.datamodules import miniature as mini


def test_bad_entries_are_left_out_and_counted(tmp_path):
    expected = mini.det(tmp_path)
    folder = tmp_path / "Annotations/DET/train/ILSVRC2014_train_0000"
    first, second, third = sorted(folder.glob("ILSVRC_*.xml"))
    first.write_bytes(first.read_bytes()[:40])
    second.write_text(mini.voc_xml((100, 74), [{"name": "n1", "box": (30, 5, 9, 20)}]))
    third.write_text(mini.voc_xml((104, 76), [{"name": "n1", "box": (5, 5, 9, 20)}]))
    index = DETSource(tmp_path).index
    assert [(s.reason, s.count) for s in index.skipped] == [
        ("malformed XML", 1),
        ("box not finite, without area or outside the image", 1),
        ("target without a usable frame", 1),
    ]
    # 4 objects in 2013, of 4 in 2014 one is left.
    assert len(index) == 5 < len(expected)
    assert index.track(4).boxes_xyxy.tolist() == [[5, 5, 9, 20]]


def test_a_positive_pair_shows_one_image_twice(tmp_path):
    mini.det(tmp_path)
    source = DETSource(tmp_path)
    for seed in range(5):
        exemplar, search, _ = source.draw(np.random.default_rng(seed), max_gap=100, positive=True)
        assert exemplar.path == search.path
        assert exemplar.box_xyxy.tolist() == search.box_xyxy.tolist()


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected splits of train, val, got 'test'"):
        DETSource(tmp_path, splits=("test",))
