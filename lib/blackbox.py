"""Attacks that ask for answers only: Square, and patches before it.

Random search without gradients (Andriushchenko et al., 2020). Each query
repaints one square window and stays if the margin shrinks; the windows grow
smaller. Where this beats an attack with gradients, the gradients are masked.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._checks import check_images, check_labels
from .attacks import Model, _into_box, margin
from .norms import check_eps, check_norm, steepest

FIRST_WINDOW = 0.8  # share of the image that the first windows cover
# The window's area halves at these shares of the queries (section 5).
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
PATCHES = (14, 9, 7)  # how many patches lie side by side: 2 to 4 of 28
FEW = 25  # queries that are patches before any other, at least a fifth


def search(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    queries: int = 300,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Square, in l2 from the best of a few patches; see :func:`square`.

    Square's own start in l2 spreads eps over the whole image. A model that
    ignores small changes of a pixel, as one trained in an l-infinity ball
    may, answers a few hundred such queries with silence.
    """
    settings: dict[str, Any] = {
        "eps": eps, "norm": norm, "generator": generator,
    }  # fmt: skip
    if norm != "l2":
        return square(model, x, y, queries=queries, **settings)
    few = min(queries, max(FEW, queries // 5))
    worst, lowest = patches(
        model, x, y, eps=eps, queries=few, generator=generator
    )
    row = (lowest > 0).nonzero()[:, 0]
    if few < queries and len(row) > 0:
        point, gap = square(
            model, x[row], y[row], queries=queries - few, start=worst[row],
            **settings,
        )  # fmt: skip
        lower = gap < lowest[row]
        worst[row[lower]], lowest[row[lower]] = point[lower], gap[lower]
    return worst, lowest


@torch.no_grad()
def patches(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    queries: int = 25,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """One small bright or dark patch of l2 length eps, in many places.

    Arguments and results are those of :func:`square`; each query is a new
    patch on the clean image, the same for the whole batch.
    """
    check_images(x)
    check_labels(y, len(x))
    check_eps(eps)
    shape, x = x.shape[1:], _flat(x)
    chance: dict[str, Any] = {"generator": generator, "device": x.device}
    worst, lowest = x.clone(), _unseen(x)
    row = torch.arange(len(x), device=x.device)
    for _ in range(queries):
        many = PATCHES[int(torch.randint(len(PATCHES), (), **chance))]
        sides = [max(1, size // many) for size in x.shape[2:]]
        rows, columns = (
            _window(side, size, chance)
            for side, size in zip(sides, x.shape[2:], strict=True)
        )
        delta = torch.zeros_like(x[:1])
        delta[..., rows, columns] = _signs((1, x.shape[1], 1, 1), x, chance)
        trial = _into_box(x[row], _fit(delta, eps, "l2").expand_as(x[row]))
        _keep(model, trial.view(-1, *shape), y, row, worst, lowest)
        row = row[lowest[row] > 0]
        if len(row) == 0:
            break
    return worst.view(-1, *shape), lowest


@torch.no_grad()
def square(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    queries: int = 300,
    generator: torch.Generator | None = None,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Random search over squares in the eps-ball around each image.

    Args:
        model: maps images (n, ...) to logits (n, classes).
        x: clean images in [0, 1]; (n, c, h, w), or (n, ...), which is
            searched as one row of pixels. y: true labels (n,).
        eps: radius of the ball. norm: ``"linf"`` or ``"l2"``.
        queries: images shown to the model for an example that resists.
        generator: source of the windows, on the device of ``x``. One
            sequence of windows serves the whole batch, so an example's
            result does not depend on the others.
        start: the first points; default stripes, or in l2 a grid of bumps.

    Returns:
        For each example the point with the smallest margin seen (shaped
        like ``x``) and that margin (n,), which is <= 0 where it is fooled.

    Raises:
        ValueError: for unsound images, labels or settings.
    """
    check_images(x)
    check_labels(y, len(x))
    check_norm(norm)
    check_eps(eps)
    if queries < 1:
        raise ValueError(f"queries must be at least 1, not {queries}")
    shape, x = x.shape[1:], _flat(x)
    chance: dict[str, Any] = {"generator": generator, "device": x.device}
    if start is not None:
        worst = start.detach().view_as(x).clone()
    else:
        first = (_stripes if norm == "linf" else _grid)(x, eps, chance)
        worst = _into_box(x, _fit(first.expand_as(x), eps, norm))
    lowest = _unseen(x)
    row, trial = torch.arange(len(x), device=x.device), worst
    for query in range(1, queries + 1):
        _keep(model, trial.view(-1, *shape), y, row, worst, lowest)
        row = row[lowest[row] > 0]
        if len(row) == 0 or query == queries:
            break
        area = window_share(query / queries)
        delta = worst[row] - x[row]
        if norm == "linf":
            delta = _repaint(delta, x[row], eps, area, chance)
        else:
            delta = _move_mass(delta, eps, area, chance)
        trial = _into_box(x[row], _fit(delta, eps, norm))
    return worst.view(-1, *shape), lowest


def _flat(x: Tensor) -> Tensor:
    """As images (n, c, h, w); anything else becomes one row of pixels."""
    return x.detach() if x.dim() == 4 else x.detach().flatten(1)[:, None, None]


def _unseen(x: Tensor) -> Tensor:
    kind = torch.promote_types(x.dtype, torch.float32)
    return x.new_full((len(x),), torch.inf, dtype=kind)


def _keep(
    model: Model, trial: Tensor, y: Tensor, row: Tensor, worst: Tensor,
    lowest: Tensor,
) -> None:  # fmt: skip
    """Look at the trials of these rows; the ones that lower it stay."""
    gap = margin(model(trial).to(lowest.dtype), y[row])
    lower = gap < lowest[row]
    worst[row[lower]] = trial[lower].view(-1, *worst.shape[1:])
    lowest[row[lower]] = gap[lower]


def window_share(done: float) -> float:
    """Share of the image that a window covers after a share of the run."""
    return FIRST_WINDOW / 2 ** sum(done > at for at in HALVINGS)


def _fit(delta: Tensor, eps: float, norm: str) -> Tensor:
    """Fill the ball: cut to +-eps, or scale each row to length eps."""
    if norm == "linf":
        return delta.clamp(-eps, eps)
    return eps * steepest(delta, "l2")


def _signs(
    shape: tuple[int, ...], like: Tensor, chance: dict[str, Any]
) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, **chance).to(like.dtype) - 1


def _window(side: int, total: int, chance: dict[str, Any]) -> slice:
    """``side`` neighbours (at most all) somewhere in ``total``."""
    side = min(side, total)
    begin = int(torch.randint(0, total - side + 1, (), **chance))
    return slice(begin, begin + side)


def _stripes(x: Tensor, eps: float, chance: dict[str, Any]) -> Tensor:
    """Vertical stripes of +-eps, the start for l-infinity."""
    return eps * _signs((1, x.shape[1], 1, x.shape[3]), x, chance)


def _repaint(
    delta: Tensor, x: Tensor, eps: float, area: float, chance: dict[str, Any]
) -> Tensor:
    """One window, one sign for each channel (section 3.3)."""
    _, channels, height, width = delta.shape
    side = max(1, round(math.sqrt(area * height * width)))
    rows, columns = _window(side, height, chance), _window(side, width, chance)
    sign = _signs((1, channels, 1, 1), x, chance)
    delta[:, :, rows, columns] = eps * sign
    return delta


def _hill(height: int, width: int, like: Tensor) -> Tensor:
    """A bump of length 1 that falls off from the middle (equation 2)."""
    up = torch.arange(height, device=like.device) - height // 2
    across = torch.arange(width, device=like.device) - width // 2
    ring = torch.maximum(up.abs()[:, None], across.abs()[None, :])
    reach = max(height, width) // 2 + 1
    layers = 1 / (1 + torch.arange(reach, device=like.device)) ** 2
    hill = layers.flip(0).cumsum(0).flip(0)[ring].to(like.dtype)
    return hill / hill.norm()


def _bump(
    height: int, width: int, like: Tensor, chance: dict[str, Any]
) -> Tensor:
    """A hill beside a hollow, lying or standing by chance; length 1."""
    lying = bool(torch.randint(0, 2, (), **chance))
    if height == 1 or (lying and width > 1):
        return _bump_rows(width, height, like).T
    return _bump_rows(height, width, like)


def _bump_rows(height: int, width: int, like: Tensor) -> Tensor:
    top = height // 2
    parts = [_hill(height - top, width, like)]
    if top:
        parts.insert(0, -_hill(top, width, like))
    both = torch.cat(parts)
    return both / both.norm()


def _grid(x: Tensor, _eps: float, chance: dict[str, Any]) -> Tensor:
    """Bumps side by side over the image, the start for l2."""
    _, channels, height, width = x.shape
    delta = torch.zeros_like(x[:1])
    sides = [max(1, size // 5) for size in (height, width)]
    for top in range(0, height, sides[0]):
        for left in range(0, width, sides[1]):
            part = delta[:, :, top : top + sides[0], left : left + sides[1]]
            sign = _signs((1, channels, 1, 1), x, chance)
            part += sign * _bump(part.shape[2], part.shape[3], x, chance)
    return delta


def _move_mass(
    delta: Tensor, eps: float, area: float, chance: dict[str, Any]
) -> Tensor:
    """Empty one window and spend its length in another (section 3.4)."""
    _, channels, height, width = delta.shape
    side = max(3, round(math.sqrt(area * height * width)))
    spots = [
        (..., _window(side, height, chance), _window(side, width, chance))
        for _ in range(2)
    ]
    taken = torch.zeros_like(delta[:1, :1], dtype=torch.bool)
    for spot in spots:
        taken[spot] = True
    inside = (delta * taken).square().sum(dim=(2, 3), keepdim=True)
    unspent = eps**2 - delta.square().sum(dim=(1, 2, 3), keepdim=True)
    budget = (unspent.clamp_min(0) / channels + inside).sqrt()
    old = delta[spots[0]]
    size = old.norm(dim=(2, 3), keepdim=True).clamp_min(1e-12)
    sign = _signs((1, channels, 1, 1), delta, chance)
    bump = _bump(old.shape[2], old.shape[3], delta, chance)
    new = sign * bump + old / size
    size = new.norm(dim=(2, 3), keepdim=True).clamp_min(1e-12)
    delta[spots[1]] = 0
    delta[spots[0]] = budget * new / size
    return delta
