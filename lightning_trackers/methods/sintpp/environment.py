"""The environment in which an agent learns to hide targets from a tracker.

Source: Wang et al., SINT++, CVPR 2018, Section 4.2.1, Eq. 5 and 6, Algorithm 1.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lightning_trackers.methods.sintpp.occlusion import Action, cover, draw_boxes, move_boxes
from lightning_trackers.methods.sintpp.regions import RegionFeatures, look_at


class Score(Protocol):
    """What a tracker says of pictures of certain targets."""

    def __call__(self, pictures: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return scores ``(M,)``, high where the tracker is sure.

        Args:
            pictures: uint8, shape ``(M, 3, S, S)``.
            rows: Which target each one shows, int64, shape ``(M,)``; all in order by default.
        """
        ...


@dataclass(frozen=True)
class OcclusionSettings:
    """Numbers of the environment; the paper gives none of them.

    Where Caicedo and Lazebnik (ICCV 2015), whose boxes the paper's agent moves, give a value, it is
    theirs.

    Args:
        step: Size of a move, share of the box (theirs: 0.2).
        start_side: Side of the first box p_0, which lies in the middle, share of the picture. It sees
            enough of the target to know where to go and covers little (9 %).
        min_side: Smallest side; below, nothing is hidden.
        max_side: Largest side; without it, to cover everything would be the best policy, and no
            tracker could learn from its results.
        step_limit: T, steps of a search; it takes about 15 from the middle into a corner and to the
            largest size.
        history: Past actions in the state (theirs: 10).
        eta: Reward for an end in time, and the loss for one too early (theirs: 3).
        threshold: phi, the score under which a target counts as hidden. For cosine similarities:
            0.5, the distance 1 at which SINT's contrastive loss no longer calls two targets the same.
        search_occluder: Whether the patch of the background is searched for too, after the region of
            the target; otherwise it is drawn at random.

    Raises:
        ValueError: If a number is out of range.
    """

    step: float = 0.2
    start_side: float = 0.3
    min_side: float = 0.15
    max_side: float = 0.6
    step_limit: int = 20
    history: int = 10
    eta: float = 3.0
    threshold: float = 0.5
    search_occluder: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 < self.min_side <= self.start_side <= self.max_side <= 1:
            raise ValueError(
                f"occlusion: expected 0 < min_side <= start_side <= max_side <= 1, got {self}"
            )
        if self.step <= 0 or self.step_limit < 1 or self.history < 0 or self.eta <= 0:
            raise ValueError(
                "occlusion: expected step > 0, step_limit >= 1, history >= 0 and eta > 0, got "
                f"{self}"
            )

    @property
    def searches(self) -> int:
        """Searches of an episode: for the region, and for what covers it."""
        return 2 if self.search_occluder else 1


class Step(NamedTuple):
    """What an action led to, for each of N targets.

    Args:
        rewards: Shape ``(N,)``.
        done: Whether the search ended with this action, bool, shape ``(N,)``.
        finished: Whether the target's last search ended, bool, shape ``(N,)``.
        images: Occluded targets after the action, uint8, shape ``(N, 3, S, S)``.
        scores: What the tracker says of them, shape ``(N,)``.
        areas: Share of the target that is covered, shape ``(N,)``.
        states: What the agent sees next: of the same search, and after its end of the one that
            begins, shape ``(N, D)``.
    """

    rewards: Tensor
    done: Tensor
    finished: Tensor
    images: Tensor
    scores: Tensor
    areas: Tensor
    states: Tensor


class OcclusionEnvironment:
    """N targets, each with a background, whose occluders are moved in lockstep.

    An episode is one or two searches: for the region of the target that is covered, then for the
    patch of the background that covers it. Each ends with *terminate* or after ``step_limit`` steps;
    after the last one the target's episode begins again, with another first patch.

    The state is the descriptor of the region that the search's box shows (in the target as it was, or
    in the background), the last actions, one-hot with the newest first, and which search it is. The
    paper's state has no such mark; without it one network could not serve both searches.

    Args:
        targets: Pictures of targets, uint8 RGB, shape ``(N, 3, S, S)``.
        backgrounds: Pictures of what is beside them, uint8 RGB, shape ``(N, 3, S', S')``.
        score: The tracker's score of N pictures, each against its own exemplar.
        features: Descriptor of regions.
        settings: Numbers.
        generator: Source of the first patches, on the CPU.

    Raises:
        ValueError: If there are no targets, or not one background of a size for each.
    """

    def __init__(
        self,
        targets: Tensor,
        backgrounds: Tensor,
        score: Score,
        features: RegionFeatures,
        settings: OcclusionSettings,
        generator: torch.Generator,
    ) -> None:
        for name, pictures in (("targets", targets), ("backgrounds", backgrounds)):
            if pictures.dtype != torch.uint8 or pictures.dim() != 4 or not pictures.numel():
                raise ValueError(
                    f"occlusion: expected {name} of shape (N, 3, S, S), uint8 and not empty, got "
                    f"{tuple(pictures.shape)} {pictures.dtype}; an occluder is cut out of the "
                    "background beside its target"
                )
        if len(targets) != len(backgrounds):
            raise ValueError(
                f"occlusion: expected a background for each of {len(targets)} targets, got "
                f"{len(backgrounds)}"
            )
        self.targets, self.backgrounds = targets, backgrounds
        self.settings = settings
        self._score, self._features, self._generator = score, features, generator
        count, device = len(targets), targets.device
        self._boxes_xyxy = torch.zeros(count, 2, 4, device=device)  # in target and in background
        self._search = torch.zeros(count, dtype=torch.long, device=device)
        self._steps = torch.zeros(count, dtype=torch.long, device=device)
        self._history = torch.zeros(count, settings.history, len(Action), device=device)
        everything = torch.arange(count, device=device)
        self._begin(everything)
        self.images, self.scores = self._occlude(everything)
        self.states = self._states()

    @property
    def regions_xyxy(self) -> Tensor:
        """The covered regions, shape ``(N, 4)``, shares of the target's picture."""
        return self._boxes_xyxy[:, 0]

    @property
    def patches_xyxy(self) -> Tensor:
        """What covers them, shape ``(N, 4)``, shares of the background's picture."""
        return self._boxes_xyxy[:, 1]

    @torch.no_grad()
    def step(self, actions: Tensor) -> Step:
        """Do one action for each target.

        Args:
            actions: Numbers of :class:`Action`, int64, shape ``(N,)``.
        """
        s = self.settings
        rows = torch.arange(len(actions), device=actions.device)
        moved = move_boxes(
            self._boxes_xyxy[rows, self._search], actions, s.step, s.min_side, s.max_side
        )
        self._boxes_xyxy[rows, self._search] = moved
        images, scores = self._occlude(rows)
        ends = actions == Action.TERMINATE
        rewards = torch.where(
            ends,
            terminal_rewards(scores, s.threshold, s.eta),
            movement_rewards(scores, self.scores),
        )
        self._steps += 1
        if s.history:
            newest = torch.nn.functional.one_hot(actions, len(Action)).to(self._history)
            self._history = torch.cat([newest[:, None], self._history[:, :-1]], dim=1)
        done = ends | (self._steps >= s.step_limit)
        finished = done & (self._search == s.searches - 1)
        sides = self.regions_xyxy[:, 2:] - self.regions_xyxy[:, :2]
        areas = sides.prod(dim=1)
        self._search = torch.where(done, (self._search + 1) % s.searches, self._search)
        self._steps = self._steps.masked_fill(done, 0)
        self._history = self._history.masked_fill(done[:, None, None], 0.0)
        self.images, self.scores = images, scores
        again = finished.nonzero().flatten()
        if len(again):
            self._begin(again)
            self.images, self.scores = images.clone(), scores.clone()
            self.images[again], self.scores[again] = self._occlude(again)
        self.states = self._states()
        return Step(rewards, done, finished, images, scores, areas, self.states)

    def _begin(self, rows: Tensor) -> None:
        """Put the boxes of an episode where they begin."""
        s = self.settings
        low, high = 0.5 - s.start_side / 2, 0.5 + s.start_side / 2
        first = self._boxes_xyxy.new_tensor([low, low, high, high])
        areas = torch.full((len(rows),), s.start_side**2)
        patches = draw_boxes(areas, self._generator, s.start_side, s.start_side)
        begin = torch.stack([first.expand(len(rows), 4), patches.to(first)], dim=1)
        self._boxes_xyxy = self._boxes_xyxy.index_copy(0, rows, begin)

    def _occlude(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        images = cover(
            self.targets[rows],
            self.regions_xyxy[rows],
            self.backgrounds[rows],
            self.patches_xyxy[rows],
        )
        with torch.no_grad():
            scores = self._score(images, rows)
        if scores.shape != (len(images),):
            raise ValueError(
                f"occlusion: expected a score of shape ({len(images)},), got {tuple(scores.shape)}"
            )
        return images, scores.float()

    def _states(self) -> Tensor:
        rows = torch.arange(len(self.targets), device=self.targets.device)
        boxes = self._boxes_xyxy[rows, self._search]
        size = self._features.region_size
        seen = look_at(self.targets, boxes, size)  # (N, 3, size, size)
        if self.settings.search_occluder:
            beside = look_at(self.backgrounds, boxes, size)
            seen = torch.where((self._search == 1)[:, None, None, None], beside, seen)
        with torch.no_grad():
            described = self._features(seen)  # (N, D')
        marks = torch.nn.functional.one_hot(self._search, 2).to(described)
        return torch.cat([described, self._history.flatten(1), marks], dim=1)


def state_size(features: RegionFeatures, settings: OcclusionSettings) -> int:
    """Return the length D of a state."""
    return features.size + settings.history * len(Action) + 2


def movement_rewards(scores: Tensor, previous: Tensor) -> Tensor:
    """Return Eq. 5: +1 where the tracker has become less sure, else -1, shape ``(N,)``."""
    return torch.where(scores - previous < 0, 1.0, -1.0)


def terminal_rewards(scores: Tensor, threshold: float, eta: float) -> Tensor:
    """Return Eq. 6: +eta where the score is at most the threshold, else -eta, shape ``(N,)``."""
    return torch.where(scores <= threshold, eta, -eta)
