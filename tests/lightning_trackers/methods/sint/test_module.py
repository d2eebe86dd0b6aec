from functools import partial

import pytest
import torch

from lightning_trackers.backbones import TinyVGG
from lightning_trackers.batches import PairBatch
from lightning_trackers.methods.loading import load_tracker, write_checkpoint
from lightning_trackers.methods.sint import (
    BoxSampling,
    SINTModule,
    SINTNetwork,
    SINTSettings,
    SINTTracker,
)
from lightning_trackers.training import GeometricSchedule, Optimisation

SAMPLING = BoxSampling(boxes=12, positives=4)


def module(**values):
    torch.manual_seed(0)
    return SINTModule(
        SINTNetwork(TinyVGG(4, pool=3, hidden=10), pool=3),
        partial(SINTTracker, settings=SINTSettings(96, 1.5, 0.2)),
        Optimisation(partial(torch.optim.SGD, lr=0.1), GeometricSchedule, reference_batch=2),
        SAMPLING,
        **values,
    )


def batch(positive=(True, True)):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, 96, 96), generator=generator, dtype=torch.uint8)
    boxes = torch.tensor([[30.0, 30, 66, 66], [34, 28, 60, 70]])
    return PairBatch(images[:2], images[2:], boxes + 3, torch.tensor(positive), ["a", "b"], boxes)


def expected_loss(m, b, margin):
    """The loss pair of boxes by pair of boxes."""
    targets = torch.cat([b.exemplar_boxes_xyxy, b.search_boxes_xyxy])
    boxes, labels = SAMPLING(targets, 96, torch.Generator().manual_seed(5))
    vectors = m.network.embed(torch.cat([b.exemplars, b.searches]), boxes)
    terms = []
    for i in range(2):
        for query, other in ((i, 2 + i), (2 + i, i)):
            for n in range(boxes.shape[1]):
                label = int(labels[other, n])
                if label == 1 and not b.is_positive[i]:
                    label = 0
                squared = (vectors[query, 0] - vectors[other, n]).square().sum()
                if label == 1:
                    terms.append(squared)
                elif label == 0:
                    terms.append((margin - squared).clamp(min=0))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("positive", [(True, True), (True, False)])
@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_loss_is_over_the_boxes_of_the_other_frame(positive, margin):
    m, b = module(margin=margin).eval(), batch(positive)
    found = m.losses(b, torch.Generator().manual_seed(5))
    torch.testing.assert_close(found["loss"], expected_loss(m, b, margin))


def test_every_parameter_learns():
    m = module()
    m.losses(batch(), torch.Generator().manual_seed(5))["loss"].backward()
    for name, parameter in m.network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_few_steps_on_one_batch_part_the_boxes():
    m, b = module(), batch()
    optimizer = torch.optim.Adam(m.parameters(), 3e-3)

    def step():
        found = m.losses(b, torch.Generator().manual_seed(5))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        return float(found["positive"] - found["negative"])

    gaps = [step() for _ in range(30)]
    assert gaps[-1] > gaps[0] + 0.2


def test_crops_of_two_sizes_are_refused():
    b = batch()._replace(exemplars=torch.zeros(2, 3, 48, 48, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"one size, got \(48, 48\) and \(96, 96\)"):
        module().losses(b, torch.Generator())


def test_a_checkpoint_gives_the_tracker_back(tmp_path):
    m = module()
    room = "lightning_trackers.methods.sint"
    recipe = {
        "network": {
            "_target_": f"{room}.SINTNetwork",
            "backbone": {
                "_target_": "lightning_trackers.backbones.TinyVGG",
                "width": 4,
                "pool": 3,
                "hidden": 10,
            },
            "pool": 3,
        },
        "tracker": {
            "_target_": f"{room}.SINTTracker",
            "_partial_": True,
            "settings": {"_target_": f"{room}.SINTSettings", "image_size": 96, "steps": 4},
        },
    }
    write_checkpoint(tmp_path / "sint.ckpt", recipe, m.network.state_dict())
    tracker = load_tracker(tmp_path / "sint.ckpt", {"steps": 3})
    assert (tracker.settings.image_size, tracker.settings.steps) == (96, 3)
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    boxes = torch.tensor([[[10.0, 10, 60, 70]]])
    torch.testing.assert_close(
        tracker.network.embed(images, boxes), m.network.eval().embed(images, boxes)
    )
