import threading
import time

import pytest
import torch.distributed as dist

from lightning_trackers.evaluation.distribution import Deal, Team, is_first, team


def taken_by_ranks(count, lanes, delays_s):
    """Let threads stand for ranks that take a number, work on it, and take the next."""
    store, ranks = dist.HashStore(), len(delays_s)
    taken = [[] for _ in delays_s]

    def work(rank):
        for number in Deal(Team(rank, ranks), store, count, lanes):
            taken[rank].append(number)
            time.sleep(delays_s[rank])

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    return taken


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 40])
@pytest.mark.parametrize("lanes", [1, 4])
def test_every_number_is_dealt_exactly_once(ranks, count, lanes):
    taken = taken_by_ranks(count, lanes, [0.0001 * rank for rank in range(ranks)])
    assert sorted(number for part in taken for number in part) == list(range(count))


def test_the_first_numbers_are_dealt_in_turn_so_that_no_rank_gets_all_the_long_sequences():
    taken = taken_by_ranks(9, lanes=2, delays_s=[0.01, 0.01, 0.01])
    assert [part[:2] for part in taken] == [[0, 3], [1, 4], [2, 5]]


def test_a_slow_rank_gets_fewer():
    slow, fast = taken_by_ranks(30, lanes=2, delays_s=[0.2, 0.001])
    assert len(slow) <= 4  # its two lanes, and at most what it takes while the fast one works
    assert len(slow) + len(fast) == 30


def test_numbers_are_taken_only_when_asked_for():
    store = dist.HashStore()
    first = iter(Deal(Team(0, 2), store, 6, 1))
    second = iter(Deal(Team(1, 2), store, 6, 1))
    assert [next(first), next(first), next(second), next(second), next(first)] == [0, 2, 1, 3, 4]


class Gone:
    """A store whose process has died."""

    def add(self, key, amount):
        raise dist.DistNetworkError("Broken pipe")


def test_a_lost_store_ends_the_deal_and_not_the_work(caplog):
    deal = Deal(Team(1, 2), Gone(), 9, 1)
    numbers = []
    for number in deal:
        deal.advance(5)
        deal.tell()
        numbers.append(number)
    assert numbers == [1]
    assert "Broken pipe" in caplog.text


def test_the_first_rank_is_shown_the_steps_of_all():
    store, shown = dist.HashStore(), []
    deals = [Deal(Team(rank, 2), store, 4, 1) for rank in range(2)]
    with deals[0].shown(shown.append):
        for deal in deals:
            deal.advance(3)
            deal.tell()
            deal.advance(1)
            deal.tell()
    assert shown[-1] == 8


def test_progress_moves_while_the_first_rank_waits_for_the_others():
    store, shown = dist.HashStore(), []
    first, second = (Deal(Team(rank, 2), store, 4, 1) for rank in range(2))
    with first.shown(shown.append):
        second.advance(7)
        second.tell()
        deadline = time.monotonic() + 10
        while not shown and time.monotonic() < deadline:
            time.sleep(0.01)
        assert shown[0] == 7


def test_one_process_needs_no_group():
    assert is_first()
    alone = team()
    assert (alone.rank, alone.size) == (0, 1)
    assert alone.from_first(lambda: 5) == 5
    assert alone.gathered("share") == ["share"]
    deal = alone.deal(3, lanes=1)
    shown = []
    with deal.shown(shown.append):
        assert list(deal) == [0, 1, 2]
        deal.advance(4)
    assert shown[-1] == 4
    with pytest.raises(ZeroDivisionError):
        alone.from_first(lambda: 1 / 0)
