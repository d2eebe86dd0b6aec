"""Several processes evaluate together: who tracks which sequence, and who hears of the results.

The processes are the ranks of ``torch.distributed``'s default group, whoever made it (Lightning,
torchrun, SLURM, ``experiments.evaluate``); without a group there is one process.
"""

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from time import monotonic
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch.distributed as dist
from torch.distributed.distributed_c10d import (
    PrefixStore,
    Store,
    _get_default_group,
    _get_default_store,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""Timeout of a group for evaluation: ranks wait for each other as long as a sequence takes. Who has
died is noticed without a timeout, because its connections close."""

_REPORT_INTERVAL_S = 0.5


class PeerError(RuntimeError):
    """Another process of the evaluation failed or died."""


class Team:
    """The processes of one evaluation; all of them call the same methods in the same order.

    Args:
        rank: Number of this process.
        size: Number of processes.
        store: Key-value store of all processes; None for one process.
        group: Group that hands objects around; None for one process.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        store: Store | None = None,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        self.rank, self.size = rank, size
        self._group = group
        # The store outlives an evaluation: another one must not find the counts of this one.
        token = self.from_first(lambda: uuid.uuid4().hex)
        self._store = None if store is None else PrefixStore(f"evaluation/{token}", store)
        self._deals = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes what is written once."""
        return self.rank == 0

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what the first process makes, in all of them.

        Raises:
            Exception: In the first process, whatever ``make`` raises.
            PeerError: In the others, if it raised, or if a process has died.
        """
        made: list[Any] = [None, None]
        failure: Exception | None = None
        if self.is_first:
            try:
                made[0] = make()
            except Exception as error:
                made[1], failure = f"{type(error).__name__}: {error}", error
        if self._group is not None:
            _answered(lambda: dist.broadcast_object_list(made, src=0, group=self._group))
        if failure is not None:
            raise failure
        if made[1] is not None:
            raise PeerError(f"the first process of the evaluation failed: {made[1]}")
        return cast("T", made[0])

    def gathered(self, share: T) -> list[T]:
        """Return the shares of all processes, by rank, in the first process; none in the others.

        Raises:
            PeerError: If a process has died.
        """
        if self._group is None:
            return [share]
        shares: list[Any] | None = [None] * self.size if self.is_first else None
        _answered(lambda: dist.gather_object(share, shares, dst=0, group=self._group))
        return shares or []

    def deal(self, count: int, lanes: int) -> "Deal":
        """Share out the numbers in ``range(count)``; see :class:`Deal`."""
        self._deals += 1
        store = self._store
        if store is not None:
            store = PrefixStore(f"deal{self._deals}", store)
        return Deal(self, store, count, lanes)


class Deal:
    """Numbers shared out among the processes of a team, each to one of them, and their progress.

    The first ``lanes`` of each process are dealt in turn, since all begin at once. After that a
    process takes the next number whenever it asks for one, so whoever is faster gets more of them.

    Args:
        team: The processes.
        store: Where they count, empty yet; None for one process.
        count: How many numbers there are.
        lanes: How many a process works on at once.
    """

    def __init__(self, team: Team, store: Store | None, count: int, lanes: int) -> None:
        self._team, self._store = team, store
        self._count, self._lanes = count, lanes
        self._steps = self._told = 0  # of this process
        self._told_start = monotonic()

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of this process, each when it is asked for."""
        team, count = self._team, self._count
        if self._store is None:
            yield from range(count)
            return
        dealt = team.size * self._lanes
        yield from range(team.rank, min(count, dealt), team.size)
        # Without an answer there is no next one, but what is being tracked is worth finishing.
        while (taken := self._add("taken", 1)) is not None and dealt + taken <= count:
            yield dealt + taken - 1

    def advance(self, steps: int) -> None:
        """Count steps that this process has done."""
        self._steps += steps
        if monotonic() - self._told_start >= _REPORT_INTERVAL_S:
            self.tell()

    @contextmanager
    def shown(self, show: Callable[[int], None]) -> Iterator[None]:
        """Call ``show`` twice a second with the steps of all processes, in the first one."""
        ended = Event()

        def watch() -> None:
            # A thread, because the first process may have to wait for the others in the end.
            while not ended.wait(_REPORT_INTERVAL_S):
                show(self._total())

        watcher = Thread(target=watch, name="progress", daemon=True)
        if self._team.is_first:
            watcher.start()
        try:
            yield
        finally:
            ended.set()
            if self._team.is_first:
                watcher.join()
                show(self._total())

    def tell(self) -> None:
        """Tell the first process of the steps done since it was told last."""
        untold, self._told = self._steps - self._told, self._steps
        self._told_start = monotonic()
        self._add("steps", untold)

    def _total(self) -> int:
        return self._add("steps", 0) or self._steps

    def _add(self, key: str, amount: int) -> int | None:
        """Return the sum over all processes; None if nobody answers any more."""
        if self._store is None:
            return None
        try:
            return int(self._store.add(key, amount))
        except RuntimeError as error:  # the process that kept the store has died
            log.warning("evaluation: no answer to the question for %s: %s", key, error)
            return None


def is_first() -> bool:
    """Return whether this is the process that writes what is written once."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def team() -> Team:
    """Return the team of all processes."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return Team()
    group = _get_default_group()
    if dist.get_backend(group) != "gloo":
        # NCCL neither waits for as long as a sequence takes nor notices that a process has died.
        if group not in _gloo_groups:
            _gloo_groups[group] = dist.new_group(backend="gloo", timeout=PATIENCE)
        group = _gloo_groups[group]
    store = _get_default_store()
    return Team(dist.get_rank(), dist.get_world_size(), store, group)


_gloo_groups: WeakKeyDictionary[dist.ProcessGroup, dist.ProcessGroup] = WeakKeyDictionary()


def _answered(ask: Callable[[], None]) -> None:
    """Wait until the other processes have answered; Ctrl-C is heard meanwhile.

    Raises:
        PeerError: If one of them has died.
    """
    problems: list[Exception] = []

    def wait() -> None:
        try:
            ask()
        except Exception as error:
            problems.append(error)

    # The main thread would not hear of Ctrl-C while it waits inside torch.
    thread = Thread(target=wait, name="answer", daemon=True)
    thread.start()
    thread.join()
    for error in problems:
        if not isinstance(error, RuntimeError):
            raise error
        raise PeerError(
            "a process of the evaluation has died. The results that were finished are kept: start "
            "the same evaluation again to go on"
        ) from error
