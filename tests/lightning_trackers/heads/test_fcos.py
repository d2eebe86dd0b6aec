from math import log

import pytest
import torch

from lightning_trackers.heads import FCOSHead

GENERATOR = torch.Generator().manual_seed(0)
SEARCH = torch.randn(2, 16, 31, 31, generator=GENERATOR)
EXEMPLAR = torch.randn(2, 16, 7, 7, generator=GENERATOR)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return FCOSHead(in_channels=16, hidden=8).eval()


def test_the_paper_s_maps_have_25_cells(head):
    maps = head(SEARCH, head.exemplar(EXEMPLAR))
    assert maps.cls_logits.shape == maps.centerness_logits.shape == (2, 25, 25)
    assert maps.log_ltrb.shape == (2, 25, 25, 4)


def test_psi_is_four_3_by_3_convolutions_and_the_centerness_a_1_by_1(head):
    for tower in (head.cls_tower, head.box_tower):
        assert [layer[0].kernel_size for layer in tower] == [(3, 3)] * 4
    assert head.centerness_out.kernel_size == (1, 1)
    assert head.cls_out.out_channels == 2  # S is w x h x 2
    assert head.box_out.out_channels == 4


def test_an_untrained_head_says_background_and_a_medium_box(head):
    maps = head(SEARCH, head.exemplar(EXEMPLAR))
    # A score of 0.01 and distances of 4 strides, but for the noise of its last weights.
    torch.testing.assert_close(maps.cls_logits.mean().item(), log(0.01 / 0.99), atol=0.3, rtol=0)
    torch.testing.assert_close(maps.log_ltrb.mean().item(), log(4.0), atol=0.3, rtol=0)


def test_score_and_centerness_share_a_tower_and_the_box_has_its_own(head):
    maps = head(SEARCH, head.exemplar(EXEMPLAR))
    maps.centerness_logits.sum().backward(retain_graph=True)
    assert head.cls_tower[0][0].weight.grad.abs().sum() > 0
    assert head.box_tower[0][0].weight.grad is None
    maps.log_ltrb.sum().backward()
    assert head.box_tower[0][0].weight.grad.abs().sum() > 0


def test_the_score_is_the_softmax_of_the_two_maps(head):
    features = []
    head.cls_out.register_forward_hook(lambda module, inputs, output: features.append(output))
    maps = head(SEARCH, head.exemplar(EXEMPLAR))
    torch.testing.assert_close(maps.cls_logits.sigmoid(), features[0].softmax(1)[:, 1])


def test_each_exemplar_is_compared_with_its_own_search_region(head):
    kernels = head.exemplar(EXEMPLAR)
    together = head(SEARCH, kernels)
    alone = head(SEARCH[1:], head.exemplar(EXEMPLAR[1:]))
    torch.testing.assert_close(together.log_ltrb[1:], alone.log_ltrb, atol=1e-5, rtol=1e-4)
