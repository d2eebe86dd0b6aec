import runpy
from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_trackers.backbones import TinyResNet
from lightning_trackers.methods.siamrpn import SiamRPN
from lightning_trackers.methods.siamrpnpp import LayerwiseRPN
from lightning_trackers.siamese import for_inference, normalise

script = runpy.run_path(str(Path(__file__).parents[2] / "measurements/siamrpnpp_speed.py"))


@pytest.fixture(autouse=True)
def small_search(monkeypatch):
    monkeypatch.setitem(script["compare"].__globals__, "SEARCH", 127)


def network(seed=0):
    torch.manual_seed(seed)
    return SiamRPN(TinyResNet(2), partial(LayerwiseRPN, hidden=4)).eval()


class Twin:
    """What a pysot model looks like from outside: BGR images in, two maps out."""

    def __init__(self, net):
        self.net = net

    def template(self, images):
        self.kernels = self.net.exemplar(normalise(images.flip(1).byte()))

    def track(self, images):
        found = self.net.track(normalise(images.flip(1).byte()), self.kernels)
        background = torch.ones_like(found.cls_logits)
        return {
            "cls": torch.cat([background, found.cls_logits + background], dim=1),
            "loc": found.box_deltas.permute(0, 4, 1, 2, 3).flatten(1, 2),
        }


def test_equal_networks_are_compared_and_timed_in_turns():
    net = network()
    differences = script["compare"](for_inference(net), Twin(net))
    assert differences.keys() == {"cls_logits", "box_deltas"}
    assert max(differences.values()) < 1e-4  # folding rounds
    times = script["measure"](for_inference(net), Twin(net), rounds=3)
    assert len(times) == 3
    assert all(ours > 0 and theirs > 0 for ours, theirs in times)


def test_other_weights_are_refused():
    with pytest.raises(RuntimeError, match=r"cls_logits: .*the two networks are not the same"):
        script["compare"](network(0), Twin(network(1)))


def test_what_is_not_a_checkout_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no experiments.*expected a checkout of"):
        script["main"](["--pysot", str(tmp_path), "--threads", "1"])
