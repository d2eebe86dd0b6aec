import runpy
from pathlib import Path

from lightning_trackers.backbones import Tiny

script = runpy.run_path(str(Path(__file__).parents[2] / "measurements/gradnet_update.py"))


def test_every_part_takes_time():
    cost = script["measure"](Tiny(2, 4), targets=2, rounds=2)
    assert min(cost.template_ms, cost.update_ms, cost.sample_ms, cost.ratio) > 0
