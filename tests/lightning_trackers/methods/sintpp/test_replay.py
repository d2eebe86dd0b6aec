import pytest
import torch
from scipy import stats

from lightning_trackers.methods.sintpp.replay import Replay, Transitions


def numbered(*numbers):
    values = torch.tensor(numbers, dtype=torch.float32)
    return Transitions(
        values[:, None].repeat(1, 3), values.long() % 9, values, values[:, None] + 0.5, values > 4
    )


def kept(replay):
    return sorted(replay.state_dict()["kept"][2].tolist())


def test_what_was_pushed_is_drawn_whole():
    replay = Replay(10)
    replay.push(numbered(1, 2, 3, 5))
    drawn = replay.sample(40, torch.Generator().manual_seed(0))
    assert set(drawn.rewards.tolist()) == {1, 2, 3, 5}
    assert drawn.states.dtype == torch.float32
    assert torch.equal(drawn.states[:, 2], drawn.rewards)
    assert torch.equal(drawn.next_states[:, 0], drawn.rewards + 0.5)
    assert torch.equal(drawn.actions, drawn.rewards.long())
    assert torch.equal(drawn.done, drawn.rewards > 4)


def test_the_oldest_are_forgotten_first():
    replay = Replay(4)
    for number in range(6):
        replay.push(numbered(number))
    assert len(replay) == 4
    assert kept(replay) == [2, 3, 4, 5]


def test_more_than_fit_leaves_the_last_ones():
    replay = Replay(4)
    replay.push(numbered(0))
    replay.push(numbered(*range(1, 8)))
    assert kept(replay) == [4, 5, 6, 7]
    replay.push(numbered(8))
    assert kept(replay) == [5, 6, 7, 8]


def test_draws_are_uniform():
    replay = Replay(20)
    replay.push(numbered(*range(33)))
    drawn = replay.sample(20_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn.rewards.long(), minlength=33)
    assert counts[:13].sum() == 0
    # 1000 each are expected; a uniform source fails this once in a thousand seeds.
    assert stats.chisquare(counts[13:].numpy()).pvalue > 1e-3


def test_a_memory_taken_up_from_a_checkpoint_goes_on_the_same():
    replay, resumed = Replay(5), Replay(5)
    replay.push(numbered(*range(7)))
    resumed.load_state_dict(replay.state_dict())
    for memory in (replay, resumed):
        memory.push(numbered(7, 8))
    assert kept(resumed) == kept(replay) == [4, 5, 6, 7, 8]
    draws = [m.sample(50, torch.Generator().manual_seed(1)).rewards for m in (replay, resumed)]
    assert torch.equal(*draws)


def test_an_empty_memory_can_be_kept_but_not_drawn_from():
    replay, other = Replay(3), Replay(3)
    other.load_state_dict(replay.state_dict())
    with pytest.raises(ValueError, match="transitions to draw from, got none"):
        other.sample(1, torch.Generator())


def test_bad_capacities_are_refused():
    with pytest.raises(ValueError, match="capacity >= 1, got 0"):
        Replay(0)
    replay = Replay(5)
    replay.push(numbered(1, 2, 3, 4, 5))
    with pytest.raises(ValueError, match="of capacity 3, got one with 5 of 5"):
        Replay(3).load_state_dict(replay.state_dict())
