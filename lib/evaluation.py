"""Accuracy and robust accuracy, with counts, intervals and sanity checks.

Robust accuracy at eps is the share of examples for which *no* point of the
eps-ball is misclassified. An attack can only show an upper bound of it, so
every number here travels with the attack that produced it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ._checks import check_images, check_labels, check_logits
from .attacks import input_gradient, margin, pgd, step_sizes
from .norms import check_eps, check_norm, random_in_ball

BATCH = 250  # larger batches cost more per image on a CPU, not less


@dataclass(frozen=True)
class Accuracy:
    """``correct`` out of ``total``, with a 95 % interval (Wilson, 1927)."""

    correct: int
    total: int

    @property
    def value(self) -> float:
        """The share correct / total, in [0, 1]."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson score interval at 95 %: honest near 0 and 1 as well."""
        n, share, z = self.total, self.value, 1.959964
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
        half *= z / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{100 * self.value:.2f} % "
            f"[{100 * low:.2f}, {100 * high:.2f}] (n = {self.total:,})"
        )


@dataclass(frozen=True)
class RobustAccuracy(Accuracy):
    """Robust accuracy with what is needed to read it.

    ``right`` (n,) says for each example whether it withstood every attack,
    ``x_adv`` (n, ...) holds its worst point, ``attack`` the settings, and
    ``forwards`` / ``backwards`` count images passed through the model.
    """

    right: Tensor = field(repr=False)
    x_adv: Tensor = field(repr=False)
    attack: dict = field(default_factory=dict)
    forwards: int = 0
    backwards: int = 0


@dataclass
class Passes:
    """Images sent forward through a model, and gradients sent back."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def count_passes(model: nn.Module) -> Iterator[Passes]:
    """Count the images that pass through ``model`` inside the block.

    Hooks watch the model's output, so the code that runs needs no change;
    they are removed at the end. A pass with a gradient to the weights and
    one with a gradient to the input count the same.
    """
    passes = Passes()

    def back(grad: Tensor) -> None:
        passes.backwards += len(grad)

    def forward(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        passes.forwards += len(output)
        if output.requires_grad:
            output.register_hook(back)

    handle = model.register_forward_hook(forward)
    try:
        yield passes
    finally:
        handle.remove()


def check_eval_mode(model: nn.Module) -> None:
    """Raise ``ValueError`` where a layer of ``model`` is in training mode."""
    if any(module.training for module in model.modules()):
        raise ValueError(
            "the model is in training mode, where dropout and batch norm "
            "make its answers depend on chance and on the batch; call "
            "model.eval() first"
        )


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch_size: int = BATCH) -> Tensor:
    """Logits for ``x`` (n, ...), computed in batches; shape (n, classes).

    Raises ``ValueError`` for unsound images or a model in training mode.
    """
    check_eval_mode(model)
    check_images(x)
    logits = torch.cat([model(part) for part in x.split(batch_size)])
    check_logits(logits, len(x))
    return logits


def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Whether class y wins; a tie counts as an error. Shape (n,), bool."""
    logits = predict(model, x)
    check_labels(y, len(x), logits.shape[1])
    return margin(logits, y) > 0


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> Accuracy:
    """Standard accuracy of ``model`` on ``x`` (n, ...) and ``y`` (n,).

    Raises ``ValueError`` for a model in training mode or unsound input.
    """
    return Accuracy(int(_right(model, x, y).sum()), len(x))


def robust_accuracy(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 20,
    step_size: float | None = None,
    schedule: str = "cosine",
    restarts: int = 1,
    losses: tuple[str, ...] = ("ce", "margin"),
    generator: torch.Generator | None = None,
    batch_size: int = BATCH,
) -> RobustAccuracy:
    """Share of examples that survive PGD, worst case for each example.

    An example counts as robust if it is classified correctly and so is
    every point that the attacks looked at. PGD runs once for each loss in
    ``losses``; an example that has fallen is not attacked again, so weak
    models are cheap. The default, 20 shrinking steps on each of two losses,
    reads lower than 100 equal steps; it is still an upper bound. Arguments
    as in :func:`lib.attacks.pgd`.

    Returns a :class:`RobustAccuracy`. Raises ``ValueError`` for a model in
    training mode or unsound input.
    """
    check_norm(norm)
    check_eps(eps)
    if not losses:
        raise ValueError("losses is empty: nothing would attack the model")
    with count_passes(model) as passes:
        right = _right(model, x, y)
        x_adv = x.detach().clone()
        for loss in losses if eps > 0 else ():
            standing = right.nonzero()[:, 0]
            # splitting an empty tensor gives one empty part
            for rows in standing.split(batch_size) if len(standing) else ():
                worst = pgd(
                    model, x[rows], y[rows], eps=eps, norm=norm, steps=steps,
                    step_size=step_size, schedule=schedule, restarts=restarts,
                    loss=loss,
                    generator=generator,
                )  # fmt: skip
                x_adv[rows] = worst
                right[rows] = _right(model, worst, y[rows])
    attack = {
        "name": "pgd", "norm": norm, "eps": eps, "steps": steps,
        "step_size": step_sizes(eps, steps, step_size, schedule)[0],
        "schedule": schedule,
        "restarts": restarts, "losses": list(losses), "random_start": True,
    }  # fmt: skip
    return RobustAccuracy(
        int(right.sum()), len(x), right, x_adv, attack,
        passes.forwards, passes.backwards,
    )  # fmt: skip


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

    After Carlini et al. (2019) and Athalye et al. (2018): softmax outputs,
    zero gradients, gradients cut off at the pixel bounds, noise that beats
    the gradient, few steps that beat many, and a ball as large as the box
    that still leaves the model standing. Raises ``ValueError`` for a model
    in training mode or unsound input; everything else is a
    :class:`Finding`.
    """
    logits = predict(model, x)
    check_labels(y, len(x), logits.shape[1])
    right = margin(logits, y) > 0
    if not bool(right.any()):
        raise ValueError("the model classifies no example correctly")
    x, y, logits = x[right], y[right], logits[right]

    def survivors(eps: float, steps: int) -> float:
        return robust_accuracy(
            model, x, y, eps=eps, norm=norm, steps=steps, losses=("ce",),
            generator=generator,
        ).value  # fmt: skip

    many, few = survivors(eps, steps), survivors(eps, max(1, steps // 10))
    noise = random_in_ball(x, eps, norm, generator)
    noisy = float(_right(model, (x + noise).clamp(0, 1), y).float().mean())
    whole_box = 1.0 if norm == "linf" else math.sqrt(x[0].numel())
    at_most = survivors(whole_box, max(steps, 40))
    # two accuracies on the same n examples: allow two standard errors
    slack = 1 / math.sqrt(len(x))
    return [
        _softmax_check(logits),
        _zero_gradient_check(model, x, y),
        _clamp_check(model, x, y),
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
