"""Memory of past transitions.

Source: Wang et al., SINT++, CVPR 2018, Section 4.2.2 and Algorithm 1, lines 1, 16 and 17; Mnih et al.,
Human-level Control through Deep Reinforcement Learning, Nature 2015.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Transitions(NamedTuple):
    """What happened in N steps.

    Args:
        states: What the agent saw, shape ``(N, D)``.
        actions: What it did, int64, shape ``(N,)``.
        rewards: What it got, shape ``(N,)``.
        next_states: What it saw then, shape ``(N, D)``; without meaning where ``done``.
        done: Whether the search ended, bool, shape ``(N,)``.
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor
    done: Tensor


class Replay:
    """The last transitions, drawn uniformly.

    They are kept on the CPU in half precision, states being the bulk of them.

    Args:
        capacity: N, transitions that are kept; each new one replaces the oldest.

    Raises:
        ValueError: If it keeps none.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"replay: expected capacity >= 1, got {capacity}")
        self.capacity = capacity
        self._kept: Transitions | None = None
        self._pushed = 0

    def __len__(self) -> int:
        """Return how many transitions are kept."""
        return min(self._pushed, self.capacity)

    def push(self, new: Transitions) -> None:
        """Keep transitions, the oldest of them first."""
        new = _small(new)
        if self._kept is None:
            self._kept = Transitions(*(_room(part, self.capacity) for part in new))
        count = len(new.actions)
        rows = (self._pushed + torch.arange(count)) % self.capacity
        # Of more than fit, the last ones stay.
        rows, skipped = rows[-self.capacity :], max(0, count - self.capacity)
        for kept, part in zip(self._kept, new, strict=True):
            kept[rows] = part[skipped:]
        self._pushed += count

    def sample(
        self, count: int, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Transitions:
        """Draw transitions, each of them equally likely, with replacement.

        Args:
            count: How many.
            generator: Source of chance, on the CPU.
            device: Where they go.

        Raises:
            ValueError: If none is kept.
        """
        if self._kept is None or not len(self):
            raise ValueError("replay: expected transitions to draw from, got none")
        rows = torch.randint(len(self), (count,), generator=generator)
        drawn = [part[rows].to(device) for part in self._kept]
        return Transitions(*(p.float() if p.is_floating_point() else p for p in drawn))

    def state_dict(self) -> dict[str, object]:
        """Return what is kept, for a checkpoint."""
        kept = None if self._kept is None else [part[: len(self)] for part in self._kept]
        return {"kept": kept, "pushed": self._pushed}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take up the memory of an interrupted training.

        Raises:
            ValueError: If it holds more than this memory's capacity.
        """
        kept, pushed = state["kept"], state["pushed"]
        assert isinstance(pushed, int)
        self._kept, self._pushed = None, pushed
        if kept is None:
            return
        parts = Transitions(*kept)  # type: ignore[misc]
        if len(parts.actions) != len(self):
            raise ValueError(
                f"replay: expected a memory of capacity {self.capacity}, got one with "
                f"{len(parts.actions)} of {pushed} transitions"
            )
        self._kept = Transitions(*(_room(part, self.capacity) for part in parts))
        for room, part in zip(self._kept, parts, strict=True):
            room[: len(self)] = part


def _small(new: Transitions) -> Transitions:
    parts = [part.detach().cpu() for part in new]
    return Transitions(*(p.half() if p.is_floating_point() else p for p in parts))


def _room(like: Tensor, capacity: int) -> Tensor:
    return torch.zeros(capacity, *like.shape[1:], dtype=like.dtype)
