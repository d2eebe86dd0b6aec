"""How targets learn their regression: Adam on their own samples, many targets at once.

Source: Lu et al., Deep Object Tracking with Shrinkage Loss, TPAMI 2020, Eq. 7, Sections 4 and 5.1;
Kingma & Ba, Adam, ICLR 2015, Algorithm 1.

The paper's rates belong to Caffe's sum over the response map, to the features as Caffe's networks give
them, and to kernels of its windows. Here the loss is the mean, features have the mean absolute value 1
(:func:`unit`), and rates are converted so:

* Sum to mean: nothing changes. Adam divides the gradient by its own size, so that a step has the
  length of the rate whatever factor the loss has. What such a factor does reach, Adam's epsilon (1e-8)
  and the weight decay, is divided by the number of cells.
* Kernels: a rate here is the change of the response that one step makes where all inputs agree, and is
  divided by the kernel's number of inputs. The paper's 8e-7 is 0.01 for 128 channels of 10 × 10 cells
  (12,800 inputs), a target of 80 px at stride 8.
* Depths: the paper's rates of Res4 and Res3 differ by a factor of 40 "considering the large gap between
  the maximum values of the output regression maps". Features of one size leave no gap, and both
  depths have one rate.
* Reductions: their weights are of the paper's size, and its 8e-7 stands as it is.
* Online, rates are a quarter of these: 2e-7 / 8e-7 and 5e-9 / 2e-8.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_trackers.losses import RegressionLoss
from lightning_trackers.methods.dslt.network import DSLT, Maps, Weights, stacked_maps

log = logging.getLogger(__name__)

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8  # of the summed loss


@dataclass
class Sample:
    """What a target learns from.

    Args:
        maps: Features of a search region in the target's units, ``(C_i, H, W)`` each.
        label: Its soft label Y, ``(H, W)``.
    """

    maps: Maps
    label: Tensor


@dataclass
class Learner:
    """What one target has learnt.

    Args:
        weights: Its weights by name, see :meth:`DSLT.initial_weights`.
        moments: Adam's first and second moments by name; empty before the first step.
        steps: Steps that Adam's moments have seen.
        updates: Updates so far, the first frame's included.
        failed: Updates that were taken back because a weight or the loss was not finite.
        loss: Loss before the last step of the last update.
    """

    weights: Weights
    moments: tuple[Weights, Weights] = field(default_factory=lambda: ({}, {}))
    steps: int = 0
    updates: int = 0
    failed: int = 0
    loss: float = float("nan")


@dataclass(frozen=True)
class Rates:
    """Learning rates of the mean loss; see above.

    Args:
        regression: Change of the response in a step where all inputs of a kernel agree.
        reduction: Adam's rate of the 1 × 1 convolutions; 0 keeps them still.
        weight_decay: Factor of the squared weights beside the summed loss, Eq. 7.

    Raises:
        ValueError: If a value is negative.
    """

    regression: float
    reduction: float
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.regression < 0 or self.reduction < 0 or self.weight_decay < 0:
            raise ValueError(f"rates: expected no negative value, got {self}")


class Descent:
    """One update of several targets whose kernels have one size; each learns as it would alone.

    A step changes nothing but tensors of its own. :meth:`finish` hands the weights out.

    Attributes:
        responses: Response maps of the last step, ``(T, N, H, W)``, before its change.

    Args:
        network: The network; it stays as it is.
        learners: One per target.
        samples: The samples of each, equally many.
        loss: Regression loss.
        rates: Learning rates.
    """

    def __init__(
        self,
        network: DSLT,
        learners: Sequence[Learner],
        samples: Sequence[Sequence[Sample]],
        loss: RegressionLoss,
        rates: Rates,
    ) -> None:
        self.network = network
        self.learners = learners
        self.loss = loss
        self.rates = rates
        self.labels = torch.stack([torch.stack([s.label for s in own]) for own in samples])
        maps = [stacked_maps([s.maps for s in own]) for own in samples]
        self._maps = stacked_maps(maps)  # (T, N, C_i, H, W)
        self.weights = {
            name: torch.stack([x.weights[name] for x in learners]) for name in learners[0].weights
        }
        learns = ("regress", "reduce") if rates.reduction else ("regress",)
        self._learning = [name for name in self.weights if name.startswith(learns)]
        if not rates.reduction:  # what stays is computed once
            self._maps = network.reduced(self.weights, self._maps)
        self._moments = tuple(
            {
                name: torch.stack([x.moments[i].get(name, _zeros(x, name)) for x in learners])
                for name in self._learning
            }
            for i in (0, 1)
        )
        self._steps = self.labels.new_tensor([x.steps for x in learners])
        self._finite = torch.ones(len(learners), dtype=torch.bool, device=self.labels.device)
        self._losses = self.labels.new_full((len(learners),), float("nan"))
        self.responses = torch.zeros_like(self.labels)

    @torch.no_grad()
    def step(self) -> Tensor:
        """Take a step of Adam.

        Returns:
            Loss of each target before it, ``(T,)``, without the weight decay.
        """
        network = self.network
        with torch.enable_grad():
            leaves = {name: self.weights[name].detach() for name in self.weights}
            for name in self._learning:
                leaves[name].requires_grad_()
            maps = network.reduced(leaves, self._maps) if self.rates.reduction else self._maps
            responses = network.responses(leaves, maps)
            losses = self.loss.rows(responses, self.labels)
            gradients = torch.autograd.grad(losses.sum(), [leaves[n] for n in self._learning])
        self._steps += 1
        for name, gradient in zip(self._learning, gradients, strict=True):
            self._move(name, gradient)
        self.responses, self._losses = responses.detach(), losses.detach()
        self._finite &= self._losses.isfinite()
        return self._losses

    def finish(self) -> list[bool]:
        """Hand out the weights, and count the update.

        A target whose loss or weights were not finite keeps what it had before, without moments; the
        failure is counted.

        Returns:
            Whether each target's update counts.
        """
        for value in self.weights.values():
            self._finite &= value.isfinite().flatten(1).all(1)
        for t, learner in enumerate(self.learners):
            learner.updates += 1
            learner.loss = float(self._losses[t])
            if self._finite[t]:
                learner.weights = {name: value[t].clone() for name, value in self.weights.items()}
                first, second = ({n: v[t].clone() for n, v in m.items()} for m in self._moments)
                learner.moments, learner.steps = (first, second), int(self._steps[t])
            else:
                learner.moments, learner.steps = ({}, {}), 0
                learner.failed += 1
                log.warning(
                    "an update was not finite and was taken back (%d so far)", learner.failed
                )
        return [bool(finite) for finite in self._finite]

    def _move(self, name: str, gradient: Tensor) -> None:
        weight = self.weights[name]
        cells = self.labels[0].numel()
        gradient = gradient + 2 * self.rates.weight_decay / cells * weight
        first, second = (moments[name] for moments in self._moments)
        first.lerp_(gradient, 1 - _BETAS[0])
        second.lerp_(gradient**2, 1 - _BETAS[1])
        corrections = [1 - beta**self._steps for beta in _BETAS]  # (T,) each
        along, across = (c.view(-1, *[1] * (weight.ndim - 1)) for c in corrections)
        direction = (first / along) / ((second / across).sqrt() + _EPSILON / cells)
        rate = self.rates.reduction
        if name.startswith("regress"):
            rate = self.rates.regression / weight[0].numel()
        self.weights[name] = weight - rate * direction


def unit(maps: Maps) -> tuple[float, float]:
    """Return the mean absolute value of each of two maps; 1 where a map is 0 everywhere.

    Divided by it, features of any backbone have one size.
    """
    shallow, deep = (float(m.abs().mean()) for m in maps)
    return shallow or 1.0, deep or 1.0


def _zeros(learner: Learner, name: str) -> Tensor:
    return torch.zeros_like(learner.weights[name])
