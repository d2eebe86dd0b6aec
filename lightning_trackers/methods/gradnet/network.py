"""The GradNet network: SiamFC's frozen embedding and a branch that updates its template.

Source: Li et al., GradNet: Gradient-Guided Network for Visual Object Tracking, ICCV 2019,
Sections 3.1-3.3, Eq. 1 and 4-10.
"""

import copy
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lightning_trackers.ops import xcorr

Reading = Literal["paper", "released"]


class Adaptation(NamedTuple):
    """What one pass through the update branch gives.

    Args:
        initial_template: β, Eq. 4, shape ``(G, C, Hz, Wz)``.
        initial_loss: L of each template, Eq. 5, shape ``(G,)``.
        correction: U2(∂L/∂f_2(Z)), the second term of Eq. 6, shape ``(G, C2, H2, W2)``.
        features: h_2(Z), Eq. 6, shape ``(G, C2, H2, W2)``.
        template: β*, Eq. 7, shape ``(G, C, Hz, Wz)``.
    """

    initial_template: Tensor
    initial_loss: Tensor
    correction: Tensor
    features: Tensor
    template: Tensor


class GradNet(nn.Module):
    """Makes a template from an exemplar and from the gradient of its loss on search regions.

    U1 has the structure of the embedding's last three convolutions, U2 is one 3 × 3 convolution. The
    template has 6 × 6 cells and the score map 17 × 17 for crops of 127 and 255 px.

    Deviation: the paper does not say where the update branch begins to learn from (α⁰). Here U1
        begins as the embedding's last three layers and keeps their batch statistics: a batch has one
        exemplar for k search regions, too few to estimate statistics from.
    Deviation: U2 sees the gradient times ``gradient_scale``. As U2 is linear this only changes the
        unit of its weights: gradients of a mean over cells are of the order of 1e-5, and the weights
        would have to grow from 1e-2 to 1e3 at the learning rate of all others.

    Legend: G templates, k search regions each, C2 and C channels of f_2 and f_x.

    Args:
        backbone: SiamFC's embedding f_x: ``layers`` in sequence, ``stride``.
        loss: Classification loss l of one score map.
        response_scale: Factor of the raw correlation, as in SiamFC.
        reading: ``paper``, or ``released`` as the published TensorFlow code has it: f_2 has weights of
            its own that learn, weights begin at N(0, 0.01²), batch norms learn, and U2 ends in a
            batch norm and a tanh.
        gradient: Correct the template; without it the template is U1(f_2(Z)) (w/o MG: SiamFC with two
            branches that do not share weights).
        shared_u1: Use the same U1 before and after the correction (w 2U: False).
        region_reduction: ``sum`` of the losses of a template's k regions (Algorithm 1, 2c), or their
            ``mean``, which has the same size for the one region there is online.
        gradient_scale: Factor of the gradient before U2.

    Raises:
        ValueError: If an option is unknown or the backbone has fewer than four convolutions.
    """

    def __init__(
        self,
        backbone: nn.Module,
        loss: nn.Module,
        *,
        response_scale: float = 1e-3,
        reading: Reading = "paper",
        gradient: bool = True,
        shared_u1: bool = True,
        region_reduction: Literal["sum", "mean"] = "sum",
        gradient_scale: float = 1e4,
    ) -> None:
        super().__init__()
        if reading not in ("paper", "released"):
            raise ValueError(f"gradnet: expected reading paper or released, got {reading!r}")
        if region_reduction not in ("sum", "mean"):
            raise ValueError(
                f"gradnet: expected region_reduction sum or mean, got {region_reduction!r}"
            )
        self.backbone = backbone
        self.loss = loss
        self.stride = int(backbone.stride)  # type: ignore[arg-type]
        self.response_scale = response_scale
        self.reading = reading
        self.region_reduction = region_reduction
        self.gradient_scale = gradient_scale
        layers = _layers(backbone)
        convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
        if len(convolutions) < 4:
            raise ValueError(
                "gradnet: expected a backbone of at least four convolutions, three of which U1 takes "
                f"after, got {len(convolutions)}"
            )
        self.split = convolutions[-3]
        first_of_u1 = layers[self.split]
        assert isinstance(first_of_u1, nn.Conv2d)
        self.f2 = copy.deepcopy(layers[: self.split]) if reading == "released" else None
        self.u1 = copy.deepcopy(layers[self.split :])
        self.u1_after = None if shared_u1 else copy.deepcopy(self.u1)
        # An unpadded convolution takes its kernel less one; inference copies have other layers.
        kernels = [m.kernel_size[0] for m in self.u1.modules() if isinstance(m, nn.Conv2d)]
        self._u1_margin = sum(kernel - 1 for kernel in kernels)
        self.u2 = _u2(first_of_u1.in_channels, reading) if gradient else None
        if reading == "released":
            for part in (self.f2, self.u1, self.u1_after):
                if part is not None:
                    part.apply(_draw_weights)
        self.backbone.requires_grad_(False)
        self.train(self.training)

    def begin(self) -> None:
        """Let the update branch begin: U1 takes over the embedding's last three layers."""
        if self.reading == "paper":
            last_three = _layers(self.backbone)[self.split :].state_dict()
            for part in (self.u1, self.u1_after):
                if part is not None:
                    part.load_state_dict(last_three)

    def train(self, mode: bool = True) -> "GradNet":
        """Set the mode; frozen layers and borrowed batch statistics stay in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        if self.reading == "paper":
            self.u1.eval()
            if self.u1_after is not None:
                self.u1_after.eval()
        return self

    def exemplar(self, images: Tensor) -> Tensor:
        """Return f_2(Z), ``(G, C2, H2, W2)``, of exemplar images ``(G, 3, H, W)``."""
        layers = _layers(self.backbone)[: self.split] if self.f2 is None else self.f2
        features: Tensor = layers(images)
        return features

    def search(self, images: Tensor) -> Tensor:
        """Return f_x(X), ``(B, C, Hx, Wx)``, of search images ``(B, 3, H, W)``."""
        features: Tensor = self.backbone(images)
        return features

    def score_map(self, searches: Tensor, templates: Tensor) -> Tensor:
        """Return S, Eq. 1 and 10.

        Args:
            searches: f_x(X), shape ``(G * k, C, Hx, Wx)``; k regions for each template in turn.
            templates: Shape ``(G, C, Hz, Wz)``.

        Returns:
            Score maps (logits), shape ``(G * k, H', W')``.
        """
        repeated = templates.repeat_interleave(len(searches) // len(templates), dim=0)
        return xcorr(searches, repeated)[:, 0] * self.response_scale

    def map_cells(self, features: Tensor, searches: Tensor) -> int:
        """Return the side of the score maps that f_2(Z) and f_x(X) lead to."""
        template = features.shape[-1] - self._u1_margin
        return int(searches.shape[-1] - template + 1)

    def track(self, images: Tensor, templates: Tensor) -> Tensor:
        """Return the score maps of search images to templates, ``(B, H', W')``."""
        return self.score_map(self.search(images), templates)

    def map_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return l(S, Y) of each map, ``(B,)``, of maps and labels ``(B, H', W')``."""
        return torch.stack([self.loss(s, y) for s, y in zip(scores, labels, strict=True)])

    def adapt(
        self, features: Tensor, searches: Tensor, labels: Tensor, *, second_order: bool = False
    ) -> Adaptation:
        """Correct templates by the gradient of their loss on search regions (Eq. 4-7).

        Works under ``no_grad`` and ``inference_mode`` too, as online and in validation.

        Args:
            features: f_2(Z), or h_2(Z) of an earlier adaptation, shape ``(G, C2, H2, W2)``.
            searches: f_x(X), shape ``(G * k, C, Hx, Wx)``; k regions for each template in turn.
            labels: Y, shape ``(G * k, H', W')``.
            second_order: Let the gradient's own dependence on U1 be differentiated. Training needs
                it: without it U1 learns nothing of how its gradients are used. If not, the result
                carries no graph.

        Raises:
            ValueError: If the network was made without the gradient.
        """
        if self.u2 is None:
            raise ValueError("gradnet: made with gradient=False, so there is no U2 to adapt with")
        with torch.inference_mode(False), torch.enable_grad():
            features, searches, labels = (_usable(t) for t in (features, searches, labels))
            if not (second_order and features.requires_grad):
                features = features.detach().requires_grad_()
            template = self.u1(features)  # β, Eq. 4
            losses = self.map_losses(self.score_map(searches, template), labels)  # (G * k,)
            per_template = losses.view(len(features), -1)  # (G, k)
            loss = per_template.sum(1) if self.region_reduction == "sum" else per_template.mean(1)
            # A template's loss depends on its own features alone: one call gives all gradients.
            (gradient,) = torch.autograd.grad(loss.sum(), features, create_graph=second_order)
            with torch.set_grad_enabled(second_order):
                correction = self.u2(gradient * self.gradient_scale)
                updated = features + correction  # h_2(Z), Eq. 6
                after = self.u1 if self.u1_after is None else self.u1_after
                found = Adaptation(template, loss, correction, updated, after(updated))
        return found if second_order else Adaptation(*(t.detach() for t in found))

    def forward(self, exemplars: Tensor, searches: Tensor, labels: Tensor) -> Tensor:
        """Return S*, ``(G * k, H', W')``, of images; S where the network has no gradient.

        Args:
            exemplars: Exemplar images, shape ``(G, 3, H, W)``.
            searches: Search images, shape ``(G * k, 3, H, W)``; k for each exemplar in turn.
            labels: Y, shape ``(G * k, H', W')``; not used without the gradient.
        """
        features, found = self.exemplar(exemplars), self.search(searches)
        if self.u2 is None:
            return self.score_map(found, self.u1(features))
        adapted = self.adapt(features, found, labels, second_order=torch.is_grad_enabled())
        return self.score_map(found, adapted.template)


def _layers(backbone: nn.Module) -> nn.Sequential:
    layers = backbone.layers
    if not isinstance(layers, nn.Sequential):
        raise TypeError(f"gradnet: expected a backbone with sequential layers, got {type(layers)}")
    return layers


def _u2(channels: int, reading: Reading) -> nn.Module:
    """Return U2; without a bias, so that no gradient means no correction."""
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    _draw_weights(conv)
    if reading == "paper":
        return nn.Sequential(conv)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.Tanh())


def _draw_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _usable(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd may keep: one made under ``inference_mode`` is copied."""
    return tensor.clone() if tensor.is_inference() else tensor
