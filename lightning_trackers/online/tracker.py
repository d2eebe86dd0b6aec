"""The loop of trackers that learn on the target: find it, collect samples, decide, update.

Source: Nam & Han, MDNet, CVPR 2016, Algorithm 1 and Section 4.1; py-MDNet ``tracking/run_tracker.py``.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lightning_trackers.box_sampling import gaussian_boxes
from lightning_trackers.boxes import clip_xyxy
from lightning_trackers.evaluation.tracker import (
    Prediction,
    checked_frame,
    checked_frames,
    checked_start_box,
)
from lightning_trackers.online.box_regression import BoxRegression
from lightning_trackers.online.collecting import SampleMemory, SampleSettings
from lightning_trackers.online.head import TargetHead, copied_weights, logits_together, stacked
from lightning_trackers.online.updating import Learner, Pool, UpdateSettings, update

log = logging.getLogger(__name__)

Look = TypeVar("Look")


class SampleFeatures(Protocol[Look]):
    """What the boxes of a frame look like to a method."""

    def look(self, frames: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]) -> list[Look]:
        """Prepare frames in which targets were last seen at ``boxes_xyxy``, ``(4,)`` each."""
        ...

    def features(self, looks: Sequence[Look], boxes_xyxy: Sequence[np.ndarray]) -> list[Tensor]:
        """Return the features of boxes, ``(n, 4)`` for each look, as ``(n, d)`` for each look."""
        ...


@dataclass(frozen=True)
class OnlineSettings:
    """Constants of the loop; the defaults are py-MDNet's.

    Args:
        candidates: Boxes that are scored in a frame.
        translation: Largest displacement of a candidate, relative to the mean of width and height.
        scale: Largest factor of its size.
        translation_limit: Where the growth of ``translation`` ends while the target is lost.
        translation_growth: Factor of ``translation`` for every frame in which it is not found.
        best: Candidates whose mean is the result.
        success_threshold: The target is found if the mean score of the best is larger, a logit.
        initial_iterations: Steps of gradient descent in the first frame.
        initial_lr: Their learning rate.
        update_iterations: Steps of gradient descent of an update.
        update_lr: Their learning rate.
        long_interval: Frames between two long-term updates.
        long_frames: Frames whose positive samples serve a long-term update.
        short_frames: Frames whose samples serve a short-term update, which follows a failure, and
            whose negative samples serve both.
        regression_alpha: Penalty of the box regression; 0 does without it.
        seed: Seed of every target's chance.
        samples: How samples are drawn.
        update: How a head learns.

    Raises:
        ValueError: If a value is out of range.
    """

    candidates: int = 256
    translation: float = 0.6
    scale: float = 1.05
    translation_limit: float = 1.5
    translation_growth: float = 1.1
    best: int = 5
    success_threshold: float = 0.0
    initial_iterations: int = 50
    initial_lr: float = 5e-4
    update_iterations: int = 15
    update_lr: float = 1e-3
    long_interval: int = 10
    long_frames: int = 100
    short_frames: int = 30
    regression_alpha: float = 1000.0
    seed: int = 0
    samples: SampleSettings = field(default_factory=SampleSettings)
    update: UpdateSettings = field(default_factory=UpdateSettings)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.best <= self.candidates:
            raise ValueError(
                f"tracker: expected 1 <= best <= candidates, got best={self.best} "
                f"candidates={self.candidates}"
            )
        if not (self.translation > 0 and self.long_interval >= 1 and self.regression_alpha >= 0):
            raise ValueError(
                "tracker: expected translation > 0, long_interval >= 1 and regression_alpha >= 0, "
                f"got {self.translation}, {self.long_interval} and {self.regression_alpha}"
            )


@dataclass
class OnlineState:
    """What is kept of one target.

    Args:
        box_xyxy: Where it was last found, float64 ``(4,)``, px; without box regression, which is
            reported and not fed back.
        learner: Its head's weights and its source of chance.
        memory: Samples to learn from.
        regression: Its box regression; None without.
        translation: Where candidates are looked for, see :class:`OnlineSettings`.
        frames: Frames seen after the first.
        found: Frames in which it was found.
        fallbacks: Frames without a sample of a kind: its own box was the only positive, or there was
            no negative one.
        skipped: Updates that were due and had nothing to learn from.
    """

    box_xyxy: np.ndarray
    learner: Learner
    memory: SampleMemory
    regression: BoxRegression | None
    translation: float
    frames: int = 0
    found: int = 0
    fallbacks: int = 0
    skipped: int = 0

    def statistics(self) -> dict[str, float]:
        """Return what learning online did so far, by name."""
        return {
            "online_loss": self.learner.loss,
            "updates": self.learner.updates,
            "failed_updates": self.learner.failed,
            "skipped_updates": self.skipped,
            "memory": len(self.memory),
            "success_rate": self.found / self.frames if self.frames else 1.0,
            "fallbacks": self.fallbacks,
        }


class OnlineTracker(Generic[Look]):
    """Follows targets, each by a head of its own that learns while it is tracked.

    The heads of all targets of a step that are due learn together.

    Args:
        features: What boxes look like.
        head: The head with which every target begins; it stays as it is.
        loss: ``loss(logits, labels)`` with which heads learn.
        settings: Constants.
    """

    def __init__(
        self,
        features: SampleFeatures[Look],
        head: TargetHead,
        loss: nn.Module,
        settings: OnlineSettings,
    ) -> None:
        self.features = features
        self.head = head
        self.loss = loss
        self.settings = settings

    @torch.inference_mode(False)
    @torch.no_grad()
    def start(self, frame: np.ndarray, box_xyxy: np.ndarray) -> OnlineState:
        """Begin to follow a target: learn its head and its box regression on the first frame."""
        s = self.settings
        box = checked_start_box(box_xyxy, checked_frame(frame).shape[:2]).astype(np.float64)
        rng = np.random.default_rng(s.seed)
        state = OnlineState(
            box,
            Learner(copied_weights(self.head), rng, {}),
            SampleMemory(s.long_frames, s.short_frames),
            None,
            s.translation,
        )
        wh = _wh(frame)
        looks = self.features.look([frame], [box])
        positives = self._positives(state, s.samples.initial_positives, wh)
        first = s.samples.initial_negative_boxes(rng, box, wh)
        later = s.samples.negative_boxes(rng, box, wh, s.samples.initial_negative_overlap)
        if not len(first):
            state.fallbacks += 1
            log.warning("no room for negative samples beside %s in %s px", box.tolist(), wh)
        boxes = [positives, first, later]
        if s.regression_alpha:
            boxes.append(s.samples.regression_boxes(rng, box, wh))
        found = self.features.features(looks, [np.concatenate(boxes)])[0]
        parts = torch.split(found, [len(b) for b in boxes])
        # Copies: a view would keep the features of all boxes alive.
        state.memory.add(parts[0].clone(), parts[2].clone())
        if len(first):
            pool = Pool(parts[0], parts[1])
            self._learn([state], [pool], s.initial_iterations, s.initial_lr)
            state.learner.velocity = {}  # updates have an optimizer of their own
        if s.regression_alpha and len(boxes[3]) > 1:
            state.regression = BoxRegression.fit(
                parts[3], _tensor(boxes[3], found), _tensor(box, found), s.regression_alpha
            )
        return state

    @torch.inference_mode(False)
    @torch.no_grad()
    def step(self, states: Sequence[OnlineState], frames: Sequence[np.ndarray]) -> list[Prediction]:
        """Find each target in its next frame, remember samples, update the heads that are due."""
        checked_frames(states, frames)
        if not states:
            return []
        s = self.settings
        sizes = [_wh(frame) for frame in frames]
        looks = self.features.look(frames, [state.box_xyxy for state in states])
        candidates = [
            gaussian_boxes(
                x.learner.rng,
                x.box_xyxy,
                s.candidates,
                translation=x.translation,
                scale=s.scale,
                frame_wh=wh,
            )
            for x, wh in zip(states, sizes, strict=True)
        ]
        features = torch.stack(self.features.features(looks, candidates))  # (T, N, d)
        weights = stacked([x.learner.weights for x in states])
        logits = logits_together(self.head, weights, features)  # (T, N, 2)
        top = logits[..., 1].topk(s.best, dim=1).indices.cpu()  # (T, best)
        predictions = []
        for t, (state, wh) in enumerate(zip(states, sizes, strict=True)):
            of_best = logits[t, top[t].to(logits.device)]  # (best, 2)
            boxes = candidates[t][top[t].numpy()]
            state.box_xyxy = boxes.mean(axis=0)
            found = float(of_best[:, 1].mean()) > s.success_threshold
            state.frames += 1
            state.found += found
            better = state.box_xyxy
            if found and state.regression is not None:
                own = features[t, top[t].to(features.device)]
                better = state.regression(own, _tensor(boxes, own)).mean(0).cpu().numpy()
                better = _kept_in(better, wh)
            state.translation = (
                s.translation
                if found
                else min(state.translation * s.translation_growth, s.translation_limit)
            )
            score = float((of_best[:, 1] - of_best[:, 0]).mean().sigmoid())
            predictions.append((better, score, found))
        lost = [not found for _, _, found in predictions]
        self._collect(states, looks, sizes, lost)
        self._update_due(states, lost)
        return [Prediction(box.astype(np.float32), score) for box, score, _ in predictions]

    def _collect(
        self,
        states: Sequence[OnlineState],
        looks: Sequence[Look],
        sizes: Sequence[tuple[int, int]],
        lost: Sequence[bool],
    ) -> None:
        """Remember samples around every target that was found."""
        s = self.settings.samples
        which = [t for t in range(len(states)) if not lost[t]]
        if not which:
            return
        positives, negatives = [], []
        for t in which:
            positives.append(self._positives(states[t], s.positives, sizes[t]))
            negatives.append(s.negative_boxes(states[t].learner.rng, states[t].box_xyxy, sizes[t]))
            states[t].fallbacks += not len(negatives[-1])
        boxes = [np.concatenate(pair) for pair in zip(positives, negatives, strict=True)]
        features = self.features.features([looks[t] for t in which], boxes)
        for t, own, found in zip(which, positives, features, strict=True):
            states[t].memory.add(found[: len(own)].clone(), found[len(own) :].clone())

    def _positives(self, state: OnlineState, count: int, wh: tuple[int, int]) -> np.ndarray:
        """Draw positive boxes; where none is allowed, the target's own box is the only one."""
        box = state.box_xyxy
        boxes = self.settings.samples.positive_boxes(state.learner.rng, box, count, wh)
        if not len(boxes):
            state.fallbacks += 1
            return box[None]
        return boxes

    def _update_due(self, states: Sequence[OnlineState], lost: Sequence[bool]) -> None:
        """Learn: of the last frames where a target was lost, of all frames every so often."""
        s = self.settings
        due, pools = [], []
        for state, recent in zip(states, lost, strict=True):
            if not recent and state.frames % s.long_interval:
                continue
            pool = state.memory.pool(recent=recent)
            if pool is None:
                state.skipped += 1
                continue
            due.append(state)
            pools.append(pool)
        if due:
            self._learn(due, pools, s.update_iterations, s.update_lr)

    def _learn(
        self, states: Sequence[OnlineState], pools: Sequence[Pool], iterations: int, lr: float
    ) -> None:
        learners = [state.learner for state in states]
        failed = [learner.failed for learner in learners]
        update(self.head, learners, pools, self.loss, iterations, lr, self.settings.update)
        for learner, before in zip(learners, failed, strict=True):
            if learner.failed > before:
                log.warning("an update was not finite and was taken back (%d so far)", before + 1)


def _wh(frame: np.ndarray) -> tuple[int, int]:
    return frame.shape[1], frame.shape[0]


def _kept_in(box_xyxy: np.ndarray, wh: tuple[int, int]) -> np.ndarray:
    """Cut a box at the frame's border, unless nothing would be left."""
    cut: np.ndarray = clip_xyxy(box_xyxy, (wh[1], wh[0]))
    return cut if (cut[2:] > cut[:2]).all() else box_xyxy


def _tensor(boxes: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(boxes)).to(like.device)
