"""Auto-PGD: gradient ascent that chooses its own step lengths.

Croce & Hein (2020), section 3. Long steps first look around. At growing
intervals an example whose loss has stopped growing goes back to its best
point and halves its step, and then digs. Unlike in the paper, an example
leaves as soon as it is fooled, so only the ones that resist cost passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ._checks import check_images, check_labels
from .attacks import Model, _gradient, _into_box, margin
from .norms import _per_row, check_eps, check_norm, project, steepest

MOMENTUM = 0.25  # share of the last move that the next one repeats
ENOUGH = 0.75  # share of the steps that must gain for the length to stay


def apgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 100,
    loss: str = "margin",
    step_size: float | None = None,
    start: Tensor | None = None,
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Search the eps-ball around each image until the model errs.

    Args:
        model: maps images (n, ...) to logits (n, classes); nothing of it
            is changed.
        x: clean images in [0, 1], shape (n, ...). y: true labels (n,).
        eps: radius of the ball. norm: ``"linf"`` or ``"l2"``.
        steps: gradients for an example that resists to the end.
        loss: ``"ce"``, ``"margin"`` or ``"dlr"`` (see ``LOSSES``).
        step_size: length of the first steps; default ``2 * eps``.
        start: where to begin, inside ball and box; default ``x``.
        target: class numbers (n,): climb ``logit[target] - logit[y]``
            instead of the loss.

    Returns:
        For each example the point with the smallest margin seen (shaped
        like ``x``) and that margin (n,), which is <= 0 where it is fooled.

    Raises:
        ValueError: for unsound images, labels or settings.
    """
    _check(x, y, eps, norm, steps, loss, target)
    length = 2 * eps if step_size is None else step_size
    x = x.detach()
    climb = _Climb.begin(x, y, target, x if start is None else start, length)
    worst, lowest = climb.point.clone(), climb.value.neg()
    turns, last = checkpoints(steps), 0
    climbed = LOSSES[loss] if target is None else None
    for step in range(steps):
        value, gap, grad = climb.look(model, climbed, check=step == 0)
        climb.record(gap, worst, lowest)
        climb.compare(value, grad)
        if step in turns:
            climb.reconsider(step - last)
            last = step
        climb.keep(gap > 0)
        if len(climb.row) == 0:
            return worst, lowest
        climb.move(eps, norm, MOMENTUM if step > 0 else 0.0)
    climb.record(climb.last_look(model), worst, lowest)
    return worst, lowest


def checkpoints(steps: int) -> set[int]:
    """After which steps lengths are reconsidered (section 3.2).

    At 22 % of the way, then at intervals that shrink from 22 % to 6 %.
    """
    share = gap = 22  # per cent
    found = set()
    while share < 100:
        found.add(math.ceil(share * steps / 100))
        gap = max(gap - 3, 6)
        share += gap
    return found


def _lead(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """Logit of class ``rival`` (n,) minus that of class ``y`` (n,)."""
    pair = logits.gather(1, torch.stack((rival, y), dim=1))
    return pair[:, 0] - pair[:, 1]


def _margin(logits: Tensor, y: Tensor) -> Tensor:
    """Minus the margin; the way back through autograd is a short one."""
    wrong = logits.detach().scatter(1, y[:, None], -torch.inf)
    return _lead(logits, y, wrong.argmax(dim=1))


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def _dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (equation 6): blind to the logits' scale."""
    if logits.shape[1] < 3:  # the ratio would be -1 or 1 everywhere
        return _margin(logits, y)
    top = logits.topk(3, dim=1).values
    return _margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "margin": _margin,
    "ce": _cross_entropy,
    "dlr": _dlr,
}


@dataclass
class _Climb:
    """The examples that still stand, one row of every tensor for each."""

    row: Tensor  # where the example is in the batch that was given
    x: Tensor
    y: Tensor
    goal: Tensor  # the target, or y where there is none
    point: Tensor
    before: Tensor  # the point of the step before
    grad: Tensor
    value: Tensor  # what is climbed, at the last point looked at
    best: Tensor  # the point of the highest value, its gradient, its value
    best_grad: Tensor
    best_value: Tensor
    length: Tensor
    gains: Tensor  # steps since the last checkpoint that gained
    mark: Tensor  # highest value at the last checkpoint; inf: just halved

    @classmethod
    def begin(
        cls, x: Tensor, y: Tensor, target: Tensor | None, start: Tensor,
        length: float,
    ) -> _Climb:  # fmt: skip
        kind = torch.promote_types(x.dtype, torch.float32)
        low = x.new_full((len(x),), -torch.inf, dtype=kind)
        return cls(
            row=torch.arange(len(x), device=x.device), x=x, y=y,
            goal=y if target is None else target,
            point=start, before=start, grad=torch.zeros_like(x), value=low,
            best=start, best_grad=torch.zeros_like(x), best_value=low,
            length=x.new_full((len(x),), length), gains=torch.zeros_like(low),
            mark=-low,
        )  # fmt: skip

    def look(
        self, model: Model, loss: Loss | None, check: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Value, margin and gradient at the point."""
        value = self.value

        def climbed(logits: Tensor, goal: Tensor) -> Tensor:
            nonlocal value
            value = loss(logits, goal) if loss else _lead(logits, self.y, goal)
            return value.sum()

        logits, grad = _gradient(
            model, self.point, self.goal, climbed, check=check
        )
        kind = self.value.dtype
        return value.detach().to(kind), margin(logits.to(kind), self.y), grad

    @torch.no_grad()
    def last_look(self, model: Model) -> Tensor:
        """The margin at the point: where no step follows, that is enough."""
        return margin(model(self.point).to(self.value.dtype), self.y)

    def record(self, gap: Tensor, worst: Tensor, lowest: Tensor) -> None:
        """Keep the points that were the worst so far, and their margins."""
        lower = (gap < lowest[self.row]).nonzero()[:, 0]
        row = self.row[lower]
        worst[row], lowest[row] = self.point[lower], gap[lower]

    def compare(self, value: Tensor, grad: Tensor) -> None:
        """Note the point that was just looked at."""
        self.gains = self.gains + (value > self.value)
        self.value, self.grad = value, grad
        better = value > self.best_value
        wide = _per_row(better, self.x)
        self.best = torch.where(wide, self.point, self.best)
        self.best_grad = torch.where(wide, grad, self.best_grad)
        self.best_value = torch.where(better, value, self.best_value)

    def reconsider(self, steps: int) -> None:
        """Halve the length of rows that gain no more; back to their best."""
        few = self.gains < ENOUGH * steps
        stuck = few | (self.best_value == self.mark)
        self.length = torch.where(stuck, self.length / 2, self.length)
        self.mark = torch.where(stuck, torch.inf, self.best_value)
        wide = _per_row(stuck, self.x)
        self.point = torch.where(wide, self.best, self.point)
        self.before = torch.where(wide, self.best, self.before)
        self.grad = torch.where(wide, self.best_grad, self.grad)
        self.gains = torch.zeros_like(self.gains)

    def keep(self, rows: Tensor) -> None:
        """Only these rows (n,) go on."""
        if not bool(rows.all()):
            for each in fields(self):
                setattr(self, each.name, getattr(self, each.name)[rows])

    def move(self, eps: float, norm: str, momentum: float) -> None:
        """A projected gradient step, blended with the move before."""
        away = self.point - self.x
        ahead = steepest(self.grad, norm).mul_(_per_row(self.length, self.x))
        move = _into_box(self.x, project(ahead.add_(away), eps, norm))
        move.sub_(self.point).mul_(1 - momentum)
        if momentum:
            move.add_((self.point - self.before).mul_(momentum))
        self.before = self.point
        self.point = _into_box(self.x, project(move.add_(away), eps, norm))


def _check(
    x: Tensor,
    y: Tensor,
    eps: float,
    norm: str,
    steps: int,
    loss: str,
    target: Tensor | None,
) -> None:
    check_images(x)
    check_labels(y, len(x))
    check_norm(norm)
    check_eps(eps)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if loss not in LOSSES:
        raise ValueError(
            f"loss must be one of {', '.join(LOSSES)}, not {loss!r}"
        )
    if target is not None:
        check_labels(target, len(x))
        if bool((target == y).any()):
            raise ValueError("target must differ from the true label")
