"""Red flags: signs that a robust accuracy says more than it may.

An attack that fails proves nothing if it had no chance. After Athalye et
al. (2018) and Carlini et al. (2019), who collected how that happens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attacks import input_gradient, pgd
from .counting import BATCH, margins, predict
from .norms import random_in_ball

FEW = 64  # images that the cheap checks look at


@dataclass(frozen=True)
class Finding:
    """One sanity check: its name, whether it passed, what was seen."""

    name: str
    passed: bool
    message: str

    def __str__(self) -> str:
        return (
            f"{'ok  ' if self.passed else 'FLAG'} {self.name}: {self.message}"
        )


def gradient_checks(model: nn.Module, x: Tensor, y: Tensor) -> list[Finding]:
    """What the outputs and the first gradients give away, at few passes.

    ``x`` (n, ...) and ``y`` (n,) should be classified correctly; the first
    ``FEW`` are looked at: softmax outputs, zero gradients, gradients cut
    off at the pixel bounds.
    """
    x, y = x[:FEW], y[:FEW]
    return [
        _softmax_check(predict(model, x)),
        _zero_gradient_check(model, x, y),
        _clamp_check(model, x, y),
    ]


def sanity_checks(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 20,
    generator: torch.Generator | None = None,
) -> list[Finding]:
    """The field's red flags for a robustness claim at ``eps``.

    The checks of :func:`gradient_checks`; then noise that beats the
    gradient, few steps that beat many, and a ball as large as the box that
    still leaves the model standing. Raises ``ValueError`` for a model in
    training mode or unsound input; everything else is a :class:`Finding`.
    """
    right = margins(model, x, y) > 0
    if not bool(right.any()):
        raise ValueError("the model classifies no example correctly")
    x, y = x[right], y[right]

    def survivors(eps: float, steps: int) -> float:
        left = 0
        for part, label in zip(x.split(BATCH), y.split(BATCH), strict=True):
            worst = pgd(
                model, part, label, eps=eps, norm=norm, steps=steps,
                schedule="cosine", generator=generator,
            )  # fmt: skip
            left += int((margins(model, worst, label) > 0).sum())
        return left / len(x)

    many, few = survivors(eps, steps), survivors(eps, max(1, steps // 10))
    noise = random_in_ball(x, eps, norm, generator)
    stand = margins(model, (x + noise).clamp(0, 1), y) > 0
    noisy = float(stand.float().mean())
    whole_box = 1.0 if norm == "linf" else math.sqrt(x[0].numel())
    at_most = survivors(whole_box, max(steps, 40))
    # two accuracies on the same n examples: allow two standard errors
    slack = 1 / math.sqrt(len(x))
    return [
        *gradient_checks(model, x, y),
        Finding(
            "gradient beats noise", many <= noisy + slack,
            f"{many:.1%} survive the attack, {noisy:.1%} random noise",
        ),
        Finding(
            "more steps do not help the defender", many <= few + slack,
            f"{few:.1%} after few steps, {many:.1%} after {steps}",
        ),
        Finding(
            "a ball as large as the box fools it", at_most <= slack,
            f"{at_most:.1%} survive eps = {whole_box:.3g}",
        ),
    ]  # fmt: skip


def black_box_check(tried: int, fooled: int, nearer: int = 0) -> Finding:
    """Does a search without gradients find what gradients have missed?

    ``fooled`` of ``tried`` examples that had withstood every attack with
    gradients fell to queries. Two are suspicious if they are one in twenty
    or more; a single one may be an unlucky start. Long before any falls,
    ``nearer`` tells: on so many a few queries left a smaller margin than
    all gradients before. Three are suspicious if they are one in ten.
    """
    return Finding(
        "gradients beat a black box",
        fooled < max(2, 0.05 * tried) and nearer < max(3, 0.1 * tried),
        f"{fooled} of {tried} survivors of the gradient attacks fell to "
        f"queries alone, which came nearer to fooling {nearer}",
    )


def _softmax_check(logits: Tensor) -> Finding:
    total = logits.sum(dim=1)
    looks = bool((logits >= 0).all()) and bool(
        torch.allclose(total, torch.ones_like(total), atol=1e-3)
    )
    return Finding(
        "outputs are logits", not looks,
        "rows are positive and sum to 1: return logits, not probabilities"
        if looks else "no sign of a softmax",
    )  # fmt: skip


def _zero_gradient_check(model: nn.Module, x: Tensor, y: Tensor) -> Finding:
    grad = input_gradient(model, x, y).flatten(1)
    useless = (grad == 0).all(dim=1) | ~torch.isfinite(grad).all(dim=1)
    share = float(useless.float().mean())
    return Finding(
        "gradients are not zero", share <= 0.01,
        f"{share:.1%} of the images have an exactly zero gradient, or one "
        "that is not a number",
    )  # fmt: skip


def _clamp_check(model: nn.Module, x: Tensor, y: Tensor) -> Finding:
    """Do pixels on the bounds get no gradient until they are nudged off?"""
    on_bound = (x == 0) | (x == 1)
    inside = x.clamp(1e-3, 1 - 1e-3)
    at = input_gradient(model, x, y, loss="margin") != 0
    near = input_gradient(model, inside, y, loss="margin") != 0
    counted = on_bound & near
    lost = counted & ~at
    share = float(lost.sum()) / max(1, int(counted.sum()))
    return Finding(
        "no gradient lost at the pixel bounds", share <= 0.1,
        f"{share:.1%} of the pixels at 0 or 1 gain a gradient only when "
        "nudged off the bound (a clamp inside the model?)",
    )  # fmt: skip
