import pytest
import torch

from lightning_trackers.methods.siamrpn.anchors import anchor_sides, grid_anchors
from lightning_trackers.methods.siamrpn.targets import AnchorLabelling, draw

ANCHORS = grid_anchors(
    anchor_sides([0.33, 0.5, 1, 2, 3], 8, 8), cells=17, stride=8, search_size=255
)
BOXES = torch.tensor([[100.0, 90, 170, 160], [40, 60, 140, 100], [-20, 200, 40, 300]])
SAME = torch.tensor([True, True, True])
ALL = {"max_positives": None, "max_samples": None, "negative_pair_samples": None}


def generator():
    return torch.Generator().manual_seed(0)


def overlap(anchor_cxcywh, box_xyxy):
    cx, cy, w, h = anchor_cxcywh
    x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    width = max(0.0, min(x2, box_xyxy[2]) - max(x1, box_xyxy[0]))
    height = max(0.0, min(y2, box_xyxy[3]) - max(y1, box_xyxy[1]))
    area = (box_xyxy[2] - box_xyxy[0]) * (box_xyxy[3] - box_xyxy[1])
    return width * height / (w * h + area - width * height)


def test_labels_and_offsets_equal_a_loop():
    targets = AnchorLabelling(0.6, 0.3, **ALL)(ANCHORS, BOXES, SAME, generator())
    for b, box in enumerate(BOXES.tolist()):
        for index in torch.cartesian_prod(
            torch.arange(5), torch.arange(17), torch.arange(17)
        ).tolist():
            a, row, column = index
            anchor = ANCHORS[a, row, column].tolist()
            iou = overlap(anchor, box)
            expected = 1 if iou >= 0.6 else 0 if iou < 0.3 else -1
            assert targets.labels[b, a, row, column] == expected
            dx = ((box[0] + box[2]) / 2 - anchor[0]) / anchor[2]
            assert targets.box_deltas[b, a, row, column, 0].item() == pytest.approx(dx, abs=1e-5)


def test_all_proposals_take_part_without_an_ignored_zone():
    targets = AnchorLabelling(0.6, 0.6, **ALL)(ANCHORS, BOXES, SAME, generator())
    assert (targets.labels >= 0).all()
    assert (targets.labels == 1).any()


def test_sampling_keeps_16_positives_of_64():
    box = torch.tensor([[90.0, 90, 165, 165]]).expand(4, 4)
    same = torch.ones(4, dtype=torch.bool)
    labelling = AnchorLabelling(0.3, 0.2)  # low thresholds: more than 16 candidates
    labels = labelling(ANCHORS, box, same, generator()).labels.flatten(1)
    assert (labels == 1).sum(1).tolist() == [16] * 4
    assert (labels == 0).sum(1).tolist() == [48] * 4
    assert not torch.equal(labels[0], labels[1])  # drawn, not the first ones


def test_sampled_anchors_are_candidates():
    every = AnchorLabelling(0.6, 0.3, **ALL)(ANCHORS, BOXES, SAME, generator()).labels
    drawn = AnchorLabelling(0.6, 0.3)(ANCHORS, BOXES, SAME, generator()).labels
    assert (every[drawn == 1] == 1).all()
    assert (every[drawn == 0] == 0).all()


def test_few_positives_leave_room_for_negatives():
    # The box fits one anchor exactly and little else, so fewer than 16 positives exist.
    box = torch.tensor([[127.5 - 32, 127.5 - 32, 127.5 + 32, 127.5 + 32]])
    labels = AnchorLabelling(0.95, 0.3)(ANCHORS, box, SAME[:1], generator()).labels
    assert (labels == 1).sum() == 1
    assert (labels == 0).sum() == 63


def test_no_anchor_fits_a_tiny_target():
    box = torch.tensor([[100.0, 100, 104, 104]])
    labels = AnchorLabelling()(ANCHORS, box, SAME[:1], generator()).labels
    assert (labels == 1).sum() == 0
    assert (labels == 0).sum() == 64


def test_negative_pairs_draw_around_the_other_target():
    targets = AnchorLabelling()(ANCHORS, BOXES[:1], torch.tensor([False]), generator())
    assert (targets.labels == 1).sum() == 0
    chosen = (targets.labels == 0).nonzero()
    assert len(chosen) == 16
    centre = torch.tensor([135.0, 125.0])
    for _, a, row, column in chosen.tolist():
        # 7 × 7 cells: three strides of 8 px, and at most half a stride to the nearest cell.
        assert (ANCHORS[a, row, column, :2] - centre).abs().max() <= 3 * 8 + 4


def test_negative_pairs_are_all_negative_where_all_proposals_count():
    targets = AnchorLabelling(0.6, 0.6, **ALL)(
        ANCHORS, BOXES[:1], torch.tensor([False]), generator()
    )
    assert (targets.labels == 0).all()


def test_draw_takes_all_where_fewer_are_left():
    candidates = torch.tensor([[True, False, True, False], [True, True, True, True]])
    drawn = draw(candidates, torch.tensor([3, 2]), generator())
    assert drawn[0].tolist() == candidates[0].tolist()
    assert drawn[1].sum() == 2


def test_draw_depends_on_the_generator_alone():
    candidates = torch.ones(2, 50, dtype=torch.bool)
    counts = torch.tensor([5, 5])
    assert torch.equal(draw(candidates, counts, generator()), draw(candidates, counts, generator()))


def test_thresholds_are_checked():
    with pytest.raises(ValueError, match="negative_iou <= positive_iou"):
        AnchorLabelling(0.3, 0.6)
