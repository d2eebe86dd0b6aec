import csv
import math
from functools import partial

import pytest
import torch

from callbacks.template_descent import TemplateDescent
from lightning_trackers.backbones import Tiny
from lightning_trackers.batches import PairBatch
from lightning_trackers.losses import BinaryCrossEntropy
from lightning_trackers.methods.gradnet import iterations_to_converge
from lightning_trackers.methods.siamfc import (
    SiamFC,
    SiamFCModule,
    SiamFCSettings,
    SiamFCTracker,
    response_labels,
)
from lightning_trackers.siamese import normalise
from lightning_trackers.training import GeometricSchedule, Optimisation


def batch(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return PairBatch(
        torch.randint(0, 256, (count, 3, 127, 127), generator=generator, dtype=torch.uint8),
        torch.randint(0, 256, (count, 3, 255, 255), generator=generator, dtype=torch.uint8),
        torch.tensor([[100.0, 100, 155, 155]]).repeat(count, 1),
        torch.ones(count, dtype=torch.bool),
        ["drawn"] * count,
        torch.tensor([[40.0, 40, 87, 87]]).repeat(count, 1),
    )


class FakeData:
    def val_dataloader(self):
        return [batch(2, 0), batch(2, 1), batch(2, 2)]


class FakeTrainer:
    is_global_zero = True
    datamodule = FakeData()


@pytest.fixture
def siamfc():
    torch.manual_seed(0)
    return SiamFCModule(
        SiamFC(Tiny(2, 4)),
        BinaryCrossEntropy(balanced=True),
        partial(SiamFCTracker, settings=SiamFCSettings()),
        Optimisation(torch.optim.SGD, partial(GeometricSchedule), reference_batch=1),
    )


def test_the_table_holds_the_median_of_the_first_pairs_for_each_rate(tmp_path, siamfc):
    # Without training, features are tiny and rates have to be huge.
    options = {"remaining": 0.95, "max_iterations": 40}
    callback = TemplateDescent(tmp_path, {1: 449, 3: math.inf, "7": None}, 1e9, 3, **options)
    callback.on_fit_end(FakeTrainer(), siamfc)
    with (tmp_path / "table1.csv").open() as file:
        rows = {row["lr"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["1x", "3x", "7x"]
    assert [row["paper"] for row in rows.values()] == ["449", "inf", ""]
    network = siamfc.network.eval()
    pairs = [batch(2, 0), batch(2, 1)]
    with torch.no_grad():
        exemplars = torch.cat([p.exemplars for p in pairs])[:3]
        templates = network.exemplar(normalise(exemplars))
        searches = network.backbone(normalise(torch.cat([p.searches for p in pairs])[:3]))
    labels = response_labels(
        pairs[0].search_boxes_xyxy[:1].repeat(3, 1), torch.ones(3, dtype=torch.bool),
        cells=17, stride=8, search_size=255, radius=16,
    )  # fmt: skip
    for multiplier in (1, 3, 7):
        found = sorted(
            iterations_to_converge(
                templates, searches, labels, loss=siamfc.loss, lr=1e9 * multiplier, **options
            )
        )
        row = rows[f"{multiplier}x"]
        assert float(row["median iterations"]) == found[1]
        assert row["converged"] == f"{sum(n < math.inf for n in found) / 3:.0%}"
    assert len({row["median iterations"] for row in rows.values()}) > 1


def test_another_method_is_refused(tmp_path):
    with pytest.raises(TypeError, match="expected SiamFC"):
        TemplateDescent(tmp_path, {1: None}).on_fit_end(FakeTrainer(), torch.nn.Linear(1, 1))
