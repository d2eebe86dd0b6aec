import math

import pytest

from lightning_trackers.methods.dslt import gaussian_label, kernel_size


@pytest.mark.parametrize(
    ("target_wh", "ratio", "kernel_hw"),
    [
        ((72, 40), 1.0, (5, 9)),  # 9 × 5 cells, which are odd
        ((60, 44), 1.0, (5, 7)),  # 7.5 and 5.5 cells
        ((3, 500), 1.0, (63, 1)),  # a hair: one cell wide
        ((72, 40), 0.6, (3, 5)),  # 5.4 and 3 cells
    ],
)
def test_kernel_is_the_target_s_size_in_odd_cells(target_wh, ratio, kernel_hw):
    assert kernel_size(target_wh, 8, ratio) == kernel_hw


def test_label_by_hand():
    # Target of 20 × 10 cells: sigma is 2 columns and 1 row; centre one column right of the middle.
    label = gaussian_label((5, 7), (1.0, 0.0), (20, 10))
    assert label.shape == (5, 7)
    assert label[2, 4] == 1
    assert label[2, 2] == pytest.approx(math.exp(-0.5))  # two columns: 1 sigma
    assert label[3, 4] == pytest.approx(math.exp(-0.5))  # one row: 1 sigma
    assert label[4, 6] == pytest.approx(math.exp(-0.5 - 2.0))


def test_label_lies_between_cells_and_never_divides_by_0():
    label = gaussian_label((4, 4), (0.0, 0.0), (10, 10))
    assert label.flatten().topk(4).values.tolist() == pytest.approx([math.exp(-0.25)] * 4)
    assert gaussian_label((3, 3), (0.2, 0.0), (0, 0)).isfinite().all()
