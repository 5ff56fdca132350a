"""FAB: walk along the decision boundary towards the clean image.

Croce & Hein (2020), "Minimally distorted adversarial examples with a fast
adaptive boundary attack", section 2, in its targeted form. It looks for the
*nearest* error instead of the largest loss: at every step the boundary
between the true class and a target is taken for the plane that the gradient
says it is, and the image moves onto it. Only the plane counts, not how
steep the logits are beyond it, so that FAB finds its way where a climb of
the loss is led astray by gradients that are tiny or point nowhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import check_images, check_labels
from .attacks import Model, _gradient, margin
from .norms import _per_row, check_eps, check_norm, length, project

BIAS = 0.1  # at most this share of a step is taken from the clean image
BEYOND = 1.05  # steps go a little beyond the plane
BACK = 0.9  # after a success: back to this share of the way from the image


def fab(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    target: Tensor,
    eps: float,
    norm: str = "linf",
    steps: int = 50,
) -> tuple[Tensor, Tensor]:
    """Search the error nearest to each image, on the side of ``target``.

    Args:
        model: maps images (n, ...) to logits (n, classes); nothing of it
            is changed.
        x: clean images in [0, 1], shape (n, ...). y: true labels (n,).
        target: class numbers (n,), other than ``y``: which boundary is
            walked along.
        eps: radius of the ball; an example leaves when an error inside it
            is found. norm: ``"linf"`` or ``"l2"``.
        steps: gradients for an example that resists to the end.

    Returns:
        For each example a point inside ball and box (shaped like ``x``):
        an error where one was found, else the nearest error outside the
        ball drawn back onto it, or ``x`` where there is none at all. With
        it the margins (n,), <= 0 where the example is fooled.

    Raises:
        ValueError: for unsound images, labels or settings.
    """
    _check(x, y, target, eps, norm, steps)
    x = x.detach()
    nearest = x.clone()
    least = torch.full_like(_sizes(x, x, norm), torch.inf)
    row, point = torch.arange(len(x), device=x.device), x
    for step in range(steps):
        clean, label, goal = x[row], y[row], target[row]
        gap, slope = _boundary(model, point, label, goal, check=step == 0)
        point = _step(point, clean, gap, slope, norm)
        with torch.no_grad():
            fooled = margin(model(point), label) <= 0
        away = _sizes(point, clean, norm)
        closer = fooled & (away < least[row])
        nearest[row[closer]] = point[closer]
        least[row[closer]] = away[closer]
        point = torch.where(
            _per_row(fooled, x), clean + BACK * (point - clean), point
        )
        stay = least[row] > eps
        row, point = row[stay], point[stay]
        if len(row) == 0:
            break
    x_adv = (x + project(nearest - x, eps, norm)).clamp(0, 1)
    with torch.no_grad():
        return x_adv, margin(model(x_adv), y)


def _step(
    point: Tensor, clean: Tensor, gap: Tensor, slope: Tensor, norm: str
) -> Tensor:
    """The next point: onto the plane, with a pull towards the clean image.

    Two steps lead onto the plane, one from the point and one from the clean
    image; their mean is weighted by how short each is (equation 9).
    """
    offset = (slope * (clean - point)).flatten(1).sum(dim=1)
    here = onto_plane(point, slope, gap, norm)
    there = onto_plane(clean, slope, gap - offset, norm)
    lengths = [length(part, norm).clamp_min(1e-8) for part in (here, there)]
    pull = (lengths[0] / (lengths[0] + lengths[1])).clamp_max(BIAS)
    pull = _per_row(pull, point)
    moved = (1 - pull) * (point + BEYOND * here)
    return (moved + pull * (clean + BEYOND * there)).clamp(0, 1)


def onto_plane(x: Tensor, slope: Tensor, gap: Tensor, norm: str) -> Tensor:
    """The shortest step inside the box that gains ``gap`` along ``slope``.

    The smallest ``d`` in ``norm`` with ``<slope, d> = gap`` and ``x + d``
    in [0, 1]; where the box is too small for that, the step that gains
    most. ``x`` and ``slope`` have shape (n, ...), ``gap`` (n,); returns a
    tensor shaped like ``x``.

    The step is ``t`` times the steepest direction, cut to the box, for the
    ``t`` that gains enough. The gain grows with ``t`` and bends downwards,
    as one pixel after the other reaches its limit; so Newton's method from
    below never steps too far, and ends on the piece that holds ``t``.
    """
    flat, w = x.flatten(1), slope.flatten(1)
    w = w * gap.sign()[:, None]  # climb or descend
    peak = w.abs().amax(dim=1, keepdim=True)
    w = w / peak.clamp_min(torch.finfo(w.dtype).tiny)  # no underflow
    wanted = gap.abs() / peak[:, 0].clamp_min(torch.finfo(w.dtype).tiny)
    way = w.sign() if norm == "linf" else w
    room = torch.where(way > 0, 1 - flat, flat)  # to the side it moves to
    speed, rate = way.abs(), (way * w).abs()
    limit = room / speed.clamp_min(torch.finfo(w.dtype).tiny)
    t = torch.zeros_like(wanted)
    for _ in range(NEWTON):
        free = t[:, None] < limit
        gained = (rate * torch.minimum(t[:, None], limit)).sum(dim=1)
        slope_now = (rate * free).sum(dim=1)
        missing = wanted - gained
        more = missing / slope_now.clamp_min(1e-12)
        t = torch.where((missing > 0) & (slope_now > 0), t + more, t)
    return (way * torch.minimum(t[:, None], limit)).view_as(x)


NEWTON = 12  # steps; each leaves the exact answer on fewer pieces


def _boundary(
    model: Model, x: Tensor, y: Tensor, target: Tensor, check: bool
) -> tuple[Tensor, Tensor]:
    """How far the target's logit is behind, and the gradient of its lead."""
    rows = torch.arange(len(x), device=x.device)

    def lead(logits: Tensor, goal: Tensor) -> Tensor:
        return logits[rows, goal] - logits[rows, y]

    logits, grad = _gradient(
        model, x, target, lambda z, goal: lead(z, goal).sum(), check=check
    )
    return -lead(logits, target), torch.nan_to_num(grad)


def _sizes(point: Tensor, clean: Tensor, norm: str) -> Tensor:
    return length(point - clean, norm)


def _check(
    x: Tensor, y: Tensor, target: Tensor, eps: float, norm: str, steps: int
) -> None:
    check_images(x)
    check_norm(norm)
    check_eps(eps)
    for labels in (y, target):
        check_labels(labels, len(x))
    if bool((target == y).any()):
        raise ValueError("target must differ from the true label")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
