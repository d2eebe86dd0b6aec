import torch

from lightning_trackers.methods.siamfc.targets import response_labels

OPTIONS = {"cells": 17, "stride": 8, "search_size": 255, "radius": 16.0}


def test_cells_within_the_radius_equal_a_loop():
    boxes = torch.tensor([[100.0, 100, 155, 155], [60, 80, 100, 140]])
    labels = response_labels(boxes, torch.tensor([True, True]), **OPTIONS)
    for b, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for row in range(17):
            for column in range(17):
                dx = 127.5 + (column - 8) * 8 - (x1 + x2) / 2
                dy = 127.5 + (row - 8) * 8 - (y1 + y2) / 2
                assert labels[b, row, column] == (dx * dx + dy * dy <= 256)


def test_centred_target_has_the_13_cells_of_the_paper():
    # Two cells around the middle, Euclidean: 1 + 4 + 4 (diagonals) + 4 (two away) = 13.
    labels = response_labels(
        torch.tensor([[100.0, 100, 155, 155]]), torch.tensor([True]), **OPTIONS
    )
    assert labels.sum() == 13


def test_another_target_has_no_positive_cell():
    labels = response_labels(
        torch.tensor([[100.0, 100, 155, 155]]), torch.tensor([False]), **OPTIONS
    )
    assert labels.sum() == 0
