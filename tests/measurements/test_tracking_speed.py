import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lightning_trackers.methods.siamrpn import SiamRPNSettings

script = runpy.run_path(str(Path(__file__).parents[2] / "measurements/tracking_speed.py"))


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def renamed_back(weights):
    """Our names for pysot's weights."""
    names = {theirs: ours for ours, theirs in script["NAMES"].items()}
    return {
        next(names[p] + n.removeprefix(p) for p in names if n.startswith(p)): value
        for n, value in weights.items()
    }


class Twin:
    """What a pysot model looks like from outside: BGR images in, two maps out."""

    def __init__(self, network):
        self.network = script["paper_network"]()
        self.network.load_state_dict(renamed_back(script["to_pysot"](network.state_dict())))

    def template(self, images):
        self.kernels = self.network.exemplar(images)

    def track(self, images):
        head, features = self.network.head, self.network.backbone(images)
        correlate = script["DepthwiseRPN"].forward.__globals__["xcorr_depthwise"]
        return {
            "cls": head.cls_out(correlate(head.cls_search(features), self.kernels.cls)),
            "loc": head.box_out(correlate(head.box_search(features), self.kernels.box)),
        }


def test_the_converted_weights_answer_raw_bgr_images_as_ours_answer_normalised_rgb():
    network = script["paper_network"]()
    script["compare"](network, Twin(network), SiamRPNSettings(search_size=135))


def test_a_network_with_other_weights_is_refused():
    network = script["paper_network"](seed=0)
    with pytest.raises(RuntimeError, match=r"cls_logits: .*the two networks are not the same"):
        script["compare"](network, Twin(script["paper_network"](seed=1)), SiamRPNSettings())


def test_a_weight_without_counterpart_is_named():
    with pytest.raises(KeyError, match=r"head\.extra"):
        script["to_pysot"]({"head.extra.weight": torch.zeros(1)})


def test_the_command_prints_and_writes_its_table(capsys, tmp_path):
    file = tmp_path / "speed.csv"
    argv = ["--frames", "3", "--rounds", "1", "--lanes", "2", "--threads", "1", "--csv", str(file)]
    script["main"](argv)
    printed = capsys.readouterr().out.splitlines()
    rows = [line.split(",") for line in file.read_text().replace('"', "").splitlines()]
    assert "--pysot" in printed[-1]
    assert len(printed) == len(rows) + 1 == 6
    assert rows[0] == script["HEADER"]
    # Names hold commas; the last four cells are fps, network ms, share outside, ratio.
    for *_, fps, network_ms, outside, ratio in rows[1:]:
        assert float(fps) > 0
        assert float(network_ms) > 0
        assert 0 < float(outside.rstrip("%")) < 100
        assert ratio == ""


def test_what_is_not_a_checkout_is_refused(tmp_path):
    clip = script["Clip"]("grey", [np.zeros((50, 50, 3), np.uint8)] * 3, np.array([9.0, 9, 30, 30]))
    with pytest.raises(FileNotFoundError, match=r"no experiments.*expected a checkout of"):
        script["measure"]([clip], rounds=1, pysot=tmp_path)
