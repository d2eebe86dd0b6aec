"""Hard positive transformation network: a deep Q-network that learns to hide targets.

Source: Wang et al., SINT++, CVPR 2018, Section 4.2.2, Eq. 7 and 8, Algorithm 1.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_trackers.batches import TargetBatch
from lightning_trackers.methods.sintpp.environment import (
    OcclusionEnvironment,
    OcclusionSettings,
    Score,
    state_size,
)
from lightning_trackers.methods.sintpp.occlusion import Action
from lightning_trackers.methods.sintpp.regions import RegionFeatures
from lightning_trackers.methods.sintpp.replay import Replay, Transitions


class Scorer(Protocol):
    """The tracker that is to be deceived."""

    def against(self, exemplars: Tensor) -> Score:
        """Return the score of N pictures, each against its exemplar, uint8 ``(N, 3, S, S)``."""
        ...


class QNetwork(nn.Sequential):
    """Fully connected network from a state to the value of each action.

    Source: Caicedo and Lazebnik, ICCV 2015, Section 4.2: two hidden layers of 1024.

    Args:
        inputs: Length of a state.
        hidden: Width of each hidden layer.
    """

    def __init__(self, inputs: int, hidden: Sequence[int] = (1024, 1024)) -> None:
        layers: list[nn.Module] = []
        for outputs in hidden:
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
            inputs = outputs
        super().__init__(*layers, nn.Linear(inputs, len(Action)))


@dataclass(frozen=True)
class Learning:
    """How the Q-network learns; the paper gives the batch alone.

    Args:
        discount: gamma. The end's reward of 3 is felt ten moves earlier as 1.
        batch_size: Transitions of an update (paper: 100).
        capacity: Transitions in the replay memory. 10,000 are the last 300 steps of 32 targets: of
            policies near the present one, and of some hundred targets.
        warm_up: Transitions before the first update, so that it does not learn a single batch.
        updates: Updates per step of the environment.
        target_interval: tau, updates between two copies to the target network. The memory has then
            been renewed once at most.
        first_epsilon: Share of random actions in the beginning (Caicedo and Lazebnik: 1).
        last_epsilon: Share of random actions in the end (theirs: 0.1).
        epsilon_batches: Batches of targets over which the share falls on a straight line; about half
            of the training, so that the second half learns from its own policy.

    Raises:
        ValueError: If a number is out of range.
    """

    discount: float = 0.9
    batch_size: int = 100
    capacity: int = 10_000
    warm_up: int = 1_000
    updates: int = 1
    target_interval: int = 300
    first_epsilon: float = 1.0
    last_epsilon: float = 0.1
    epsilon_batches: int = 1_000

    def __post_init__(self) -> None:
        """Check the numbers."""
        counts = (self.batch_size, self.updates, self.target_interval, self.epsilon_batches)
        shares = (self.discount, self.first_epsilon, self.last_epsilon)
        if min(counts) < 1 or min(shares) < 0 or max(shares) > 1:
            raise ValueError(f"hptn: expected shares in [0, 1] and counts from 1 on, got {self}")
        if not 1 <= self.warm_up <= self.capacity:
            raise ValueError(f"hptn: expected 1 <= warm_up <= capacity, got {self}")

    def epsilon(self, batch: int) -> float:
        """Return the share of random actions while a batch of targets is played."""
        gone = min(1.0, batch / self.epsilon_batches)
        return self.first_epsilon + gone * (self.last_epsilon - self.first_epsilon)


class HPTN(pl.LightningModule):
    """Trains an agent on batches of targets.

    For each batch an environment is made and played for one longest episode; targets whose episode
    ends earlier begin another one. Every step of the environment stores its transitions and is
    followed by updates of the Q-network. The seed of all draws is the number of the batch, and the
    replay memory is part of a checkpoint, so a resumed training continues the interrupted one.

    Deviation: the paper plays one target at a time; here a batch of them is played in lockstep and
    an update follows each of their common steps, which gives a tracker's forward pass many pictures.

    Args:
        scorer: The tracker.
        features: Descriptor of regions.
        optimizer: Makes the optimizer of the Q-network from its parameters.
        settings: Numbers of the environment.
        learning: Numbers of learning.
        hidden: Widths of the Q-network's hidden layers.
        seed: Seed of all draws.
    """

    def __init__(
        self,
        scorer: Scorer,
        features: RegionFeatures,
        optimizer: Callable[..., Optimizer],
        settings: OcclusionSettings | None = None,
        learning: Learning | None = None,
        hidden: Sequence[int] = (1024, 1024),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.scorer = scorer
        self.features = features
        self.settings = settings or OcclusionSettings()
        self.learning = learning or Learning()
        self.network = QNetwork(state_size(features, self.settings), hidden)
        self.target_network = copy.deepcopy(self.network).requires_grad_(False)
        self.replay = Replay(self.learning.capacity)
        self.seed = seed
        self._batches, self._updates = 0, 0
        self._make_optimizer = optimizer

    def training_step(self, batch: TargetBatch, batch_idx: int) -> STEP_OUTPUT:
        """Play a batch of targets and learn at every step."""
        # The number of the batch in the whole training, which every draw depends on.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._batches)
        epsilon = self.learning.epsilon(self._batches)
        environment = self.environment(batch, generator)
        first, last, rewards, losses = environment.scores, [], [], []
        for _ in range(self.settings.searches * self.settings.step_limit):
            states = environment.states
            actions = self.act(states, generator, epsilon)
            step = environment.step(actions)
            self.replay.push(Transitions(states, actions, step.rewards, step.states, step.done))
            rewards.append(step.rewards.mean())
            last.append((first - step.scores)[step.finished])
            if len(self.replay) >= self.learning.warm_up:
                losses += [self._update(generator) for _ in range(self.learning.updates)]
        self._batches += 1
        logged = {"reward": torch.stack(rewards).mean(), "epsilon": torch.tensor(epsilon)}
        drops = torch.cat(last)
        if len(drops):
            logged["score_drop"] = drops.mean()
        if losses:
            logged["loss"] = torch.stack(losses).mean()
        self.log_dict(
            {f"train/{name}": value for name, value in logged.items()},
            batch_size=len(batch.targets),
        )
        return None

    def environment(self, batch: TargetBatch, generator: torch.Generator) -> OcclusionEnvironment:
        """Return a batch of targets at the beginning of their episodes."""
        return OcclusionEnvironment(
            batch.targets,
            batch.backgrounds,
            self.scorer.against(batch.exemplars),
            self.features,
            self.settings,
            generator,
        )

    @torch.no_grad()
    def act(self, states: Tensor, generator: torch.Generator, epsilon: float = 0.0) -> Tensor:
        """Return an epsilon-greedy action for each state, int64 ``(N,)``."""
        chance = torch.rand(len(states), generator=generator)
        anything = torch.randint(len(Action), (len(states),), generator=generator)
        best: Tensor = self.network(states).argmax(dim=1)
        explores = (chance < epsilon).to(best.device)
        return torch.where(explores, anything.to(best.device), best)

    def loss(self, drawn: Transitions) -> Tensor:
        """Return the mean squared difference of Q from its target (Algorithm 1, line 23)."""
        with torch.no_grad():
            next_values = self.target_network(drawn.next_states)
        targets = bellman_targets(drawn.rewards, drawn.done, next_values, self.learning.discount)
        values = self.network(drawn.states).gather(1, drawn.actions[:, None])[:, 0]
        return nn.functional.mse_loss(values, targets)

    def configure_optimizers(self) -> Optimizer:
        """Return the optimizer of the Q-network; nothing else learns."""
        return self._make_optimizer(self.network.parameters())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the memory and the counts."""
        checkpoint["hptn"] = {
            "replay": self.replay.state_dict(),
            "batches": self._batches,
            "updates": self._updates,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up again."""
        kept = checkpoint["hptn"]
        self.replay.load_state_dict(kept["replay"])
        self._batches, self._updates = kept["batches"], kept["updates"]

    def _update(self, generator: torch.Generator) -> Tensor:
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        drawn = self.replay.sample(self.learning.batch_size, generator, self.device)
        loss = self.loss(drawn)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self._updates += 1
        if self._updates % self.learning.target_interval == 0:
            self.target_network.load_state_dict(self.network.state_dict())
        return loss.detach()


def bellman_targets(rewards: Tensor, done: Tensor, next_values: Tensor, discount: float) -> Tensor:
    """Return y of Algorithm 1, lines 18 to 22, shape ``(N,)``.

    Deviation: Eq. 7 and 8 write the online network's parameters; the text and Algorithm 1 (line 21)
        take the target network's, as here.

    Args:
        rewards: Shape ``(N,)``.
        done: Whether the search ended, bool, shape ``(N,)``.
        next_values: The target network's values of the *new* states, shape ``(N, A)``. (Line 15 of
            Algorithm 1 copies the old state to the new one; learnt like this, an action would have
            no consequence.)
        discount: gamma.
    """
    return rewards + discount * next_values.amax(dim=1).masked_fill(done, 0.0)
