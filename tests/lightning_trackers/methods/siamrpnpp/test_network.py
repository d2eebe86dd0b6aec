from functools import partial

import numpy as np
import pytest
import torch

from lightning_trackers.backbones import Tiny, TinyResNet
from lightning_trackers.evaluation.tracker import LiveTracker
from lightning_trackers.heads import Kernels
from lightning_trackers.methods.siamrpn import SiamRPN, SiamRPNSettings, SiamRPNTracker
from lightning_trackers.methods.siamrpnpp import LayerwiseRPN
from lightning_trackers.methods.siamrpnpp.network import centre, fuse
from lightning_trackers.siamese import for_inference


def network(seed=0):
    torch.manual_seed(seed)
    net = SiamRPN(TinyResNet(2), partial(LayerwiseRPN, hidden=4))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # not the identity
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return net


def test_fusion_by_hand():
    # exp(0) : exp(ln 2) : exp(ln 5) = 1 : 2 : 5, of 8.
    weights = torch.tensor([0.0, 2.0, 5.0]).clamp(min=1).log()
    answers = [torch.full((2, 2), value) for value in (8.0, 4.0, -1.6)]
    # 1/8 * 8 + 2/8 * 4 - 5/8 * 1.6 = 1 + 1 - 1
    torch.testing.assert_close(fuse(answers, weights), torch.ones(2, 2))


def test_untrained_weights_make_the_mean():
    answers = [torch.tensor([3.0]), torch.tensor([6.0]), torch.tensor([0.0])]
    torch.testing.assert_close(fuse(answers, torch.ones(3)), torch.tensor([3.0]))


def test_the_proposals_are_the_weighted_sum_of_three_heads_of_their_own():
    net = network().eval()
    head = net.head
    with torch.no_grad():
        head.cls_weights.copy_(torch.tensor([0.1, -0.3, 0.5]))
        head.box_weights.copy_(torch.tensor([-1.0, 0.2, 0.4]))
        exemplars, searches = torch.randn(2, 3, 127, 127), torch.randn(2, 3, 191, 191)
        found = net(exemplars, searches)
        cls, box = 0, 0
        shares_cls = head.cls_weights.exp() / head.cls_weights.exp().sum()
        shares_box = head.box_weights.exp() / head.box_weights.exp().sum()
        for i in range(3):
            z = head.adjust[i](net.backbone(exemplars)[i])[..., 4:11, 4:11]  # 7 of 15 cells
            x = head.adjust[i](net.backbone(searches)[i])
            one = head.rpns[i](x, head.rpns[i].exemplar(z))
            cls = cls + shares_cls[i] * one.cls_logits
            box = box + shares_box[i] * one.box_deltas
    torch.testing.assert_close(found.cls_logits, cls)
    torch.testing.assert_close(found.box_deltas, box)


@pytest.mark.parametrize(("size", "cells"), [(255, 25), (191, 17)])
def test_the_toolkit_s_response_sizes(size, cells):
    proposals = network().eval()(torch.zeros(1, 3, 127, 127), torch.zeros(1, 3, size, size))
    assert proposals.cls_logits.shape == (1, 5, cells, cells)
    assert proposals.box_deltas.shape == (1, 5, cells, cells, 4)


def test_each_branch_has_weights_of_its_own_that_learn():
    net = network()
    proposals = net(torch.randn(2, 3, 127, 127), torch.randn(2, 3, 127, 127))
    proposals.cls_logits.square().sum().backward()
    assert net.head.cls_weights.grad.abs().max() > 0
    assert net.head.box_weights.grad is None


def test_the_centre_of_odd_and_even_features():
    features = torch.arange(15).float().expand(1, 1, 15, 15)
    assert centre(features, 7)[0, 0, 0].tolist() == [4, 5, 6, 7, 8, 9, 10]
    assert centre(features[..., :8], 7)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert centre(features, 7).shape == (1, 1, 7, 7)


def test_an_exemplar_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=r"at least 7 x 7 cells, got 5 x 5"):
        network().exemplar(torch.zeros(1, 3, 47, 47))


def test_a_backbone_of_one_depth_is_refused():
    with pytest.raises(ValueError, match=r"several depths.*96 channels"):
        SiamRPN(Tiny(4, 96), LayerwiseRPN)


def test_kernels_of_a_target_are_rows_of_the_batch_s():
    net = network().eval()
    exemplars, search = torch.randn(3, 3, 127, 127), torch.randn(1, 3, 127, 127)
    with torch.no_grad():
        together = net.exemplar(exemplars)
        alone = net.exemplar(exemplars[1:2])
        found = net.track(search, Kernels(together.cls[1:2], together.box[1:2]))
    torch.testing.assert_close(found, net.track(search, alone))


def test_the_inference_copy_answers_the_same():
    net = network().eval()
    exemplars, searches = torch.randn(1, 3, 127, 127), torch.randn(1, 3, 255, 255)
    with torch.no_grad():
        torch.testing.assert_close(
            for_inference(net)(exemplars, searches), net(exemplars, searches), atol=1e-4, rtol=1e-4
        )


def test_siamrpn_s_tracker_follows_several_targets_as_it_follows_one():
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (3, 120, 160, 3), dtype=np.uint8))
    boxes = np.array([[30.0, 30, 70, 60], [80, 20, 120, 90]])
    tracker = SiamRPNTracker(for_inference(network()), SiamRPNSettings(search_size=255))
    states = [tracker.start(frames[0], box) for box in boxes]
    lives = [LiveTracker(tracker) for _ in boxes]
    for live, box in zip(lives, boxes, strict=True):
        live.init(frames[0], box)
    for frame in frames[1:]:
        together = tracker.step(states, [frame, frame])
        for live, found in zip(lives, together, strict=True):
            # Batched sums may be added in another order.
            np.testing.assert_allclose(live.update(frame).box_xyxy, found.box_xyxy, atol=1e-2)
