"""A toy one can see: the distribution D of section 2.1 drawn as images.

A bright shape is the strong feature x1, a faint pattern under the noise of
all pixels the weak ones, so that the theorems predict what a network
trained on the images will do. Exact numbers come from ``lib.toy``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import attacks
from .results import Outcome
from .toy import Toy

SIDE = 28
GREY, CONTRAST, NOISE = 0.5, 0.2, 0.05  # in pixel units


@dataclass(frozen=True)
class Planted:
    """The toy model as grey images of 28 x 28 pixels.

    A bright ring (+1) or cross (-1) agrees with the label with probability
    ``p``: the strong feature. Every pixel carries normal noise of standard
    deviation 0.05 and a fixed pattern of +-eta pixel units whose sign is
    the label's: the weak features. ``m`` is their pooled strength and
    ``seed`` chooses the pattern.
    """

    p: float
    m: float
    seed: int = 0

    @property
    def toy(self) -> Toy:
        """The same distribution in the units of ``lib.toy``."""
        return Toy.from_m(self.m, SIDE * SIDE, self.p)

    @property
    def eta(self) -> float:
        """Size of the planted pattern in pixel units."""
        return self.toy.eta * NOISE

    def pattern(self) -> Tensor:
        """The fixed signs (28, 28) of the planted pattern, -1.0 or 1.0."""
        generator = torch.Generator().manual_seed(self.seed)
        return 2.0 * torch.randint(0, 2, (SIDE, SIDE), generator=generator) - 1

    def shapes(self) -> Tensor:
        """Masks (2, 28, 28) of 0 and 1: the cross (-1) and the ring (+1)."""
        place = torch.arange(SIDE) - (SIDE - 1) / 2
        radius = (place[:, None] ** 2 + place[None] ** 2).sqrt()
        ring = (radius > 7) & (radius < 10)
        cross = (place.abs()[:, None] < 2) | (place.abs()[None] < 2)
        return torch.stack([cross & (radius < 11), ring]).float()

    def sample(
        self, n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Images (n, 1, 28, 28) in [0, 1] and classes (n,), 0 for -1.

        The box cuts the noise of less than one image in a million.
        """
        y = torch.randint(0, 2, (n,), generator=generator)
        agrees = torch.rand(n, generator=generator) < self.p
        shown = torch.where(agrees, y, 1 - y)
        noise = torch.randn(n, SIDE, SIDE, generator=generator)
        x = GREY + CONTRAST * self.shapes()[shown] + NOISE * noise
        return self.shift(x[:, None], y, -self.eta), y

    def shift(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Images with the pattern moved by ``eps`` against the label.

        At eps = 2 eta this is the adversary of Theorem 2.1: it knows the
        distribution and no classifier.
        """
        sign = (2.0 * y - 1)[:, None, None, None]
        return (x - eps * sign * self.pattern()).clamp(0, 1)

    def predicted(self, seen: float = 1.0) -> tuple[float, float]:
        """Standard accuracy of the Bayes rule, and under the full shift.

        ``seen`` is the cosine between the pattern and the direction in
        which a classifier adds up the pixels: of the strength m it gets
        m * seen (see the chapter), 1 for the Bayes rule itself.
        """
        toy = Toy.from_m(seen * self.m, SIDE * SIDE, self.p)
        tau = toy.bayes_tau()
        return toy.gate_accuracy(tau), toy.gate_accuracy(tau, 2 * toy.eta)


class _Centre(nn.Module):
    """Pixels in units of the noise."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - GREY) / NOISE


def network(width: int, generator: torch.Generator) -> nn.Sequential:
    """A two-layer network on planted images, normalisation inside."""
    # initialised from the generator below, not from the global state
    first, last = (
        nn.utils.skip_init(nn.Linear, *shape)
        for shape in ((SIDE * SIDE, width), (width, 2))
    )
    model = nn.Sequential(nn.Flatten(), _Centre(), first, nn.ReLU(), last)
    with torch.no_grad():
        for weight in model.parameters():
            scale = weight.shape[-1] ** -0.5
            weight.uniform_(-scale, scale, generator=generator)
    return model.eval()  # no layer behaves differently in training


def train_network(
    planted: Planted,
    *,
    eps: float,
    steps: int,
    batch: int,
    width: int,
    generator: torch.Generator,
    rate: float = 3e-3,
) -> nn.Sequential:
    """Train on fresh planted images, at the worst point of radius ``eps``.

    The worst point is one full gradient-sign step: the ball is so small
    beside the shape that the network is almost linear in it (PGD, used to
    measure, finds hardly more). eps = 0 is standard training.
    """
    model = network(width, generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        x, y = planted.sample(batch, generator)
        if eps > 0:
            x = attacks.fgsm(model, x, y, eps=eps)
        loss = F.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def score_gradients(model: nn.Module, x: Tensor) -> Tensor:
    """Gradient of each image's score, logit 1 minus logit 0; like ``x``."""
    x = x.detach().requires_grad_()
    logits = model(x)
    (grad,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)
    return grad


def networks(settings: Mapping[str, Any]) -> Outcome:
    """Networks on planted images, trained with and without an adversary.

    Settings: p, m, steps, batch, width, test, attacked, seeds. Counts on
    ``test`` fresh images: ``standard`` and ``shifted`` (by 2 eta along the
    pattern); ``attacked``: under PGD with 20 steps at eps = 2 eta, on the
    first images. ``seen``: mean cosine of the score's gradient with the
    pattern. Arrays: the mean gradients (28, 28) of the first seed.
    """
    planted = Planted(settings["p"], settings["m"])
    eps, rows = 2 * planted.eta, []
    arrays: dict[str, Tensor] = {}
    for seed in settings["seeds"]:
        for name, radius in (("standard", 0.0), ("adversarial", eps)):
            generator = torch.Generator().manual_seed(seed)
            model = train_network(
                planted,
                eps=radius,
                steps=settings["steps"],
                batch=settings["batch"],
                width=settings["width"],
                generator=generator,
            )
            row, grad = _measured(planted, model, settings, generator)
            rows.append({"seed": seed, "training": name, **row})
            arrays.setdefault(name, grad)
    return Outcome({"rows": rows, "eps": eps}, arrays)


def _measured(
    planted: Planted,
    model: nn.Module,
    settings: Mapping[str, Any],
    generator: torch.Generator,
) -> tuple[dict[str, Any], Tensor]:
    eps, few = 2 * planted.eta, settings["attacked"]
    x, y = planted.sample(settings["test"], generator)
    x_adv = attacks.pgd(
        model, x[:few], y[:few], eps=eps, steps=20, generator=generator
    )
    grad = score_gradients(model, x[:few])
    flat = planted.pattern().flatten() / math.sqrt(SIDE * SIDE)
    cosine = F.normalize(grad.flatten(1)) @ flat

    def right(images: Tensor) -> int:
        with torch.no_grad():
            answer = model(images).argmax(1)
        return int((answer == y[: len(images)]).sum())

    row = {
        "standard": right(x),
        "shifted": right(planted.shift(x, y, eps)),
        "attacked": right(x_adv),
        "seen": float(cosine.mean()),
    }
    return row, grad.mean(0)[0]
