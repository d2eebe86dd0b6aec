from lightning_trackers.backbones import Tiny
from measurements.gradnet_update import measure


def test_every_part_takes_time():
    cost = measure(Tiny(2, 4), targets=2, rounds=2)
    assert min(cost.template_ms, cost.update_ms, cost.sample_ms, cost.ratio) > 0
