"""Records behind the pictures of gradients: every measure, with controls.

Two controls keep the comparison honest: a network of random weights, whose
gradient knows nothing of objects, and the standard network's gradient
smoothed over noise, which looks better without any robustness. And each
gradient is also compared with the edges of *another* image, which shows how
much of an agreement is only that objects sit in the middle: ``"excess"`` is
what follows the image at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import attacks, checkpoints, data, models, results, runs, saliency

SHOWN = 8  # images whose gradients a record keeps
Gradients = Iterator[tuple[str, nn.Module, Tensor]]


@dataclass(frozen=True)
class Looking:
    """Whose gradients are measured, and on how many test images.

    ``trained`` maps a label to a record with weights. ``sigma`` and
    ``samples`` are those of the smoothed control.
    """

    dataset: str
    trained: tuple[tuple[str, str], ...]
    n: int = 1_000
    sigma: float = 0.15
    samples: int = 32
    seed: int = 0


LOOKING = {
    "mnist": Looking(
        "mnist",
        (
            ("standard", "training-mnist/standard-seed0"),
            ("linf", "training-mnist/linf-0.3-adversarial-seed0"),
            ("l2", "training-mnist/l2-1.5-adversarial-seed0"),
        ),
    ),
    "cifar10": Looking(
        "cifar10",
        (
            ("standard", "training-cifar10/standard-seed0"),
            ("linf", "training-cifar10/linf-8-seed0"),
            ("l2", "training-cifar10/l2-80-seed0"),
        ),
        sigma=0.05,
    ),
    # photographs of 64 x 64 pixels, in place of Restricted ImageNet
    "imagenette64": Looking(
        "imagenette64",
        (
            ("standard", "training-imagenette/standard-seed0"),
            ("linf", "training-imagenette/linf-4-seed0"),
            ("l2", "training-imagenette/l2-1-seed0"),
        ),
        sigma=0.05,
    ),
}


def measure(settings: Looking) -> results.Outcome:
    """All measures of all gradients; see :func:`observe`."""
    return observe(settings.dataset, settings.n, partial(gradients, settings))


def images(dataset: str, n: int) -> data.Data:
    """The first ``n`` test images (all, if fewer), on the run's device."""
    found = data.load(dataset, quiet=True)
    return found.take(1, min(n, len(found.y_test)), 0).to(runs.device())


def observe(
    dataset: str, n: int, gradients: Callable[[Tensor, Tensor], Gradients]
) -> results.Outcome:
    """All measures of gradients on ``n`` test images; the first few shown.

    ``gradients(x, y)`` yields label, model and gradient; the first is the
    standard network's. ``values["measures"]`` maps a label and a measure to
    its mean and standard error over images, and, against the standard
    network's on the same images, to the mean difference, its error, and the
    share of images on which it is larger (ties count half). ``right``
    counts correct answers. Arrays: ``images`` and one ``gradient-LABEL``
    each.
    """
    part = images(dataset, n)
    x, y = part.x_test, part.y_test
    values: dict[str, Any] = {"measures": {}, "right": {}, "n": len(y)}
    arrays = {"images": results.in_bytes(x[:SHOWN])}
    base: dict[str, Tensor] = {}
    for label, model, grad in gradients(x, y):
        seen = _measures(x, grad, dataset == "mnist")
        base = base or seen
        values["measures"][label] = {
            name: _summary(each, base[name]) for name, each in seen.items()
        }
        answers = model(x).argmax(dim=1)
        values["right"][label] = int((answers == y).sum())
        arrays[f"gradient-{label}"] = grad[:SHOWN].half().cpu()
    return results.Outcome(values, arrays, part.describe())


def gradients(settings: Looking, x: Tensor, y: Tensor) -> Gradients:
    """Label, model and loss gradient on ``x`` (n, c, h, w), standard first.

    After the trained networks come ``"smooth"`` (the standard one, averaged
    over noise) and ``"random"`` (its architecture with fresh weights).
    """
    for label, name in settings.trained:
        model, record = checkpoints.load(name, device=x.device)
        yield label, model, attacks.input_gradient(model, x, y)
        if label == "standard":
            standard = model
            fresh = models.build(
                record.settings["recipe"]["model"], seed=settings.seed + 1
            )
    noise = torch.Generator(x.device).manual_seed(settings.seed)
    smooth = saliency.smooth_gradient(
        standard, x, y, sigma=settings.sigma, samples=settings.samples,
        generator=noise,
    )  # fmt: skip
    yield "smooth", standard, smooth
    fresh = fresh.to(x.device).eval()
    yield "random", fresh, attacks.input_gradient(fresh, x, y)


def _measures(x: Tensor, grad: Tensor, digits: bool) -> dict[str, Tensor]:
    """Each measure, image by image (n,)."""
    force, edge = saliency.strength(grad), saliency.edges(x)
    own = saliency.rank_correlation(force, edge)
    other = saliency.rank_correlation(force, edge.roll(1, 0))
    found = {
        "edges": own, "edges of another": other, "excess": own - other,
        "sparsity": saliency.sparsity(force),
        "on edges": saliency.energy_inside(force, saliency.sharpest(edge)),
    }  # fmt: skip
    if digits:
        mask = saliency.near_strokes(x)
        found["strokes"] = saliency.energy_inside(force, mask)
        even = torch.ones_like(force)
        found["strokes, evenly"] = saliency.energy_inside(even, mask)
    return found


def _summary(values: Tensor, base: Tensor) -> dict[str, Any]:
    values, base = values.double(), base.double()
    gap = values - base
    root = len(values) ** 0.5
    return {
        "mean": float(values.mean()), "error": float(values.std()) / root,
        "more": float(gap.mean()), "more_error": float(gap.std()) / root,
        "larger": float(((gap > 0) + 0.5 * (gap == 0)).double().mean()),
    }  # fmt: skip
