"""What every tracker's step owes to who calls it."""

import numpy as np
import pytest

from experiments.config import made
from tests.experiments.composing import composed

METHODS = ["siamfc", "siamrpn", "siamrpnpp", "hnse", "gradnet", "mdnet", "rtmdnet", "dslt", "sint"]


@pytest.fixture(params=METHODS)
def tracker(request):
    return made(composed(f"+exp={request.param}").module).tracker()


def test_no_targets_give_no_predictions(tracker):
    assert tracker.step([], []) == []


def test_a_frame_too_many_is_refused(tracker):
    with pytest.raises(ValueError, match="expected one frame per state, got 0 states and 1 frame"):
        tracker.step([], [np.zeros((48, 64, 3), np.uint8)])
