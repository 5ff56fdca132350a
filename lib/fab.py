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

from ._checks import check_images, check_labels, check_logits
from .attacks import (
    Model,
    _at_least_float32,
    _gradient,
    _into_box,
    margin,
)
from .norms import _per_row, check_eps, check_norm, length, project

BIAS = 0.1  # at most this share of a step is taken from the clean image
BEYOND = 1.05  # steps go a little beyond the plane
BACK = 0.9  # after a success: back to this share of the way from the image
NEWTON = 40  # steps at most; few need ten, hardly any twenty
ROUNDING = 10  # units in the last place that a sum may be off


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
            is found, or where there is no gradient at all.
        norm: ``"linf"`` or ``"l2"``.
        steps: gradients for an example that resists to the end.

    Returns:
        For each example a point inside ball and box (shaped like ``x``)
        and its margin (n,): an error (margin <= 0), or the nearest error
        outside the ball drawn back onto it, or ``x`` where there is none.

    Raises:
        ValueError: for unsound images, labels or settings.
    """
    _check(x, y, target, eps, norm, steps)
    x = x.detach()
    gap = _margins(model, x, y)
    nearest, least = x.clone(), torch.where(gap > 0, torch.inf, 0).to(gap)
    row = (gap > 0).nonzero()[:, 0]
    point = x[row]
    for _ in range(steps):
        if len(row) == 0:
            break
        clean, label = x[row], y[row]
        behind, slope = _boundary(model, point, label, target[row])
        point = _step(point, clean, behind, slope, norm)
        left = _margins(model, point, label)
        fooled = left <= 0
        away = length((point - clean).to(gap), norm)
        new = fooled & (away < least[row])
        for kept, seen in ((nearest, point), (least, away), (gap, left)):
            kept[row[new]] = seen[new]
        back = clean + BACK * (point - clean)
        stay = (least[row] > eps) & slope.flatten(1).any(dim=1)
        point = torch.where(_per_row(fooled, x), back, point)[stay]
        row = row[stay]
    row = (least > eps).nonzero()[:, 0]
    if len(row) > 0:
        clean = x[row]
        drawn = _into_box(clean, project(nearest[row] - clean, eps, norm))
        nearest[row], gap[row] = drawn, _margins(model, drawn, y[row])
    return nearest, gap


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
    moved += pull * (clean + BEYOND * there)
    return moved.clamp_(0, 1).to(point.dtype)


def onto_plane(x: Tensor, slope: Tensor, gap: Tensor, norm: str) -> Tensor:
    """The shortest step inside the box that gains ``gap`` along ``slope``.

    The smallest ``d`` in ``norm`` with ``<slope, d> = gap`` and ``x + d``
    in [0, 1]; where the box is too small for that, the step that gains
    most. ``x`` and ``slope`` have shape (n, ...), ``gap`` (n,); returns a
    tensor shaped like ``x``.

    The step is ``t`` times the steepest direction, cut to the box, for the
    ``t`` that gains enough. The gain grows with ``t`` and bends downwards,
    as one pixel after the other reaches its limit; so Newton's method from
    below never goes too far, and ends on the piece that holds ``t``.
    """
    kind = torch.finfo(slope.dtype)
    flat, w = x.flatten(1), slope.flatten(1)
    w = w * gap.sign()[:, None]  # climb or descend
    way = w.sign() if norm == "linf" else w
    room = torch.where(way > 0, 1 - flat, flat)  # to the side it moves to
    speed, rate = way.abs(), (way * w).abs()
    limit = room / speed.clamp_min(kind.tiny)
    t, enough = torch.zeros_like(gap), (1 - ROUNDING * kind.eps) * gap.abs()
    for _ in range(NEWTON):
        gained = (rate * torch.minimum(t[:, None], limit)).sum(dim=1)
        steep = (rate * (t[:, None] < limit)).sum(dim=1)
        short = (gained < enough) & (steep > 0)
        if not bool(short.any()):
            break
        t = torch.where(short, t + (gap.abs() - gained) / steep, t)
    return (way * torch.minimum(t[:, None], limit)).view_as(x)


def _boundary(
    model: Model, x: Tensor, y: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """How far the target's logit is behind, and the gradient of its lead.

    Both divided by the largest entry of the gradient, which leaves the
    plane where it is: squares of tiny entries would underflow.
    """
    rows = torch.arange(len(x), device=x.device)

    def lead(logits: Tensor) -> Tensor:
        return logits[rows, target] - logits[rows, y]

    logits, grad = _gradient(model, x, target, lambda z, _: lead(z).sum())
    gap = torch.nan_to_num(-lead(_at_least_float32(logits)))
    grad = torch.nan_to_num(_at_least_float32(grad))
    peak = grad.flatten(1).abs().amax(dim=1)
    peak = peak.clamp_min(torch.finfo(grad.dtype).tiny)
    return gap / peak, grad / _per_row(peak, grad)


def _margins(model: Model, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model(x)
    check_logits(logits, len(x))
    check_labels(y, len(x), logits.shape[1])
    return margin(_at_least_float32(logits), y)


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
