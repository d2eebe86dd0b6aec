import runpy
from pathlib import Path

import pytest

script = runpy.run_path(str(Path(__file__).parents[2] / "measurements/mdnet_speed.py"))


def test_learning_together_and_alone_take_time():
    found = script["together"](8, 4, rounds=1, targets=2)
    assert min(found) > 0


def test_products_are_those_of_the_layers():
    # fc4 2 x 3, fc5 3 x 3, fc6 3 x 2: 15 weights behind the first layer's 6. 1024 candidates forward;
    # 128 samples forward and back to weights, and back to inputs but for fc4: 128 (2 * 6 + 3 * 15).
    expected = 2 * 15 * (1024 * (6 + 15) + 128 * (2 * 6 + 3 * 15)) / 1e9
    assert script["products_gflop"](2, 3) == pytest.approx(expected)


def test_a_folder_without_py_mdnet_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="not a checkout of py-MDNet"):
        script["py_mdnet"](tmp_path)
