"""An attack that asks for answers only: Square (Andriushchenko et al., 2020).

Random search without gradients. Each query repaints one square window and
stays if the margin shrinks; the windows grow smaller. Where this beats an
attack with gradients, the gradients are masked.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._checks import check_images, check_labels
from .attacks import Model, _into_box, margin
from .norms import check_eps, check_norm, steepest

FIRST_WINDOW = 0.8  # share of the image that the first windows cover
# The window's area halves at these shares of the queries (section 5).
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


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
    shape = x.shape[1:]
    x = x.detach() if x.dim() == 4 else x.detach().flatten(1)[:, None, None]
    chance = {"generator": generator, "device": x.device}
    first = _stripes(x, eps, chance) if norm == "linf" else _grid(x, chance)
    worst = _into_box(x, _fit(first.expand_as(x), eps, norm))
    kind = torch.promote_types(x.dtype, torch.float32)
    lowest = x.new_full((len(x),), torch.inf, dtype=kind)
    row, trial = torch.arange(len(x), device=x.device), worst
    for query in range(1, queries + 1):
        gap = margin(model(trial.view(-1, *shape)).to(kind), y[row])
        lower = (gap < lowest[row]) | torch.isneginf(gap)
        worst[row[lower]], lowest[row[lower]] = trial[lower], gap[lower]
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


def window_share(done: float) -> float:
    """Share of the image that a window covers after a share of the run."""
    return FIRST_WINDOW / 2 ** sum(done > at for at in HALVINGS)


def _fit(delta: Tensor, eps: float, norm: str) -> Tensor:
    """Fill the ball: cut to +-eps, or scale each row to length eps."""
    if norm == "linf":
        return delta.clamp(-eps, eps)
    return eps * steepest(delta, "l2")


def _signs(shape: tuple[int, ...], like: Tensor, chance: dict) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, **chance).to(like.dtype) - 1


def _window(side: int, total: int, chance: dict) -> slice:
    """``side`` neighbours (at most all) somewhere in ``total``."""
    side = min(side, total)
    begin = int(torch.randint(0, total - side + 1, (), **chance))
    return slice(begin, begin + side)


def _stripes(x: Tensor, eps: float, chance: dict) -> Tensor:
    """Vertical stripes of +-eps, the start for l-infinity."""
    return eps * _signs((1, x.shape[1], 1, x.shape[3]), x, chance)


def _repaint(
    delta: Tensor, x: Tensor, eps: float, area: float, chance: dict
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


def _bump(height: int, width: int, like: Tensor, chance: dict) -> Tensor:
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


def _grid(x: Tensor, chance: dict) -> Tensor:
    """Bumps side by side over the image, the start for l2."""
    _, channels, height, width = x.shape
    delta = torch.zeros_like(x[:1])
    sides = [max(1, size // 5) for size in (height, width)]
    for top in range(0, height, sides[0]):
        for left in range(0, width, sides[1]):
            part = delta[:, :, top : top + sides[0], left : left + sides[1]]
            sign = _signs((1, channels, 1, 1), x, chance)
            part += sign * _bump(*part.shape[2:], x, chance)
    return delta


def _move_mass(delta: Tensor, eps: float, area: float, chance: dict) -> Tensor:
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
    new = sign * _bump(*old.shape[2:], delta, chance) + old / size
    size = new.norm(dim=(2, 3), keepdim=True).clamp_min(1e-12)
    delta[spots[1]] = 0
    delta[spots[0]] = budget * new / size
    return delta
