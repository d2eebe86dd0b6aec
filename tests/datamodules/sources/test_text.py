import numpy as np
import pytest

from datamodules.sources.reading import BadEntryError
from datamodules.sources.text import parse_boxes, parse_flags


def test_boxes_of_any_separator_are_converted():
    # 1-based: the left top corner moves by one, the size stays.
    data = b"11,21,30.5,40\r\n11\t21 30.5,\t40\n1, 1, 2, 2\n"
    expected = [[10, 20, 40.5, 60], [10, 20, 40.5, 60], [0, 0, 2, 2]]
    assert parse_boxes(data, "f", origin=1).tolist() == expected
    assert parse_boxes(b"11,21,30,40", "f", origin=0).tolist() == [[11, 21, 41, 61]]


def test_numbers_that_are_none_or_too_large_are_read():
    boxes = parse_boxes(b"nan,1,2,3\n1e308,1,1e308,3\n-inf,0,inf,1", "f", origin=0)
    assert np.isnan(boxes[0, 0])
    assert np.isinf(boxes[1, 2])
    assert not np.isfinite(boxes[2]).all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"1,2,3\n",
        b"1,2,3,4,5\n",
        b"1,2,3,4\n1,2,3\n",
        b"1,2,3,4\n\n1,2,3,4\n",
        b"a,b,c,d",
        b"1,2,3,\xff",
        b"# 1,2,3,4\n",
        b"1,2,3,4\n\x00",
    ],
)
def test_files_that_are_no_boxes_are_refused(data):
    with pytest.raises(BadEntryError, match=r"f\.txt .*not one box of four numbers a line"):
        parse_boxes(data, "f.txt", origin=1)


def test_flags_stand_in_one_line_or_one_a_line():
    assert parse_flags(b"0,1,1\n", "f", 3).tolist() == [0, 1, 1]
    assert parse_flags(b"0\r\n1\r\n1", "f", 3).tolist() == [0, 1, 1]
    assert parse_flags(b"0 8", "f", 2, largest=8).tolist() == [0, 8]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"0,1", "2 flags, 3 boxes"),
        (b"", "0 flags, 3 boxes"),
        (b"0,1,2", "0 to 2, not 0 to 1"),
        (b"0,-1,0", "-1 to 0"),
        (b"0,x,0", "f.txt"),
        (b"0,1,\xff", "f.txt"),
    ],
)
def test_flags_that_are_none_are_refused(data, message):
    with pytest.raises(BadEntryError, match=message):
        parse_flags(data, "f.txt", 3)
