"""Do a network's features keep the picture? Inverting them by descent.

Engstrom et al. (2019) start from noise and change the pixels until the
features R(x') are those of an image, R(x), where R is everything but the
last layer. For standard networks the result is noise; for robust ones it
resembles x, though a few hundred features cannot hold all pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import aligned, checkpoints, models, results, seeing
from ._memory import batches

SHOWN = 8  # pictures a record keeps of each network
BATCH = 100  # images inverted at once


@dataclass(frozen=True)
class Inverting:
    """Whose features are inverted, on how many test images, and how.

    ``steps`` of Adam on the pixels, with a learning rate that falls from
    ``lr`` to 0 along a cosine; the start is grey with Gaussian noise of
    deviation 0.1. A network of random weights is added as a control.
    """

    dataset: str
    trained: tuple[tuple[str, str], ...]
    n: int = 500
    steps: int = 200
    lr: float = 0.05
    seed: int = 0


INVERTING = Inverting(
    "cifar10",
    (
        *aligned.ALIGNED["cifar10"].trained,
        *aligned.ALIGNED["cifar10"].noisy,
    ),
)


def features(model: nn.Sequential) -> nn.Sequential:
    """The network without its last layer; weights are shared."""
    return model[:-1]


def invert(
    features: nn.Module,
    goal: Tensor,
    start: Tensor,
    *,
    steps: int,
    lr: float,
) -> Tensor:
    """Images whose features come near ``goal``, by descent from ``start``.

    Minimises ``|R(x') - goal| / |goal|``, the distance of Engstrom et al.
    (2019), image by image. ``features`` maps images to rows (n, k),
    ``goal`` (n, k), ``start`` (n, ...) in [0, 1]; returns images in [0, 1]
    shaped like ``start``.
    """
    x = start.detach().clone()
    size = goal.norm(dim=1).clamp_min(1e-12)
    optimiser = torch.optim.Adam([x], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        near = x.detach().clone().requires_grad_()
        away = (features(near) - goal).norm(dim=1) / size
        (x.grad,) = torch.autograd.grad(away.sum(), near)
        optimiser.step()
        schedule.step()
        x.grad = None
        x.clamp_(0, 1)  # outside the graph, as everywhere
    return x


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """Correlation of the pixels of all pairs: (n, m).

    ``first`` (n, ...), ``second`` (m, ...); 1 for the same picture up to
    brightness and contrast. A picture without any difference has 0.
    """
    rows = []
    for part in (first, second):
        flat = part.flatten(1)
        flat = flat - flat.mean(dim=1, keepdim=True)
        rows.append(flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-12))
    return rows[0] @ rows[1].T


def measure(settings: Inverting) -> results.Outcome:
    """Invert every network's features and compare with the images.

    ``values["inverted"]`` maps a label to ``own`` and ``other`` (mean and
    error of the likeness to the image itself and to the next one),
    ``excess`` (of their difference), ``distance`` and ``distance_other``
    (the same as Euclidean distances of pixels), ``first`` (images whose
    inversion is more like them than like any of the ``total``), and
    ``features`` and ``features_other`` (mean relative distance of the
    features from those of the image, for the inversion and for the next
    image). Arrays: ``images`` and one ``inverted-LABEL`` each, in bytes.
    """
    found = seeing.images(settings.dataset, settings.n)
    x = found.x_test
    draw = torch.Generator(x.device).manual_seed(settings.seed)
    noise = torch.randn(
        x.shape, generator=draw, device=x.device, dtype=x.dtype
    )
    start = (0.5 + 0.1 * noise).clamp(0, 1)
    values: dict[str, Any] = {"n": len(x), "inverted": {}}
    arrays = {"images": results.in_bytes(x[:SHOWN])}
    for label, model in _networks(settings, x.device):
        inner = features(model)
        with torch.no_grad():
            goal = inner(x)
        back = torch.cat([
            invert(inner, goal[part], start[part], steps=settings.steps,
                   lr=settings.lr)
            for part in batches(len(x), BATCH)
        ])  # fmt: skip
        with torch.no_grad():
            reached = inner(back)
        values["inverted"][label] = _compared(x, back, goal, reached)
        arrays[f"inverted-{label}"] = results.in_bytes(back[:SHOWN])
    return results.Outcome(values, arrays, found.describe())


def _networks(
    settings: Inverting, device: torch.device
) -> Iterator[tuple[str, nn.Sequential]]:
    for label, name in settings.trained:
        model, record = checkpoints.load(name, device=device)
        yield label, model
    architecture = record.settings["recipe"]["model"]
    fresh = models.build(architecture, seed=settings.seed + 1)
    yield "random", fresh.to(device).eval()


def _compared(
    x: Tensor, back: Tensor, goal: Tensor, reached: Tensor
) -> dict[str, Any]:
    alike, mean = likeness(back, x), results.mean_and_error
    own, other = alike.diagonal(), alike.roll(1, 1).diagonal()
    size = goal.norm(dim=1).clamp_min(1e-12)
    best = alike.argmax(dim=1) == torch.arange(len(x), device=x.device)
    return {
        "own": mean(own), "other": mean(other), "excess": mean(own - other),
        "distance": mean((back - x).flatten(1).norm(dim=1)),
        "distance_other": mean((back - x.roll(1, 0)).flatten(1).norm(dim=1)),
        "first": int(best.sum()), "total": len(x),
        "features": mean((reached - goal).norm(dim=1) / size),
        "features_other": mean((goal.roll(1, 0) - goal).norm(dim=1) / size),
    }  # fmt: skip
