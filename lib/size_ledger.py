"""Verdicts on the view of adversarial training as augmentation.

Lines C2, C4 to C9 and Figures 1 and 6 of "Paper versus ours", judged from
the committed records of the size sweeps; and what the sweep on CIFAR-10 says
at the full size on lines whose MNIST half has records of its own (C3, C10,
Figure 7). Too few seeds (``SEEDS``) leave a data set open, with what was
measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from . import confusion, results, sizes, stats
from .plots import NORM_NAMES
from .size_plots import called
from .size_readings import Ball, SizeGrid
from .stats import Mean

SEEDS = {"mnist": 5, "cifar10": 3}
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
SMALL = 1_000  # "tens to a few hundred" images, and the next size
STRONGEST = ("linf", 8 / 255)  # for which C3 names a size of the drop
# training on altered digits, and how a sentence calls it
RIVALS = {"random": "random noise", "fgsm": "FGSM", "pgd": "PGD"}
WEAK = 0.02  # a gain of photographs that still counts as weak
CHAPTER, PHOTOGRAPHS = "augmentation", "photographs"


Held = bool | str | None  # holds or not, "partly", None for open


@dataclass(frozen=True)
class Finding:
    """What the sweeps say on a line of the ledger.

    ``mnist`` and ``cifar10`` say whether the criterion holds there.
    """

    ours: str
    mnist: Held
    cifar10: Held = None


# one data set's words and whether it holds; where there are two lines of
# words, the first says what matters
Half = tuple[str, Held]


def both(*halves: str) -> str:
    """The words on two data sets, what matters first where any says it."""
    if not any("\n" in half for half in halves):
        return ". ".join(halves)
    split = [half.partition("\n") for half in halves]
    rests = [rest for _, _, rest in split if rest]
    return "; ".join(brief for brief, _, _ in split) + "\n" + ". ".join(rests)


def _grid(dataset: str) -> SizeGrid:
    return SizeGrid.load(f"sizes-{dataset}")


def _complete(dataset: str) -> bool:
    """Whether every network of a sweep has its record."""
    folder = f"sizes-{dataset}"
    asked = {name for name, _ in sizes.points(sizes.SWEEPS[folder]["full"])}
    return asked <= {Path(name).name for name in results.names(folder)}


def _on_photographs(judge: Callable[[SizeGrid], Half]) -> Half:
    """What ``judge`` finds on CIFAR-10; open while the sweep is going on."""
    if not _complete("cifar10"):
        return f"{TITLES['cifar10']}: the sweep is not complete", None
    return judge(_grid("cifar10"))


def _enough(grid: SizeGrid, held: Held) -> Held:
    return held if grid.sweep.seeds >= SEEDS[grid.sweep.dataset] else None


def _seeds(grid: SizeGrid) -> str:
    n = grid.sweep.seeds
    return f"{TITLES[grid.sweep.dataset]}, {n} seed{'s' * (n > 1)}"


def _strongest(grid: SizeGrid) -> list[Ball]:
    return [(norm, max(eps)) for norm, eps in grid.sweep.eps.items()]


def _early_and_late(
    grid: SizeGrid, ball: Ball
) -> tuple[dict[int, Mean], Mean]:
    """The gains at small sizes and at the full one."""
    gains = dict(
        zip(grid.sweep.sizes, grid.gains(grid.robust_way, ball), strict=True)
    )
    early = {n: gap for n, gap in gains.items() if n <= SMALL}
    return early, gains[grid.sweep.sizes[-1]]


def help_then_harm() -> Finding:
    """C4, C8, C9: digits are helped and then harmed, photographs harmed."""
    halves = [_digits_turn(_grid("mnist")), _on_photographs(_photographs)]
    return Finding(
        both(*(told for told, _ in halves)),
        *(held for _, held in halves),
    )


def _digits_turn(grid: SizeGrid) -> Half:
    """Help beyond noise at small sizes, harm at the full one.

    In part where the longest training takes the harm of a ball away.
    """
    told, brief, held, stays = [], [], True, True
    for ball in _strongest(grid):
        early, late = _early_and_late(grid, ball)
        best = max(early, key=lambda n: early[n].value)
        held &= any(gap.low > 0 for gap in early.values()) and late.high < 0
        told.append(
            f"{called(ball, 'mnist')}: {early[best].per_cent()} points at "
            f"{best:,} images, {late.per_cent()} at "
            f"{grid.sweep.sizes[-1]:,} ({_told(*patient(grid, ball))})"
        )
        stays &= patient(grid, ball)[1].value < 0
        words, longest = patient(grid, ball)
        brief.append(
            _turn(called(ball, "mnist"), best, early[best], late)
            + f" ({100 * longest.value:+.1f} with {words})"
        )
    ours = f"MNIST, gain in points: {'; '.join(brief)}\n{_seeds(grid)}, "
    ours += "gain of robust training: " + "; ".join(told)
    return ours, _enough(grid, held and (stays or "partly"))


def _turn(ball: str, n: int, early: Mean, late: Mean) -> str:
    """The largest gain at few images, and that with all, without noise."""
    return (
        f"{ball}: {100 * early.value:+.1f} at {n:,} images, "
        f"{100 * late.value:+.1f} with all"
    )


def patient(grid: SizeGrid, ball: Ball) -> tuple[str, Mean]:
    """The gain at the full size after the most epochs.

    With words for how many epochs and seeds.
    """
    longest = grid.sweep.ladder(grid.sweep.sizes[-1])[-1]
    words = f"{longest.word} the epochs, {longest.which}"
    return words, grid.gain_after(longest, ball)


def _told(words: str, gap: Mean) -> str:
    return f"{words}: {gap.per_cent()}"


def digits_drop(ball: Ball) -> tuple[str, Mean]:
    """:func:`patient` on MNIST."""
    return patient(_grid("mnist"), ball)


def _photographs(grid: SizeGrid) -> Half:
    """No or weak help at small sizes in any ball, harm at the full one."""
    weak = True
    for ball in grid.sweep.balls:
        early, _ = _early_and_late(grid, ball)
        weak &= all(g.low <= 0 or g.value <= WEAK for g in early.values())
    told, brief, harm = [], [], True
    for ball in _strongest(grid):
        early, late = _early_and_late(grid, ball)
        best = max(early, key=lambda n: early[n].value)
        harm &= late.high < 0
        told.append(
            f"{called(ball, 'cifar10')}: at best {early[best].per_cent()} "
            f"points with up to {SMALL:,} images, {late.per_cent()} at "
            f"{grid.sweep.sizes[-1]:,}"
        )
        brief.append(_turn(called(ball, "cifar10"), best, early[best], late))
    ours = f"{TITLES['cifar10']}: {'; '.join(brief)}\n{_seeds(grid)}: "
    return ours + "; ".join(told), _enough(grid, weak and harm)


def most_confusing() -> Finding:
    """C6, C7: the order of the losses, and what it is worth in accuracy.

    In part where the order holds and PGD is not what helps most at the
    smallest size, or does no harm at the full one.
    """
    grid = _grid("mnist")
    record = results.load("sizes-confusion")
    held, steps, _, _ = confusion.orders(record)
    best = []
    for n in grid.sweep.rival_sizes:
        gains = {
            f"{RIVALS[way]} in {NORM_NAMES[ball[0]]}": grid.gain(
                way, ball, n
            ).value
            for ball in grid.sweep.rival
            for way in RIVALS
        } | {"small shifts": grid.gain("shift", None, n).value}
        best.append(max(gains, key=gains.__getitem__))
    return Finding(
        f"{held} of {steps} steps of the order are beyond noise (a random "
        "point is hardly worse than none); most helpful, by number of "
        "training images: "
        + ", ".join(
            f"{way} at {n:,}"
            for way, n in zip(best, grid.sweep.rival_sizes, strict=True)
        ),
        _enough(
            grid,
            _ordered(record) and len(best) >= 4
            and (_helps_then_harms(grid, best[0]) or "partly"),
        ),
    )  # fmt: skip


def _helps_then_harms(grid: SizeGrid, best: str) -> bool:
    """Whether PGD is ``best`` where data is short, and harms with all."""
    full = grid.sweep.rival_sizes[-1]
    harms = any(grid.gain("pgd", b, full).high < 0 for b in grid.sweep.rival)
    return best.startswith(RIVALS["pgd"]) and harms


def _ordered(record: results.Record) -> bool:
    """No step of the ladder goes down beyond its noise."""
    return all(
        row["more"]["mean"] > -1.96 * row["more"]["error"]
        for row in record.values["rows"]
        if "more" in row and row["way"] != "shift"
    )


def needs_data() -> Finding:
    """C2: robust accuracy is further from its full-data value."""
    halves = [_gaps(_grid("mnist")), _on_photographs(_gaps)]
    return Finding(
        "The gap to the value with all data is larger for robust accuracy: "
        + "; ".join(told for told, _ in halves),
        *(held for _, held in halves),
    )


def _gaps(grid: SizeGrid) -> Half:
    gaps = grid.missing().values()
    asked = len(gaps)
    larger = sum(robust.value > plain.value for robust, plain in gaps)
    held = larger == asked or ("partly" if larger else False)
    return (
        f"{_seeds(grid)}, at {larger} of {asked} pairs of size and ball",
        _enough(grid, held),
    )


# --- CIFAR-10 at the full size --------------------------------------------


def photographs_drop() -> Half:
    """C3: standard accuracy falls with eps, by 5 to 15 points at 8/255.

    Partly reproduced where it falls by another size.
    """
    return _on_photographs(_drop)


def photographs_half() -> Half:
    """C10: half-half training lies between the two in both accuracies."""
    return _on_photographs(_half)


def photographs_decline() -> Half:
    """Figure 7: standard accuracy falls with eps and never rises.

    Both beyond noise: from standard training to the largest radius, and from
    one radius to the next.
    """
    return _on_photographs(_decline)


def _drop(grid: SizeGrid) -> Half:
    told, fell = [], True
    for ball in _strongest(grid):
        _, late = _early_and_late(grid, ball)
        fell &= late.high < 0
        told.append(
            f"{called(ball, 'cifar10')}: {late.per_cent()} points "
            f"({_told(*patient(grid, ball))})"
        )
    held: Held = fell
    size = -100 * _early_and_late(grid, STRONGEST)[1].value
    if not 5 <= size <= 15:
        held = fell and "partly"
        told.append(f"the size at 8/255 ({size:.2f}) is outside 5 to 15")
    brief = (
        f"{TITLES['cifar10']}, {called(STRONGEST, 'cifar10')}: {-size:.2f} "
        f"points (asked for: a fall by 5 to 15)\n{_seeds(grid)}: "
    )
    return brief + "; ".join(told), _enough(grid, held)


def _half(grid: SizeGrid) -> Half:
    full, seeds = grid.sweep.sizes[-1], grid.sweep.half_seeds
    if not seeds:
        return f"{TITLES['cifar10']}: not run", None
    held = 0
    for ball in grid.sweep.balls:
        ways: list[tuple[str, Ball | None]] = [
            ("standard", None), ("half", ball), (grid.robust_way, ball)
        ]  # fmt: skip
        clean, robust = (
            [stats.over_seeds(seen[:seeds]).value for seen in each]
            for each in (
                [grid.standard(*way, full) for way in ways],
                [
                    grid.robust(
                        *way, full, under=ball, protocol=grid.sweep.claim
                    )
                    for way in ways
                ],
            )
        )
        rising = robust[0] < robust[1] <= robust[2]
        held += clean[0] > clean[1] > clean[2] and rising
    asked = len(grid.sweep.balls)
    told = (
        f"{TITLES['cifar10']}, {seeds} seed{'s' * (seeds > 1)}: both orders "
        f"in {held} of {asked} balls"
    )
    return told, held == asked if seeds >= SEEDS["cifar10"] else None


def _decline(grid: SizeGrid) -> Half:
    full = grid.sweep.sizes[-1]
    rises, falls, told = 0, 0, []
    for norm, radii in grid.sweep.eps.items():
        ways: list[tuple[str, Ball | None]] = [("standard", None)]
        ways += [(grid.robust_way, (norm, eps)) for eps in radii]
        seen = [grid.standard(*way, full) for way in ways]
        for before, after in pairwise(seen):
            rises += stats.paired(after, before).low > 0
        falls += stats.paired(seen[-1], seen[0]).high < 0
        means = [stats.over_seeds(each).value for each in seen]
        told.append(
            f"{NORM_NAMES[norm]}: "
            + " → ".join(f"{100 * value:.2f}" for value in means)
        )
    return (
        f"{_seeds(grid)}, {'; '.join(told)} %; rises beyond noise: {rises}; "
        f"falls to the largest radius beyond noise: {falls} of {len(told)}",
        _enough(grid, not rises and falls == len(told)),
    )


def figures() -> Finding:
    """Figures 1 and 6: what C4 is judged by, told there."""
    return replace(help_then_harm(), ours="see C4")


FINDINGS = {
    "C2": needs_data,
    "C4, C8, C9": help_then_harm,
    "C6, C7": most_confusing,
    "Fig. 1, 6": figures,
}
