import os

import pytest

from datamodules.errors import DatasetError
from datamodules.frames import read_frame
from datamodules.sources.vid import VIDSource
from tests.datamodules import miniature as mini


def test_the_official_layout_is_read_box_for_box(tmp_path):
    expected = mini.vid(tmp_path)
    index = VIDSource(tmp_path, splits=("train", "val")).index
    mini.assert_same_tracks(index, expected)
    assert index.skipped == ()
    mini.assert_same_tracks(VIDSource(tmp_path).index, expected[:-2])
