"""Sequences: random access, attributes by their rules, and what TrackingSequence gets."""

import pickle

import numpy as np
import pytest

from datamodules.procedural import ATTRIBUTES, Bank, ProceduralSequence, Style

SMALL = Style(frame_wh=(160, 120), target_px=(16, 40))


@pytest.fixture(scope="module")
def bank():
    return Bank(2, "test", plates=6, sprites=24)


def test_random_access_gives_the_same_pixels_as_reading_in_order(bank):
    in_order = list(ProceduralSequence(bank, 1, 12, SMALL).tracking_sequence())
    shuffled = ProceduralSequence(bank, 1, 12, SMALL).tracking_sequence().frames
    for t in (7, 0, 11, 3):
        np.testing.assert_array_equal(shuffled[t], in_order[t])
    np.testing.assert_array_equal(shuffled[-1], in_order[11])
    assert len(shuffled[2:5]) == 3
    with pytest.raises(IndexError, match="expected less than 12, got 12"):
        shuffled[12]


def test_a_pickled_sequence_draws_the_same(bank):
    sequence = ProceduralSequence(bank, 4, 5, SMALL)
    frame, boxes = sequence.frame(3), sequence.boxes_xyxy
    data = pickle.dumps(sequence)
    assert len(data) < 5000
    other = pickle.loads(data)
    np.testing.assert_array_equal(other.frame(3), frame)
    np.testing.assert_array_equal(other.boxes_xyxy, boxes)


def test_ground_truth_has_the_projects_convention(bank):
    found = ProceduralSequence(bank, 5, 8, SMALL).tracking_sequence()
    assert found.boxes_xyxy.dtype == np.float64
    assert (found.boxes_xyxy[:, 2:] > found.boxes_xyxy[:, :2]).all()
    assert found.frames[0].shape == (120, 160, 3)
    assert found.valid.all()


def test_sequences_start_with_the_target_in_sight_and_move_smoothly(bank):
    style = Style(frame_wh=(160, 120), target_px=(16, 40), fast=0, occluder=1)
    for seed in range(6):
        sequence = ProceduralSequence(bank, seed, 60, style)
        earlier = [sequence.scene.visibility(t) for t in range(40)]
        assert sequence.visibility[0] >= min(0.9, max(earlier))
        assert ((sequence.visibility >= 0) & (sequence.visibility <= 1)).all()
        centres = (sequence.boxes_xyxy[:, :2] + sequence.boxes_xyxy[:, 2:]) / 2
        sizes = np.sqrt(np.prod(sequence.boxes_xyxy[:, 2:] - sequence.boxes_xyxy[:, :2], axis=1))
        steps = np.hypot(*np.diff(centres, axis=0).T)
        assert (steps < sizes[1:]).all()


def test_attributes_follow_what_was_drawn(bank):
    for seed in range(12):
        sequence = ProceduralSequence(bank, seed, 50, SMALL)
        found = sequence.attributes
        assert found <= set(ATTRIBUTES)
        boxes = sequence.boxes_xyxy
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        assert ("LR" in found) == (areas.min() < 400)
        assert ("SV" in found) == bool((areas > 2 * areas[0]).any() or (areas < areas[0] / 2).any())
        assert "LOOKALIKE" not in found or sequence.scene.play.lookalikes > 0
        if "OCC" not in found and "OV" not in found:
            assert sequence.visibility.min() > 0.8


def test_nothing_happens_where_nothing_may_happen(bank):
    quiet = Style(
        occluder=0, lookalikes=0, low_contrast=0, fast=0, spin=0, zoom=0, leaves_view=0,
        lens=False, light=False, frame_wh=(160, 120), target_px=(30, 40),
    )  # fmt: skip
    for seed in range(5):
        found = ProceduralSequence(bank, seed, 30, quiet).attributes
        assert not found & {"IV", "MB", "LOOKALIKE"}


def test_a_sequence_without_frames_is_refused(bank):
    with pytest.raises(ValueError, match="length: expected at least one frame, got 0"):
        ProceduralSequence(bank, 0, 0)
