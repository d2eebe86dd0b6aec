"""Mine and update: a few steps of gradient descent on samples of the target, for many targets at once.

Source: Nam & Han, MDNet, CVPR 2016, Section 3.3 and 4.1 (hard negatives: the 96 with the highest
scores of 1024); py-MDNet ``tracking/run_tracker.py`` (order of the steps, gradient clip).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightning_trackers.online.head import TargetHead, Weights, logits_together, stacked
from lightning_trackers.online.statistical_samples import statistical_samples, uniform_draws

_LARGE_HEAD = 2**18  # parameters


@dataclass(frozen=True)
class UpdateSettings:
    """How a head learns online; the defaults are py-MDNet's.

    Args:
        positives: Positive samples of a mini-batch.
        negatives: Negative samples of a mini-batch, the hardest of the candidates.
        candidates: Negative samples that are looked at for a mini-batch.
        generated: Positive samples that are drawn in feature space on top of the real ones (SPGA: 64).
        alpha: Significance level of their confidence interval.
        fc6_lr_multiplier: Learning rate of the last layer relative to the rest.
        momentum: Momentum of gradient descent.
        weight_decay: Weight decay.
        gradient_clip: Largest norm of a target's gradient.

    Raises:
        ValueError: If a count is out of range.
    """

    positives: int = 32
    negatives: int = 96
    candidates: int = 1024
    generated: int = 0
    alpha: float = 0.05
    fc6_lr_multiplier: float = 10.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    gradient_clip: float = 10.0

    def __post_init__(self) -> None:
        """Check the counts."""
        if not (self.positives >= 1 and 1 <= self.negatives <= self.candidates):
            raise ValueError(
                "update: expected positives >= 1 and 1 <= negatives <= candidates, got "
                f"{self.positives}, {self.negatives} and {self.candidates}"
            )
        if self.generated < 0 or (self.generated and self.positives < 2):
            raise ValueError(
                f"update: expected generated >= 0, and positives >= 2 to draw from, got "
                f"{self.generated} and {self.positives}"
            )


@dataclass
class Learner:
    """What one target has learnt.

    Args:
        weights: Its head's weights by name.
        velocity: Momentum of gradient descent by name; empty before the first update.
        rng: Source of all chance of this target.
        updates: Updates so far.
        failed: Updates that were taken back because a weight was not finite.
        loss: Mean loss of the last update.
    """

    weights: Weights
    rng: np.random.Generator
    velocity: Weights
    updates: int = 0
    failed: int = 0
    loss: float = float("nan")


class Pool(NamedTuple):
    """The samples that a target may learn from.

    Args:
        positives: Feature vectors of the target, ``(P, d)``, at least one.
        negatives: Feature vectors beside it, ``(N, d)``, at least one.
    """

    positives: Tensor
    negatives: Tensor


def update(
    head: TargetHead,
    learners: Sequence[Learner],
    pools: Sequence[Pool],
    loss: nn.Module,
    iterations: int,
    lr: float,
    settings: UpdateSettings,
) -> None:
    """Let targets learn, together where that is faster; each gets what it would get alone, up to rounding.

    Chance comes from each learner's own generator. A learner with a weight that is not finite
    afterwards gets back what it had before, without momentum, and the failure is counted.

    Args:
        head: The head whose layers the weights belong to.
        learners: One per target, changed in place.
        pools: The samples of each target.
        loss: ``loss(logits, labels)`` of a mini-batch; where it has ``rows``, it is asked for all
            targets at once.
        iterations: Steps of gradient descent.
        lr: Learning rate.
        settings: The rest.

    Raises:
        ValueError: If a pool is empty.
    """
    for pool in pools:
        if not (len(pool.positives) and len(pool.negatives)):
            raise ValueError(
                f"update: expected positive and negative samples, got {len(pool.positives)} and "
                f"{len(pool.negatives)}"
            )
    if len(learners) > 1 and _learns_alone(head):
        for learner, pool in zip(learners, pools, strict=True):
            update(head, [learner], [pool], loss, iterations, lr, settings)
        return
    s = settings
    plans = [
        _Plan.draw(head, x.rng, p, iterations, s) for x, p in zip(learners, pools, strict=True)
    ]
    weights = stacked([learner.weights for learner in learners])
    velocity = {
        name: torch.stack(
            [x.velocity.get(name, torch.zeros_like(x.weights[name])) for x in learners]
        )
        for name in weights
    }
    rates = {n: lr * (s.fc6_lr_multiplier if n.startswith("fc6") else 1.0) for n in weights}
    like = next(iter(weights.values()))
    positives = s.positives + s.generated
    samples = like.new_empty((len(learners), positives + s.negatives, head.inputs))
    # On the CPU one target after the other: the candidates of several do not fit into the cache.
    together = 1 if like.device.type == "cpu" else len(learners)
    candidates = like.new_empty((together, s.candidates, head.inputs))
    labels = torch.zeros(samples.shape[:2], device=like.device)
    labels[:, :positives] = 1
    total = like.new_zeros(len(learners))
    for i in range(iterations):
        for own, pool, plan in zip(samples, pools, plans, strict=True):
            torch.index_select(pool.positives, 0, plan.positives[i], out=own[: s.positives])
        if s.generated:
            uniform = torch.from_numpy(
                np.stack([uniform_draws(x.rng, s.generated, head.inputs) for x in learners])
            )
            samples[:, s.positives : positives] = statistical_samples(
                samples[:, : s.positives], uniform.to(samples), s.alpha
            )
        mined = samples[:, positives:]
        _mine(head, weights, pools, [x.candidates[i] for x in plans], candidates, mined)
        kept = torch.stack([x.kept[i] for x in plans], dim=1).to(like)  # (2, T, count, hidden)
        kept *= 1 / (1 - head.dropout)
        with torch.enable_grad():
            leaves = {name: value.requires_grad_() for name, value in weights.items()}
            factors = (kept[0], kept[1]) if head.dropout else None
            logits = logits_together(head, leaves, samples, factors)
            # The softmax of two logits is the sigmoid of their difference.
            losses = _rows(loss, logits[..., 1] - logits[..., 0], labels)
            gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        _descend_(weights, velocity, gradients, rates, s)
        total += losses.detach()
    _hand_out(learners, weights, velocity, total / max(1, iterations))


def _learns_alone(head: TargetHead) -> bool:
    """Return whether targets learn one after another.

    On the CPU a large head's steps are bound by memory: eight of MDNet's heads, with gradients and
    momentum, do not fit into the cache and take half as long again together as one after another.
    """
    on_cpu = next(head.parameters()).device.type == "cpu"
    return on_cpu and sum(p.numel() for p in head.parameters()) > _LARGE_HEAD


@torch.no_grad()
def _mine(
    head: nn.Module,
    weights: Weights,
    pools: Sequence[Pool],
    numbers: Sequence[Tensor],
    candidates: Tensor,
    found: Tensor,
) -> None:
    """Write the hardest of each target's candidates into ``found``, ``(T, count, d)``.

    Args:
        head: The head.
        weights: The targets' weights, ``(T, ...)`` each.
        pools: Where each target's candidates are from.
        numbers: Which they are, ``(N,)`` each.
        candidates: Room for those of as many targets as are looked at together, ``(G, N, d)``.
        found: Result.
    """
    for start in range(0, len(pools), len(candidates)):
        part = slice(start, start + len(candidates))
        for own, pool, chosen in zip(candidates, pools[part], numbers[part], strict=True):
            torch.index_select(pool.negatives, 0, chosen, out=own)
        own_weights = {name: value[part] for name, value in weights.items()}
        found[part] = hardest(head, own_weights, candidates, found.shape[1])


@torch.no_grad()
def hardest(head: nn.Module, weights: Weights, candidates: Tensor, count: int) -> Tensor:
    """Return the candidates that look most like the target to each head.

    Args:
        head: The head.
        weights: The targets' weights, ``(T, ...)`` each.
        candidates: Negative samples, ``(T, N, d)``.
        count: How many to keep.

    Returns:
        Samples, ``(T, count, d)``.
    """
    if candidates.shape[1] <= count:
        return candidates
    scores = logits_together(head, weights, candidates)[..., 1]  # (T, N)
    top = scores.topk(count, dim=1).indices
    rows = torch.arange(len(top), device=top.device)[:, None]
    return candidates[rows, top]


class _Plan(NamedTuple):
    """The chance of one target's update, drawn beforehand."""

    positives: Tensor  # (I, P) numbers in the pool
    candidates: Tensor  # (I, C)
    kept: Tensor  # (I, 2, count, hidden) bool

    @classmethod
    def draw(
        cls,
        head: TargetHead,
        rng: np.random.Generator,
        pool: Pool,
        iterations: int,
        s: UpdateSettings,
    ) -> "_Plan":
        count = s.positives + s.generated + s.negatives
        device = pool.positives.device
        positives = _passes(rng, len(pool.positives), iterations, s.positives)
        candidates = _passes(rng, len(pool.negatives), iterations, s.candidates)
        # Bytes are drawn many times as fast as floats; dropout is exact to 1/256.
        keep = round(256 * (1 - head.dropout))
        size = (iterations, 2, count, head.hidden) if head.dropout else (iterations, 2, 0, 0)
        drawn = np.frombuffer(rng.bytes(int(np.prod(size))), dtype=np.uint8).reshape(size)
        return cls(
            torch.from_numpy(positives).to(device),
            torch.from_numpy(candidates).to(device),
            torch.from_numpy(drawn < keep).to(device),
        )


def _passes(rng: np.random.Generator, count: int, iterations: int, each: int) -> np.ndarray:
    """Deal numbers below ``count`` in random order, all of them before any comes again."""
    rounds = -(-iterations * each // count)
    dealt = np.concatenate([rng.permutation(count) for _ in range(rounds)])
    return dealt[: iterations * each].reshape(iterations, each)


def _rows(loss: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    if hasattr(loss, "rows"):
        found: Tensor = loss.rows(logits, labels)  # type: ignore[operator]
        return found
    return torch.stack([loss(x, y) for x, y in zip(logits, labels, strict=True)])


@torch.no_grad()
def _descend_(
    weights: Weights,
    velocity: Weights,
    gradients: Sequence[Tensor],
    rates: dict[str, float],
    s: UpdateSettings,
) -> None:
    """Take a step of gradient descent with momentum, each target's gradient clipped by itself."""
    norms = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
    norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # (T,)
    shrink = (s.gradient_clip / (norm + 1e-6)).clamp(max=1)
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        gradient.mul_(shrink.view(-1, *[1] * (gradient.ndim - 1)))
        gradient.add_(weight.detach(), alpha=s.weight_decay)
        torch.add(gradient, velocity[name], alpha=s.momentum, out=velocity[name])
        weight.detach().sub_(velocity[name], alpha=rates[name])


def _hand_out(
    learners: Sequence[Learner], weights: Weights, velocity: Weights, losses: Tensor
) -> None:
    for t, learner in enumerate(learners):
        own = {name: value.detach()[t].clone() for name, value in weights.items()}
        learner.updates += 1
        learner.loss = float(losses[t])
        if all(bool(value.isfinite().all()) for value in own.values()):
            learner.weights = own
            learner.velocity = {name: value[t].clone() for name, value in velocity.items()}
        else:
            learner.velocity = {}
            learner.failed += 1
