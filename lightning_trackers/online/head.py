"""What learns online: the fully connected layers of one target.

Source: Nam & Han, MDNet, CVPR 2016, Section 3.1 (fc4-fc6); py-MDNet ``modules/model.py`` (dropout,
initialisation).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

Weights = dict[str, Tensor]


class TargetHead(nn.Module):
    """Two hidden layers and two logits, background and target; dropout before the last two layers.

    fc6 belongs to one target: it never learns offline, and every target begins with its own copy.

    Args:
        inputs: Length of a feature vector.
        hidden: Width of fc4 and fc5.
        dropout: Share of the hidden values that are dropped while learning.
        weight_std: Standard deviation of the first weights.

    Raises:
        ValueError: If ``dropout`` is not in [0, 1).
    """

    def __init__(
        self, inputs: int, hidden: int = 512, dropout: float = 0.5, weight_std: float = 0.01
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"head: expected dropout in [0, 1), got {dropout}")
        self.inputs = inputs
        self.hidden = hidden
        self.dropout = dropout
        self.fc4 = nn.Linear(inputs, hidden)
        self.fc5 = nn.Linear(hidden, hidden)
        self.fc6 = nn.Linear(hidden, 2)
        for layer, bias in ((self.fc4, 0.1), (self.fc5, 0.1), (self.fc6, 0.0)):
            nn.init.normal_(layer.weight, std=weight_std)
            nn.init.constant_(layer.bias, bias)

    def forward(self, features: Tensor, kept: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return logits of background and target, ``(N, d)`` to ``(N, 2)``.

        Args:
            features: Feature vectors.
            kept: Factors of the outputs of fc4 and fc5, ``(N, hidden)`` each: 0 where a value is
                dropped, else ``1 / (1 - dropout)``. None drops nothing.
        """
        return self.fc6(self.embed(features, kept))  # type: ignore[no-any-return]

    def embed(self, features: Tensor, kept: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return what fc6 is given, ``(N, d)`` to ``(N, hidden)``."""
        first, second = kept if kept is not None else (None, None)
        features = self.fc4(features).relu()
        features = self.fc5(features if first is None else features * first).relu()
        return features if second is None else features * second


def copied_weights(head: nn.Module) -> Weights:
    """Return a copy of a head's weights, for one target."""
    return {name: value.detach().clone() for name, value in head.named_parameters()}


def stacked(weights: Sequence[Mapping[str, Tensor]]) -> Weights:
    """Return the weights of T targets as one tensor per name, ``(T, ...)``."""
    return {name: torch.stack([w[name] for w in weights]) for name in weights[0]}


def logits_together(
    head: nn.Module,
    weights: Mapping[str, Tensor],
    features: Tensor,
    kept: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Apply every target's own weights to its own samples at once.

    Args:
        head: The head whose layers are applied; its own weights are not used.
        weights: The targets' weights, ``(T, ...)`` each.
        features: ``(T, N, d)``.
        kept: See :class:`TargetHead`, ``(T, N, hidden)`` each.

    Returns:
        Logits, ``(T, N, 2)``.
    """
    if len(features) == 1:  # nothing to batch: without the cost of vmap
        own = {name: value.squeeze(0) for name, value in weights.items()}
        factors = None if kept is None else (kept[0].squeeze(0), kept[1].squeeze(0))
        alone: Tensor = functional_call(head, own, (features.squeeze(0), factors))
        return alone.unsqueeze(0)

    def one(own: Weights, samples: Tensor, factors: tuple[Tensor, Tensor] | None) -> Tensor:
        found: Tensor = functional_call(head, own, (samples, factors))
        return found

    in_dims = (0, 0, None if kept is None else 0)
    found: Tensor = vmap(one, in_dims=in_dims)(dict(weights), features, kept)
    return found
