import pytest
import torch
from torch.nn.functional import softmax

from lightning_trackers.heads import DepthwiseRPN, UpChannelRPN


@pytest.mark.parametrize("head", [DepthwiseRPN(6, anchors=3, hidden=4), UpChannelRPN(6, anchors=3)])
def test_shapes_of_the_proposals(head):
    proposals = head.eval()(torch.randn(2, 6, 22, 22), head.exemplar(torch.randn(2, 6, 6, 6)))
    assert proposals.cls_logits.shape == (2, 3, 17, 17)
    assert proposals.box_deltas.shape == (2, 3, 17, 17, 4)


def test_sigmoid_of_the_logit_is_the_softmax_of_the_two_published_outputs():
    head = UpChannelRPN(2, anchors=3)
    cls = torch.randn(1, 6, 5, 5)
    # Published order: background of all anchors, then target of all anchors.
    expected = softmax(cls.view(1, 2, 3, 5, 5), dim=1)[:, 1]
    from lightning_trackers.heads.rpn import _proposals

    found = _proposals(cls, torch.zeros(1, 12, 5, 5)).cls_logits.sigmoid()
    torch.testing.assert_close(found, expected)
    assert head.cls_exemplar.out_channels == 2 * 2 * 3


def test_offsets_keep_the_published_order_of_channels():
    from lightning_trackers.heads.rpn import _proposals

    box = torch.arange(12.0).view(1, 12, 1, 1)  # channel = coordinate * anchors + anchor
    deltas = _proposals(torch.zeros(1, 6, 1, 1), box).box_deltas
    torch.testing.assert_close(deltas[0, 1, 0, 0], torch.tensor([1.0, 4.0, 7.0, 10.0]))
