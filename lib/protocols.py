"""Protocols: which attacks a robust accuracy rests on, stage by stage.

Each stage attacks examples that still stand: ``choose`` picks their rows
from the margins so far (``gap``) and those of the race that runs now
(``near``), ``attack`` returns worst points and margins. A race spends
passes where they pay: a few steps for all, more for the third that came
nearest to being fooled, many for the nearest third of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .apgd import apgd
from .attacks import margin, pgd
from .blackbox import search, square
from .counting import predict
from .fab import fab

Found = tuple[Tensor, Tensor]  # worst points (n, ...), their margins (n,)
THIRD = 1 / 3
NINE = (1, 2, 3, 4, 5, 6, 7, 8, 9)


class Stage:
    """What every stage has; the kinds below make fields of some of these.

    ``targets``: ranks among the wrong classes, each of which is attacked in
    turn. ``starts``: how often an example is attacked where there are no
    targets. ``start``: from the ``"clean"`` image, ``"random"`` points of
    the ball, ``"on"`` from where the leg before has brought it, or the
    ``"worst"`` point that any stage has found.
    """

    targets: tuple[int, ...] = ()
    starts: int = 1
    start: str = "clean"
    # each kind's own methods; not fields, as this class is no dataclass
    choose: Callable[[Tensor, Tensor, bool], Tensor]
    attack: Callable[..., Found]


@dataclass(frozen=True)
class Pgd(Stage):
    """Plain PGD (:func:`lib.attacks.pgd`) on all that stand.

    Its random starts are drawn batch by batch, so that the result depends
    on the batch size as well as on the generator.
    """

    loss: str = "ce"
    steps: int = 20
    schedule: str = "cosine"
    step_size: float | None = None
    restarts: int = 1

    def choose(self, gap: Tensor, near: Tensor, masked: bool) -> Tensor:
        return (gap > 0).nonzero()[:, 0]

    def attack(
        self, model: nn.Module, x: Tensor, y: Tensor, *, eps: float,
        norm: str, generator: torch.Generator, **_: object,
    ) -> Found:  # fmt: skip
        worst = pgd(
            model, x, y, eps=eps, norm=norm, steps=self.steps,
            step_size=self.step_size, schedule=self.schedule,
            restarts=self.restarts, loss=self.loss, generator=generator,
        )  # fmt: skip
        kind = torch.promote_types(x.dtype, torch.float32)
        return worst, margin(predict(model, worst, len(x)).to(kind), y)


@dataclass(frozen=True)
class Climb(Stage):
    """Auto-PGD (:func:`lib.apgd.apgd`), one leg of a race.

    On the ``share`` of examples nearest to being fooled, which is decided
    by all that was seen; or, with ``start="on"``, by the leg before, from
    where that has brought them. A race starts at the ``"clean"`` image or
    at ``starts`` ``"random"`` points of the ball. ``targets`` drive to the
    wrong classes with the k-th largest logits of the clean image, each in
    turn, instead of climbing ``loss``. The first steps are ``first * eps``
    long.
    """

    steps: int
    loss: str = "margin"
    start: str = "clean"
    share: float = 1.0
    targets: tuple[int, ...] = ()
    starts: int = 1
    first: float = 2.0

    def choose(self, gap: Tensor, near: Tensor, masked: bool) -> Tensor:
        if self.start != "on":
            return _nearest(gap, gap > 0, self.share)
        return _nearest(near, (gap > 0) & near.isfinite(), self.share)

    def attack(
        self, model: nn.Module, x: Tensor, y: Tensor, *, eps: float,
        norm: str, start: Tensor, target: Tensor | None, **_: object,
    ) -> Found:  # fmt: skip
        return apgd(
            model, x, y, eps=eps, norm=norm, steps=self.steps,
            loss=self.loss, step_size=self.first * eps, start=start,
            target=target,
        )  # fmt: skip


@dataclass(frozen=True)
class Walk(Stage):
    """FAB (:func:`lib.fab.fab`) to each of the ``targets``, as for a climb.

    On the ``share`` of examples nearest to being fooled; ``masked``: only
    where an earlier probe has beaten the gradients.
    """

    steps: int
    share: float = 1.0
    targets: tuple[int, ...] = (1,)
    masked: bool = False

    def choose(self, gap: Tensor, near: Tensor, masked: bool) -> Tensor:
        allowed = (gap > 0) & (masked or not self.masked)
        return _nearest(gap, allowed, self.share)

    def attack(
        self, model: nn.Module, x: Tensor, y: Tensor, *, eps: float,
        norm: str, target: Tensor, **_: object,
    ) -> Found:  # fmt: skip
        return fab(
            model, x, y, target=target, eps=eps, norm=norm, steps=self.steps
        )


@dataclass(frozen=True)
class Probe(Stage):
    """Queries (:func:`lib.blackbox.search`) on a ``share`` of the standing.

    At least ``least`` examples, spread evenly over the margins: whether
    gradients are masked is asked here, so their order counts for nothing.
    ``masked``: only where an earlier probe has beaten the gradients.
    """

    queries: int
    share: float = 1.0
    least: int = 0
    masked: bool = False

    def choose(self, gap: Tensor, near: Tensor, masked: bool) -> Tensor:
        allowed = (gap > 0) & (masked or not self.masked)
        rows = allowed.nonzero()[:, 0]
        count = max(
            math.ceil(self.share * len(rows)), min(self.least, len(rows))
        )
        order = rows[gap[rows].argsort(stable=True)]
        picks = torch.arange(count, device=gap.device) * len(rows)
        return order[picks // max(1, count)].sort().values

    def attack(
        self, model: nn.Module, x: Tensor, y: Tensor, *, eps: float,
        norm: str, seed: int, **_: object,
    ) -> Found:  # fmt: skip
        same = torch.Generator(x.device).manual_seed(seed)
        return search(
            model, x, y, eps=eps, norm=norm, queries=self.queries,
            generator=same,
        )  # fmt: skip


@dataclass(frozen=True)
class Polish(Stage):
    """Square (:func:`lib.blackbox.square`) from the worst points so far.

    On the ``share`` of examples nearest to being fooled. Gradients have
    brought these close; ``queries`` repaint one window after the other and
    keep what brings them closer, for which no slope is needed. Whether
    gradients are masked is asked by a :class:`Probe`, which starts afresh.
    """

    queries: int
    share: float = 1.0
    start: str = "worst"

    def choose(self, gap: Tensor, near: Tensor, masked: bool) -> Tensor:
        return _nearest(gap, gap > 0, self.share)

    def attack(
        self, model: nn.Module, x: Tensor, y: Tensor, *, eps: float,
        norm: str, start: Tensor, seed: int, **_: object,
    ) -> Found:  # fmt: skip
        same = torch.Generator(x.device).manual_seed(seed)
        return square(
            model, x, y, eps=eps, norm=norm, queries=self.queries,
            generator=same, start=start,
        )  # fmt: skip


def _nearest(gap: Tensor, allowed: Tensor, share: float) -> Tensor:
    """Rows of the ``share`` of the allowed with the smallest margins."""
    rows = allowed.nonzero()[:, 0]
    order = gap[rows].argsort(stable=True)
    return rows[order[: math.ceil(share * len(rows))].sort().values]


@dataclass(frozen=True)
class Protocol:
    """Stages under a name; ``diagnose`` looks for red flags as well."""

    name: str
    stages: tuple[Stage, ...]
    diagnose: bool = False


def plain_pgd(
    *losses: str,
    steps: int,
    schedule: str = "cosine",
    step_size: float | None = None,
    restarts: int = 1,
) -> Protocol:
    """PGD on each of ``losses`` in turn, as the first records were made.

    Raises ``ValueError`` where no loss is named.
    """
    if not losses:
        raise ValueError("losses is empty: nothing would attack the model")
    stages = tuple(
        Pgd(loss, steps, schedule, step_size, restarts) for loss in losses
    )
    return Protocol(f"pgd-{steps}", stages)


def race(
    *losses: str,
    steps: tuple[int, ...] = (10, 20, 70),
    start: str = "clean",
    share: float = 1.0,
    targets: tuple[int, ...] = (),
    starts: int = 1,
) -> tuple[Climb, ...]:
    """Legs of ``steps`` steps: the first for a ``share`` of the standing,
    each that follows for the nearest third of the one before.

    ``losses`` names the loss of each leg; the last one holds for the rest.
    ``targets`` and ``starts`` are those of the first leg.
    """
    first, *others = [
        (count, losses[min(k, len(losses) - 1)])
        for k, count in enumerate(steps)
    ]
    return (
        Climb(*first, start, share, targets, starts),
        *(Climb(*leg, "on", THIRD, first=1.0) for leg in others),
    )


# Chosen on training images: reads lower than 40 equal steps for all of
# them, at less than a third of the passes.
QUICK = Protocol("quick", race("ce", "margin", steps=(6, 12)))
# Chosen on training images. What falls after the first races falls to a
# target among the three likeliest wrong classes, and here all take part; or
# to one more start, and there it is among the nearest ninth. In l-infinity a
# few of the very nearest fall to no start, but to windows painted over their
# worst points. Where the probe has beaten the gradients, walks along the
# boundary find most of what climbs have missed, and queries need no gradient
# at all.
STRONG = Protocol(
    "strong",
    (
        *race("ce", "margin", "ce"),
        *race("dlr", "margin", steps=(10, 20), start="random", share=THIRD),
        *race(
            "margin", steps=(10, 20, 40), start="random", targets=(1, 2, 3)
        ),
        *race(
            "ce", "margin", steps=(20, 40), start="random", share=THIRD**2,
            starts=9,
        ),
        Polish(500, share=THIRD**4),
        Probe(25, share=0.1, least=32),
        Walk(50, masked=True),
        Walk(100, share=THIRD, targets=NINE, masked=True),
        Probe(1_000, masked=True),
    ),
    diagnose=True,
)  # fmt: skip
PROTOCOLS = {each.name: each for each in (QUICK, STRONG)}


def named(protocol: str | Protocol) -> Protocol:
    """The protocol of that name; a protocol is returned as it is.

    Raises ``ValueError`` for an unknown name.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"no protocol named {protocol!r}; there are "
            f"{', '.join(PROTOCOLS)}, or give a Protocol"
        )
    return PROTOCOLS[protocol]
