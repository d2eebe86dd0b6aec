import numpy as np
import pytest

from lightning_trackers.evaluation.number_files import read_number_files


def written(folder, *texts):
    files = [folder / f"{i}.txt" for i in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_bytes(text.encode())
    return files


def test_tables_of_any_separator_come_out_one_after_another(tmp_path):
    files = written(
        tmp_path,
        "1,2.5\n3,4\n",
        "5\t6\r\n7\t8",  # no line end at the end
        "  9   10\n 11  1.2e1\n\n",
        "NaN,nan\n1, -2\n",
    )
    rows, lengths = read_number_files(files, 2)
    assert lengths.tolist() == [2, 2, 2, 2]
    expected = [[1, 2.5], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12], [np.nan] * 2, [1, -2]]
    np.testing.assert_array_equal(rows, expected)
    assert rows.dtype == np.float64


def test_numbers_are_those_that_numpy_reads(tmp_path):
    values = np.random.default_rng(0).normal(0, 300, (500, 4))
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    np.savetxt(files[0], values[:123], fmt="%.6f", delimiter=",")
    np.savetxt(files[1], values[123:], fmt="%.17g", delimiter=",")
    rows, lengths = read_number_files(files, 4)
    expected = np.concatenate([np.loadtxt(file, delimiter=",") for file in files])
    np.testing.assert_array_equal(rows, expected)
    assert lengths.tolist() == [123, 377]


def test_one_column_and_one_row_are_tables(tmp_path):
    rows, lengths = read_number_files(written(tmp_path, "0.01\n0.02 \n", "0.5"), 1)
    assert rows.tolist() == [[0.01], [0.02], [0.5]]
    assert lengths.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3;4\n", r"1\.txt, line 2: expected 2 numbers, got '3;4'"),
        ("1,2\n\n3,4\n", r"1\.txt, line 2: expected 2 numbers, got ''"),
        ("1,2\n3,4,5\n", r"1\.txt, line 2: expected 2 numbers, got '3,4,5'"),
        ("1,2,3\n", r"1\.txt, line 1: expected 2 numbers"),
        ("", r"1\.txt, line 1: expected 2 numbers, got ''"),
        ("x y\n", r"1\.txt, line 1: expected 2 numbers, got 'x,y'"),
        ("1,\n", r"1\.txt, line 1: expected 2 numbers, got '1,'"),
    ],
)
def test_the_line_that_is_no_row_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_number_files(written(tmp_path, "1,2\n", text), 2)
