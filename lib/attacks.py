"""Attacks: the inner maximisation of the robust objective (equation 2).

``fgsm`` takes one step, ``pgd`` many, both inside an l-infinity or l2 ball
and inside the pixel box [0, 1]. ``linear_attack`` is the exact optimum for
linear models, which is what the tests hold the other two against.

Nothing here clamps inside the graph: since torch 2.14 the gradient of
``clamp(x, lo, hi)`` is zero at ``lo`` and ``hi``, and most MNIST pixels are
exactly 0, so an attack that clamps where autograd watches goes blind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_images, check_labels, check_logits
from ._memory import in_parts, keep_freed_memory
from .norms import check_eps, check_norm, project, random_in_ball, steepest

Model = Callable[[Tensor], Tensor]
BATCH = 250  # on a CPU; larger ones need more memory and gain little


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Logit of class ``y`` minus the best other logit, shape (n,).

    ``logits`` (n, classes), ``y`` (n,). Positive: class y wins; zero (a tie)
    or negative: it does not. Not-a-number counts as lost.
    """
    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
    return torch.nan_to_num(own - others, nan=-torch.inf)


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="sum")


def _margin_loss(logits: Tensor, y: Tensor) -> Tensor:
    return -margin(logits, y).sum()


LOSSES = {"ce": _cross_entropy, "margin": _margin_loss}


def pgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 40,
    step_size: float | None = None,
    schedule: str = "constant",
    random_start: bool = True,
    restarts: int = 1,
    target: Tensor | None = None,
    loss: str = "ce",
    keep: str = "worst",
    precision: str = "float32",
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient ascent on the loss (Madry et al., 2018).

    Repeats ``x_adv <- project(x_adv + step_size * steepest(grad))``, where
    ``project`` returns to the eps-ball around ``x`` and then to [0, 1]:
    the loop is :func:`_climb`.

    Args:
        model: maps images (n, ...) to logits (n, classes); is used in the
            mode it is in. Parameters, their ``.grad`` and the mode are
            left as they are. ``torch.compile(model)`` is such a model too.
        x: clean images, floats in [0, 1], shape (n, ...).
        y: true labels, integers, shape (n,).
        eps: radius of the ball, in pixel units ([0, 1]).
        norm: ``"linf"`` or ``"l2"``.
        steps: gradient steps per restart.
        step_size: length of a step; default ``2.5 * eps / steps``, or
            ``2 * eps`` for the first step of the cosine schedule.
        schedule: ``"constant"``, or ``"cosine"``: steps shrink from
            ``step_size`` to a hundredth of it, which finds more than the
            same number of equal steps.
        random_start: begin at a uniform point of the ball, not at ``x``.
        restarts: independent runs; without random start one is enough.
        target: class numbers (n,) to drive the images to; default: away
            from ``y``.
        loss: ``"ce"`` (cross-entropy) or ``"margin"`` (best other logit
            minus own logit).
        keep: ``"worst"`` returns, for each example, the worst point seen
            over all steps and restarts; ``"last"`` the last iterate, which
            saves one forward pass (used in training).
        precision: ``"float32"`` leaves the arithmetic to the model and to
            a ``torch.autocast`` of the caller; ``"bfloat16"`` lets autocast
            run the model's passes in half precision. It costs about half
            where the processor has such units, and finds less (robust
            accuracy reads about a point higher): for training and drafts,
            not for claims.
        batch_size: images that pass the model at once. Default: at most
            ``BATCH`` on a CPU; all of them on other devices and where a
            layer is in training mode, since batch norm then mixes them.
            In evaluation mode the answer depends on it by rounding only,
            and parts that are too large for the memory are halved.
        generator: source of the random starts, on the device of ``x``;
            all images draw before any is attacked.

    Returns:
        ``x_adv``, detached, shaped like ``x``: inside the ball and the box.

    Raises:
        ValueError: for unsound images, labels or settings.
        MemoryError: says what to change where halving is not enough.
    """
    goal = _check_attack(x, y, eps, norm, steps, restarts, target)
    objective = _objective(loss, targeted=target is not None)
    if keep not in ("worst", "last"):
        raise ValueError(f'keep must be "worst" or "last", not {keep!r}')
    sizes = step_sizes(eps, steps, step_size, schedule)
    autocast = _autocast(precision, x.device)
    parts = _parts(model, x, batch_size)
    if x.device.type == "cpu":
        keep_freed_memory()
    x = x.detach()
    x_adv = torch.empty_like(x)
    starts = [x] * restarts
    if random_start:
        starts = [random_in_ball(x, eps, norm, generator) for _ in starts]
        starts = [_into_box(x, project(each, eps, norm)) for each in starts]

    def attack(part: slice) -> None:
        clean, best = _in_layout_of(model, x[part]), None
        if keep == "worst":
            best = _Worst(clean, goal[part], targeted=target is not None)
        for start in starts:
            with autocast:
                x_adv[part] = _climb(
                    model, clean, _in_layout_of(model, start[part]),
                    goal[part], objective, sizes, eps, norm, best,
                )  # fmt: skip

    in_parts(attack, parts, halve=not _mixes(model))
    return x_adv


def _climb(
    model: Model,
    x: Tensor,
    x_adv: Tensor,
    goal: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    sizes: list[float],
    eps: float,
    norm: str,
    best: _Worst | None,
) -> Tensor:
    """The attack itself: from ``x_adv``, one step of each of the ``sizes``.

    Returns the last iterate; or, where ``best`` is given, the worst point
    it has ever been shown, these and those of earlier restarts.
    """
    for step, size in enumerate(sizes):
        logits, grad = _gradient(
            model, x_adv, goal, objective, check=step == 0
        )
        if best is not None:
            best.see(x_adv, logits)
        delta = (x_adv - x).add_(steepest(grad, norm).mul_(size))
        x_adv = _into_box(x, project(delta, eps, norm))
    if best is None:
        return x_adv
    with torch.no_grad():
        best.see(x_adv, model(x_adv))
    return best.x_adv


def step_sizes(
    eps: float, steps: int, step_size: float | None, schedule: str
) -> list[float]:
    """Length of each of the ``steps`` steps; see :func:`pgd`."""
    if step_size is not None and not 0 <= step_size < math.inf:
        raise ValueError(
            f"step_size must be a finite number >= 0, not {step_size}"
        )
    if schedule == "constant":
        return [2.5 * eps / steps if step_size is None else step_size] * steps
    if schedule != "cosine":
        raise ValueError(
            f'schedule must be "constant" or "cosine", not {schedule!r}'
        )
    first = 2 * eps if step_size is None else step_size
    turns = [math.pi * i / max(1, steps - 1) for i in range(steps)]
    return [first * (0.01 + 0.99 * (1 + math.cos(t)) / 2) for t in turns]


def fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    step_size: float | None = None,
    random_start: bool = False,
    target: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One gradient step of length ``step_size`` (default ``eps``).

    The fast gradient sign method of Goodfellow et al. (2015) for
    ``norm="linf"``; for ``"l2"`` the step goes along the gradient itself.
    Arguments, result and errors as in :func:`pgd`.
    """
    return pgd(
        model, x, y, eps=eps, norm=norm, steps=1,
        step_size=eps if step_size is None else step_size,
        random_start=random_start, target=target, keep="last",
        generator=generator,
    )  # fmt: skip


def input_gradient(
    model: Model, x: Tensor, y: Tensor, *, loss: str = "ce", box: bool = True
) -> Tensor:
    """Gradient of each image's loss with respect to its pixels.

    ``x`` (n, ...) in [0, 1], or any numbers where ``box`` is false; ``y``
    (n,). Returns a tensor shaped like ``x``. The loss is summed over the
    batch, so a row does not depend on the rest.
    """
    check_images(x, box=box)
    check_labels(y, len(x))
    objective = _objective(loss, targeted=False)
    whole = [slice(0, len(x))]
    return torch.cat(
        in_parts(
            lambda part: _gradient(model, x[part], y[part], objective)[1],
            whole, halve=not _mixes(model),
        )
    )  # fmt: skip


@torch.no_grad()
def linear_attack(
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    box: bool = True,
) -> Tensor:
    """The exact worst case for a linear model ``logits = W x + b``.

    Against the pair (y, j) only the direction ``w = W_j - W_y`` counts:
    the optimum moves each pixel along ``w`` as far as ball and box allow,
    and the best j is the one that leaves the smallest margin. No gradient
    steps, no local optimum.

    Args:
        weight: shape (classes, features). bias: shape (classes,).
        x: shape (n, ...) with ``features`` entries a row.
        y: true labels, shape (n,).
        eps: radius of the ball. norm: ``"linf"`` or ``"l2"``.
        box: keep the pixels in [0, 1]. Without it ``x`` may hold any
            numbers (for the toy model).

    Returns:
        The worst images, shaped like ``x``. Raises ``ValueError`` for
        unsound arguments.
    """
    check_images(x, box=box)
    check_eps(eps)
    check_norm(norm)
    flat = x.flatten(1)
    if weight.dim() != 2 or len(weight) < 2 or bias.shape != weight.shape[:1]:
        raise ValueError(
            "weight must have shape (classes, features) with at least two "
            f"classes and bias (classes,); got {tuple(weight.shape)} and "
            f"{tuple(bias.shape)}"
        )
    if weight.shape[1] != flat.shape[1]:
        raise ValueError(
            f"weight has {weight.shape[1]} features, an image has "
            f"{flat.shape[1]} entries"
        )
    check_labels(y, len(x), len(weight))
    best = _Worst(flat, y, targeted=False)
    for j in range(len(weight)):
        w = weight[j] - weight[y]
        delta = _linear_step(w, flat, eps, norm, box)
        x_adv = (flat + delta).clamp(0, 1) if box else flat + delta
        best.see(x_adv, F.linear(x_adv, weight, bias))
    return best.x_adv.view_as(x)


def _linear_step(
    w: Tensor, x: Tensor, eps: float, norm: str, box: bool
) -> Tensor:
    """Maximise ``w . delta`` over ball and box, row by row (both (n, d))."""
    if norm == "linf":
        delta = eps * w.sign()
        return torch.minimum(torch.maximum(delta, -x), 1 - x) if box else delta
    if not box:
        return eps * steepest(w, "l2")
    # With the box the optimum is clip(t * w) for the largest t whose length
    # fits the ball (Karush-Kuhn-Tucker). The length grows with t: bisect.
    w = steepest(w, "l2")
    low, high = torch.full_like(x[:, :1], 0.0), torch.full_like(x[:, :1], 1.0)

    def moved(t: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(t * w, -x), 1 - x)

    for _ in range(60):  # widen until the ball or the whole box is filled
        fits = moved(high).norm(dim=1, keepdim=True) < eps
        high = torch.where(fits, 2 * high, high)
    for _ in range(200):
        middle = (low + high) / 2
        fits = moved(middle).norm(dim=1, keepdim=True) <= eps
        low = torch.where(fits, middle, low)
        high = torch.where(fits, high, middle)
    return moved(low)


def _check_attack(
    x: Tensor,
    y: Tensor,
    eps: float,
    norm: str,
    steps: int,
    restarts: int,
    target: Tensor | None,
) -> Tensor:
    """Check the arguments; return the labels that the loss looks at."""
    check_images(x)
    check_labels(y, len(x))
    check_norm(norm)
    check_eps(eps)
    for name, value in (("steps", steps), ("restarts", restarts)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if target is None:
        return y
    check_labels(target, len(x))
    if bool((target == y).any()):
        raise ValueError("target must differ from the true label everywhere")
    return target


def _autocast(
    precision: str, device: torch.device
) -> AbstractContextManager[object]:
    """Half precision for the passes of the model, or nothing at all."""
    if precision == "float32":
        return nullcontext()
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    raise ValueError(
        f'precision must be "float32" or "bfloat16", not {precision!r}'
    )


def _parts(model: Model, x: Tensor, batch_size: int | None) -> list[slice]:
    """Rows that are attacked together: equal parts, in their order."""
    if batch_size is None:
        small = x.device.type == "cpu" and not _mixes(model)
        batch_size = BATCH if small else len(x)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    count = -(-len(x) // batch_size)
    ends = [len(x) * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def _mixes(model: Model) -> bool:
    """Whether an answer may depend on the batch: a layer in training mode."""
    layers = model.modules() if isinstance(model, nn.Module) else ()
    return any(layer.training for layer in layers)


def _in_layout_of(model: Model, x: Tensor) -> Tensor:
    """``x`` as the model's convolutions hold their weights.

    Otherwise a model in ``channels_last`` has its images and their
    gradient rearranged at every step.
    """
    last = {"memory_format": torch.channels_last}
    if x.dim() == 4 and isinstance(model, nn.Module):
        for p in model.parameters():
            if p.dim() == 4 and not p.is_contiguous():
                return x.contiguous(**last) if p.is_contiguous(**last) else x
    return x


def _objective(
    loss: str, targeted: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """What the attack climbs: the loss, or minus the target's loss."""
    if loss not in LOSSES:
        raise ValueError(f'loss must be "ce" or "margin", not {loss!r}')
    chosen = LOSSES[loss]
    return (lambda z, t: -chosen(z, t)) if targeted else chosen


def _gradient(
    model: Model,
    x: Tensor,
    y: Tensor,
    objective: Callable[..., Any],
    check: bool = True,
) -> tuple[Tensor, Tensor]:
    """Logits and the gradient of the objective to the input only.

    ``autograd.grad`` for ``x`` alone computes no weight gradient and leaves
    every ``.grad`` untouched. ``check`` compares the labels with the number
    of classes, which waits for the device: once an attack is enough.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        check_logits(logits, len(x))
        if check:
            check_labels(y, len(x), logits.shape[1])
        total = objective(_at_least_float32(logits), y)
        (grad,) = torch.autograd.grad(total, x)
    return logits.detach(), grad


def _into_box(x: Tensor, delta: Tensor) -> Tensor:
    """``x + delta`` with pixels cut to [0, 1]; never leaves the ball."""
    return (x + delta).clamp_(0, 1)


class _Worst:
    """For each example, the worst point seen so far.

    Untargeted: the smallest margin of the true class. Targeted: the
    largest margin of the target class.
    """

    def __init__(self, x: Tensor, goal: Tensor, targeted: bool) -> None:
        self.x_adv = x.clone()
        self.goal = goal
        self.sign = -1.0 if targeted else 1.0
        self.score: Tensor | None = None

    def see(self, x_adv: Tensor, logits: Tensor) -> None:
        logits = _at_least_float32(logits.detach())
        score = self.sign * margin(logits, self.goal)
        if self.score is None:
            self.score = torch.full_like(score, torch.inf)
        worse = score < self.score
        self.score = torch.where(worse, score, self.score)
        rows = worse.view(-1, *[1] * (x_adv.dim() - 1))
        self.x_adv = torch.where(rows, x_adv.detach(), self.x_adv)


def _at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits as float32; the rest as they are."""
    return logits.float() if logits.element_size() < 4 else logits
