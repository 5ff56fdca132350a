"""The geometry of the perturbation balls (the set Delta of section 2).

A perturbation ``delta`` has shape (n, ...): one row per example, any shape
behind it. ``norm="linf"`` bounds its largest absolute entry by ``eps``,
``norm="l2"`` its Euclidean length.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

NORMS = ("linf", "l2")


def check_norm(norm: str) -> None:
    """Raise ``ValueError`` unless ``norm`` is one of ``NORMS``."""
    if norm not in NORMS:
        raise ValueError(f'norm must be "linf" or "l2", not {norm!r}')


def check_eps(eps: float) -> None:
    """Raise ``ValueError`` unless ``eps`` is a finite number >= 0."""
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps must be a finite number >= 0, not {eps!r}")


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (n,) to (n, 1, ..., 1) so that it multiplies ``like``."""
    return values.view(-1, *[1] * (like.dim() - 1))


def length(delta: Tensor, norm: str) -> Tensor:
    """Length of every row of ``delta`` (n, ...), a tensor of shape (n,)."""
    check_norm(norm)
    rows = delta.flatten(1)
    if norm == "linf":
        return rows.abs().amax(dim=1)
    return torch.linalg.vector_norm(rows, dim=1)


def project(delta: Tensor, eps: float, norm: str) -> Tensor:
    """The point of the eps-ball nearest to each row of ``delta`` (n, ...).

    For l-infinity every entry is cut at +-eps; for l2 a row longer than
    eps is scaled back to length eps.
    """
    check_norm(norm)
    if norm == "linf":
        return delta.clamp(-eps, eps)
    # tiny: a row of zeros stays a row of zeros instead of becoming 0/0
    tiny = torch.finfo(delta.dtype).tiny
    factor = (eps / length(delta, norm).clamp_min(tiny)).clamp_max(1.0)
    return delta * _per_row(factor, delta)


def steepest(grad: Tensor, norm: str) -> Tensor:
    """The unit-length direction in which the linearised loss grows most.

    ``grad`` (n, ...) is the gradient of the loss; among all directions of
    length 1 in ``norm`` the sign of the gradient is the best for l-infinity
    and the gradient divided by its length for l2. A zero gradient gives a
    zero step, and so do its entries that are not a number.
    """
    check_norm(norm)
    if norm == "linf":
        return grad.sign()
    grad = torch.nan_to_num(grad)  # as sign() does: NaN gives a zero step
    # divide by the largest entry first: squares of tiny entries underflow
    tiny = torch.finfo(grad.dtype).tiny
    peak = grad.flatten(1).abs().amax(dim=1).clamp_min(tiny)
    grad /= _per_row(peak, grad)  # nan_to_num has made it our own
    size = length(grad, norm).clamp_min(tiny)
    return grad.div_(_per_row(size, grad))


def random_in_ball(
    x: Tensor, eps: float, norm: str, generator: torch.Generator | None = None
) -> Tensor:
    """Uniform draws from the eps-ball, one row for each row of ``x``.

    Returns a tensor shaped like ``x``. The pixel box is not respected here;
    whoever adds the draw to an image clamps afterwards. ``generator`` must
    live on the device of ``x``.
    """
    check_norm(norm)
    check_eps(eps)
    options: dict[str, Any] = {
        "generator": generator, "device": x.device, "dtype": x.dtype,
    }  # fmt: skip
    if norm == "linf":
        return (2 * torch.rand(x.shape, **options) - 1) * eps
    # direction from a Gaussian, radius from U^(1/dim): uniform in volume
    dim = x[0].numel()
    direction = steepest(torch.randn(x.shape, **options), "l2")
    radius = eps * torch.rand(len(x), **options) ** (1 / dim)
    return direction * _per_row(radius, x)
