import pytest
import torch

from lightning_trackers.methods.sintpp.environment import (
    OcclusionEnvironment,
    OcclusionSettings,
    movement_rewards,
    state_size,
    terminal_rewards,
)
from lightning_trackers.methods.sintpp.occlusion import Action
from lightning_trackers.methods.sintpp.regions import PixelFeatures, VGGFeatures, look_at

FEATURES = PixelFeatures(4)


def brightness(images, rows=None):
    return images.float().mean(dim=(1, 2, 3)) / 255


def made(count=2, score=brightness, seed=0, **settings):
    """White targets on black backgrounds: the more is covered, the lower the score."""
    targets = torch.full((count, 3, 20, 20), 255, dtype=torch.uint8)
    backgrounds = torch.zeros(count, 3, 20, 20, dtype=torch.uint8)
    return OcclusionEnvironment(
        targets,
        backgrounds,
        score,
        FEATURES,
        OcclusionSettings(start_side=0.3, **settings),
        torch.Generator().manual_seed(seed),
    )


def actions(*names):
    return torch.tensor(names)


def test_moves_are_rewarded_by_the_sign_of_the_score_s_change():
    # Eq. 5: a smaller score is +1; the same or a larger one is -1.
    rewards = movement_rewards(torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.5, 0.5, 0.5]))
    assert rewards.tolist() == [1, -1, -1]


def test_the_end_is_rewarded_by_the_threshold():
    # Eq. 6: at most phi is +eta.
    assert terminal_rewards(torch.tensor([0.4, 0.5, 0.6]), 0.5, 3.0).tolist() == [3, 3, -3]


def test_the_environment_pays_both_rewards():
    environment = made(3, threshold=0.9, eta=2.0, search_occluder=False)
    # The first box covers 6 × 6 of 400 pixels.
    assert environment.scores.tolist() == pytest.approx([1 - 36 / 400] * 3)
    step = environment.step(actions(Action.LARGER, Action.SMALLER, Action.TERMINATE))
    assert step.rewards.tolist() == [1, -1, -2]  # 0.91 is above 0.9
    assert step.done.tolist() == [False, False, True]
    step = environment.step(actions(Action.TERMINATE, Action.LARGER, Action.LARGER))
    assert step.rewards.tolist() == [2, 1, 1]


def test_a_move_into_the_wall_is_not_rewarded():
    environment = made(1, search_occluder=False)
    for _ in range(7):
        step = environment.step(actions(Action.RIGHT))
    assert environment.regions_xyxy[0, 2] == 1
    assert step.rewards.item() == -1


def test_the_next_state_is_the_new_observation():
    # Line 15 of Algorithm 1 as printed would hand the old one on.
    targets = torch.arange(400, dtype=torch.uint8).reshape(1, 1, 20, 20).repeat(1, 3, 1, 1)
    environment = OcclusionEnvironment(
        targets,
        targets,
        brightness,
        FEATURES,
        OcclusionSettings(search_occluder=False),
        torch.Generator(),
    )
    before = environment.states.clone()
    step = environment.step(actions(Action.RIGHT))
    assert not torch.equal(step.states[:, :48], before[:, :48])
    seen = FEATURES(look_at(targets, environment.regions_xyxy, 4))
    torch.testing.assert_close(step.states[:, :48], seen)
    assert torch.equal(step.states, environment.states)


def test_the_history_is_one_hot_with_the_newest_action_first():
    environment = made(1, history=3, search_occluder=False)
    assert environment.states.shape == (1, state_size(FEATURES, environment.settings))
    for action in (Action.LEFT, Action.UP):
        state = environment.step(actions(action)).states[0, 48:-2].reshape(3, 9)
    assert state.argmax(dim=1)[:2].tolist() == [Action.UP, Action.LEFT]
    assert state.sum(dim=1).tolist() == [1, 1, 0]
    assert environment.step(actions(Action.TERMINATE)).states[0, 48:-2].sum() == 0


def test_an_agent_that_never_terminates_meets_the_step_limit():
    environment = made(1, step_limit=4, search_occluder=False)
    ends = [environment.step(actions(Action.LEFT)).done.item() for _ in range(8)]
    assert ends == [False, False, False, True] * 2


def test_the_occluder_is_searched_for_after_the_region():
    environment = made(2, step_limit=5)
    regions, patches = environment.regions_xyxy.clone(), environment.patches_xyxy.clone()
    step = environment.step(actions(Action.LEFT, Action.TERMINATE))
    assert step.done.tolist() == [False, True]
    assert step.finished.tolist() == [False, False]
    assert step.states[:, -2:].tolist() == [[1, 0], [0, 1]]
    assert not torch.equal(environment.regions_xyxy[0], regions[0])
    torch.testing.assert_close(environment.patches_xyxy, patches)
    kept = environment.regions_xyxy[1].clone()
    step = environment.step(actions(Action.LEFT, Action.LARGER))
    assert torch.equal(environment.regions_xyxy[1], kept)
    assert not torch.equal(environment.patches_xyxy[1], patches[1])
    step = environment.step(actions(Action.LEFT, Action.TERMINATE))
    assert step.finished.tolist() == [False, True]


def test_the_second_search_sees_the_background():
    environment = made(1)
    assert (environment.states[0, :48] == 1).all()  # white
    step = environment.step(actions(Action.TERMINATE))
    assert (step.states[0, :48] == -1).all()  # black


def test_a_finished_target_begins_again_with_another_patch():
    environment = made(1, search_occluder=False)
    patch = environment.patches_xyxy.clone()
    for _ in range(3):
        step = environment.step(actions(Action.LARGER))
    low = step.scores.item()
    step = environment.step(actions(Action.TERMINATE))
    assert step.scores.item() == pytest.approx(low)  # of the result
    assert step.areas.item() == pytest.approx((0.3 * 1.2**3) ** 2)
    assert environment.scores.item() == pytest.approx(0.91)  # of the new beginning
    assert not torch.equal(environment.patches_xyxy, patch)


def test_a_target_that_begins_again_is_scored_as_itself():
    weights = torch.tensor([1.0, 10.0, 100.0])
    environment = made(
        3, score=lambda images, rows: brightness(images) * weights[rows], search_occluder=False
    )
    step = environment.step(actions(Action.LARGER, Action.TERMINATE, Action.LARGER))
    assert environment.scores[1] == pytest.approx(9.1)
    assert torch.equal(environment.scores[[0, 2]], step.scores[[0, 2]])
    assert environment.scores[2] == pytest.approx(100 * environment.scores[0].item())


def test_targets_are_independent():
    together = made(3, search_occluder=False)
    alone = made(1, search_occluder=False)
    for action in (Action.LEFT, Action.LARGER, Action.DOWN):
        step = together.step(actions(Action.UP, action, Action.SMALLER))
        single = alone.step(actions(action))
        assert step.rewards[1] == single.rewards[0]
        torch.testing.assert_close(step.states[1], single.states[0])


def test_an_empty_background_is_refused():
    targets = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    for empty in (targets[:0], targets[..., :0]):
        with pytest.raises(ValueError, match=r"backgrounds .* not empty, got \([02], 3, 8, [08]\)"):
            OcclusionEnvironment(
                targets, empty, brightness, FEATURES, OcclusionSettings(), torch.Generator()
            )
    with pytest.raises(ValueError, match="a background for each of 2 targets, got 1"):
        OcclusionEnvironment(
            targets, targets[:1], brightness, FEATURES, OcclusionSettings(), torch.Generator()
        )


def test_a_score_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"score of shape \(2,\), got \(\)"):
        made(2, score=lambda images, rows: images.float().mean())


@pytest.mark.parametrize(
    "wrong", [{"start_side": 0.9}, {"min_side": 0.0}, {"step": 0.0}, {"step_limit": 0}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="occlusion: expected"):
        OcclusionSettings(**wrong)


def test_looking_averages_the_box():
    picture = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    picture[..., 4:] = 100
    seen = look_at(picture, torch.tensor([[0.25, 0.0, 0.75, 1.0]]), 2)
    assert seen[0, 0].tolist() == [[0, 100], [0, 100]]


def test_vgg_features_never_learn_and_have_the_size_they_say():
    features = VGGFeatures(cells=1)
    assert not any(p.requires_grad for p in features.parameters())
    seen = features(torch.rand(1, 3, 224, 224) * 255)
    assert seen.shape == (1, features.size) == (1, 512)
