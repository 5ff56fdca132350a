"""Verdicts on the view of adversarial training as augmentation.

Lines C2, C4 to C9 and Figures 1 and 6 of "Paper versus ours", judged from
the committed records of the size sweep. What the paper claims at small and
at large sizes is asked of at least ``SEEDS`` seeds; with fewer a line says
what was measured and stays open.
"""

from __future__ import annotations

from . import confusion, results, stats
from .size_readings import SizeGrid

SEEDS = 5
SMALL = 1_000  # "tens to a few hundred" images, and the next size

# what was measured; whether the criterion holds, None for open; the chapter
Finding = tuple[str, bool | None, str]
CHAPTER = "augmentation"


def _grid() -> SizeGrid:
    return SizeGrid.load("sizes-mnist")


def _enough(grid: SizeGrid, held: bool) -> bool | None:
    return held if grid.sweep.seeds >= SEEDS else None


def help_then_harm() -> Finding:
    """C4, C8, C9: help beyond noise at small sizes, harm at the full one."""
    grid = _grid()
    told, held = [], True
    for norm, eps in grid.sweep.eps.items():
        ball = (norm, max(eps))
        early = {
            n: grid.gain(grid.robust_way, ball, n)
            for n in grid.sweep.sizes if n <= SMALL
        }  # fmt: skip
        best = max(early, key=lambda n: early[n].value)
        late = grid.gain(grid.robust_way, ball, grid.sweep.sizes[-1])
        held &= any(gap.low > 0 for gap in early.values()) and late.high < 0
        last = grid.sweep.twice[-1]
        longer = grid.gain_at_twice(ball, last)
        told.append(
            f"{norm} {ball[1]:g}: {early[best].per_cent()} points at "
            f"{best:,} images, {late.per_cent()} at "
            f"{grid.sweep.sizes[-1]:,} (twice the epochs, {last:,} images, "
            f"seed 0: {longer.per_cent()})"
        )
    ours = f"MNIST, gain of robust training, {grid.sweep.seeds} seeds, "
    return ours + "; ".join(told), _enough(grid, held), CHAPTER


def most_confusing() -> Finding:
    """C6, C7: the order of the losses, and what it is worth in accuracy."""
    grid = _grid()
    record = results.load("sizes-confusion")
    held, steps, _, _ = confusion.orders(record)
    by_size = []
    for n in grid.sweep.rival_sizes:
        gains = {
            f"{way} {ball[0]}": grid.gain(way, ball, n).value
            for ball in grid.sweep.rival
            for way in ("random", "fgsm", grid.robust_way)
        } | {"shift": grid.gain("shift", None, n).value}
        by_size.append(f"{max(gains, key=gains.__getitem__)} at {n:,}")
    return (
        f"{held} of {steps} steps of the order are beyond noise (a random "
        "point is hardly worse than none); most helpful: "
        + ", ".join(by_size),
        _enough(grid, _ordered(record) and len(by_size) >= 4),
        CHAPTER,
    )


def _ordered(record: results.Record) -> bool:
    """No step of the ladder goes down beyond its noise."""
    return all(
        row["more"]["mean"] > -1.96 * row["more"]["error"]
        for row in record.values["rows"]
        if "more" in row and row["way"] != "shift"
    )


def needs_data() -> Finding:
    """C2: robust accuracy is further from its full-data value."""
    grid = _grid()
    full, way = grid.sweep.sizes[-1], grid.robust_way
    larger = asked = 0
    for ball in grid.sweep.balls:
        for n in grid.sweep.sizes[:-1]:
            robust = stats.paired(
                grid.robust(way, ball, full, under=ball),
                grid.robust(way, ball, n, under=ball),
            )
            plain = stats.paired(
                grid.standard("standard", None, full),
                grid.standard("standard", None, n),
            )
            larger += robust.value > plain.value
            asked += 1
    ours = (
        "MNIST: the gap to the value with all data is larger for robust "
        f"accuracy at {larger} of {asked} pairs of size and ball"
    )
    return ours, _enough(grid, larger == asked), CHAPTER


FINDINGS = {
    "C2": needs_data,
    "C4, C8, C9": help_then_harm,
    "C6, C7": most_confusing,
    "Fig. 1, 6": help_then_harm,
}
