"""Tables and sentences of the chapters on the size sweep.

The same for digits and for photographs: each function takes the
:class:`~lib.size_readings.SizeGrid` of a chapter and returns what the page
shows, made from its records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from . import confusion, models, page, paper, sizes, stats
from .evaluation import Accuracy
from .page import Html
from .size_plots import called
from .size_readings import Ball, SizeGrid
from .stats import Mean

NAMED = 6  # exceptions that a sentence names one by one
IMAGES = {"mnist": "digits", "cifar10": "photographs"}


def mark(gap: Mean) -> str:
    """``+`` or ``−`` for a gap beyond its noise, ``0`` for one within."""
    return "+" if gap.low > 0 else "−" if gap.high < 0 else "0"


def over(grid: SizeGrid) -> str:
    """What the sweep's intervals cover, for captions."""
    if grid.sweep.seeds > 1:
        return f"95 % intervals over {grid.sweep.seeds} seeds"
    return "one seed; 95 % intervals cover the test images, not other seeds"


def budget(sweep: sizes.Sweep) -> Html:
    """Epochs, batch size and learning rate at each size."""
    steps = sweep.recipe.steps
    network = models.build(sweep.recipe.model, seed=0)
    weights = sum(each.numel() for each in network.parameters())
    sized = [(n, sizes.sized(sweep, n)) for n in sweep.sizes]
    cut = any(recipe.epochs == sweep.most_epochs for _, recipe in sized)
    return page.table(
        [
            [f"{n:,}", recipe.epochs, recipe.batch_size, f"{recipe.lr:.2g}"]
            for n, recipe in sized
        ],
        numbers=range(4),
        header=["training images", "epochs", "batch", "peak rate"],
        caption="The budget at each size, the same for every eps: about "
        f"{sweep.updates:,} updates"
        + f", or {sweep.most_epochs} epochs if these are fewer" * cut
        + f". Network {sweep.recipe.model} ({weights:,} weights), "
        + (f"{steps} PGD steps" if steps > 1 else "one step (FGSM)")
        + f" of {sweep.recipe.rel_step / steps:g} eps, "
        f"{sweep.seeds} seed{'s' * (sweep.seeds > 1)}; Adam, one-cycle "
        "learning rate; eps grows from 0 over the first "
        f"{sweep.recipe.warmup:.0%} of the updates.",
    )  # fmt: skip


def cost(grid: SizeGrid) -> str:
    """What the whole sweep took, in a sentence."""
    total = grid.cost()
    passes = total["passes"]
    told = (
        f"{passes / 1e9:.2g} billion" if passes >= 1e9
        else f"{passes / 1e6:.0f} million"
    )  # fmt: skip
    made = next(iter(grid.records.values()))
    return (
        f"{total['models']} networks, {told} passes of an image to train "
        f"them; {total['training_hours']:.2g} hours of processor time for "
        f"training and {total['testing_hours']:.2g} for testing, on "
        f"{made.environment['device']}; data: "
        f"{made.data['source'].removesuffix(' from BOOK_DATA')}."
    )


def spent(grid: SizeGrid) -> Html:
    """Passes and processor seconds of one network at each size."""
    strongest = [ball for _, ball in sizes.extremes(grid.sweep) if ball]
    rows = []
    for n in grid.sweep.sizes:
        plain = grid.spent("standard", None, n)
        robust = [grid.spent(grid.robust_way, b, n) for b in strongest]
        rows.append([
            f"{n:,}",
            f"{plain['passes'] / 1e6:.2f}",
            f"{robust[0]['passes'] / 1e6:.2f}",
            f"{plain['cpu_seconds']:.0f}",
            " and ".join(f"{r['cpu_seconds']:.0f}" for r in robust),
        ])  # fmt: skip
    return page.table(
        rows,
        numbers=range(5),
        header=[
            "training images", "passes: standard", "passes: robust",
            "seconds: standard", "seconds: robust",
        ],
        caption="What training one network took (claim C1): passes of an "
        "image, forwards and backwards, in millions, and processor seconds "
        "on a shared machine; robust: "
        + " and ".join(called(ball, grid.sweep.dataset) for ball in strongest)
        + ".",
    )  # fmt: skip


def gains(grid: SizeGrid) -> Html:
    """Gain of robust over standard training, at each size and radius."""
    sweep = grid.sweep
    columns = [grid.gains(grid.robust_way, ball) for ball in sweep.balls]
    return page.table(
        [
            [f"{n:,}"]
            + [f"{100 * g[k].value:+.2f} ({mark(g[k])})" for g in columns]
            for k, n in enumerate(sweep.sizes)
        ],
        numbers=range(len(sweep.balls) + 1),
        header=["n"] + [called(ball, sweep.dataset) for ball in sweep.balls],
        caption="Gain of robust over standard training in standard "
        "accuracy, points, with n training images. In brackets, where the "
        f"interval lies ({over(grid)}): + above 0, − below, 0 around it.",
    )


def crossings(grid: SizeGrid) -> Html:
    """The size at which robust training stops to help, for each radius."""
    rows = []
    for ball in grid.sweep.balls:
        cross = grid.crossing(ball)
        rows.append([
            called(ball, grid.sweep.dataset),
            f"{cross.middle:,.0f}" if cross.every else "–",
            f"{cross.low:,.0f} to {cross.high:,.0f}"
            if cross.every and cross.low else "–",
            f"{len(cross.sizes)} of {cross.seeds}", cross.always, cross.never,
        ])  # fmt: skip
    return page.table(
        rows,
        numbers=range(1, 6),
        header=[
            "ball", "zero at n", "95 % interval", "cross", "still gain",
            "never gain",
        ],
        caption="The size of the training set at which robust training "
        "stops to help (geometric mean, given where every seed crosses), and "
        "how many seeds cross, still gain, or never gain.",
    )  # fmt: skip


def most_helpful(grid: SizeGrid, ball: Ball) -> str:
    """Which alteration helps most at each size, and how far it is ahead."""
    told = []
    for n in grid.sweep.rival_sizes:
        seen = {
            way: grid.standard(way, None if way == "shift" else ball, n)
            for way in (*grid.sweep.rivals, grid.robust_way)
        }
        first, second, *_ = sorted(
            seen, reverse=True, key=lambda way: stats.over_seeds(
                seen[way]
            ).value
        )  # fmt: skip
        ahead = stats.paired(seen[first], seen[second])
        told.append(
            f"{confusion.NAMES[first]} at {n:,} "
            f"({'beyond' if ahead.low > 0 else 'within'} noise ahead of "
            f"{confusion.NAMES[second]})"
        )
    return (
        f"{called(ball, grid.sweep.dataset)}, what helps most: "
        f"{', '.join(told)} {IMAGES[grid.sweep.dataset]}."
    )


def help_and_harm(grid: SizeGrid, norm: str) -> str:
    """Where the largest radius of ``norm`` helps and harms, in words."""
    ball = (norm, max(grid.sweep.eps[norm]))
    gaps = grid.gains(grid.robust_way, ball)
    helps = [
        f"{n:,}"
        for n, gap in zip(grid.sweep.sizes, gaps, strict=True)
        if gap.low > 0
    ]
    harm = "is" if gaps[-1].high < 0 else "is not"
    where = _listed(helps) if helps else "no size"
    return (
        f"{called(ball, grid.sweep.dataset)}: help beyond noise at {where}"
        + f" {IMAGES[grid.sweep.dataset]}" * bool(helps)
        + f"; harm at the full size {harm} "
        f"beyond noise ({gaps[-1].per_cent()} points)."
    )


def _listed(words: Sequence[str]) -> str:
    """Such as ``300, 1,000 and 3,000``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def missing(grid: SizeGrid) -> Html:
    """How far each size falls short of all the data, in both accuracies."""
    sweep, gaps = grid.sweep, grid.missing()
    *below, _ = sweep.sizes
    return page.table(
        [
            [called(ball, sweep.dataset)]
            + [
                " / ".join(f"{100 * gap.value:.1f}" for gap in gaps[ball, n])
                for n in below
            ]
            for ball in sweep.balls
        ],
        numbers=range(1, len(sweep.sizes)),
        header=["ball", *(f"{n:,}" for n in below)],
        caption="How many points short of its value with all the data, by "
        f"number of training {IMAGES[sweep.dataset]}: robust "
        "accuracy of robust training / standard accuracy of standard "
        "training.",
    )


def shares(grid: SizeGrid) -> Html:
    """What part of its full-data value each accuracy has at each size."""
    every = grid.sweep.sizes
    *below, full = every
    seen = {
        "standard": {n: grid.standard("standard", None, n) for n in every}
    } | {
        called(ball, grid.sweep.dataset): {
            n: grid.robust(grid.robust_way, ball, n, under=ball) for n in every
        }
        for ball in grid.sweep.balls
    }
    return page.table(
        [
            [name] + [f"{_share(at[n], at[full]):.0f}" for n in below]
            for name, at in seen.items()
        ],
        numbers=range(1, len(grid.sweep.sizes)),
        header=["training", *(f"{n:,}" for n in below)],
        caption="Per cent of its full-data value that an accuracy has "
        f"reached, by number of training {IMAGES[grid.sweep.dataset]}: "
        "standard accuracy of standard training, robust accuracy of robust "
        "training in its own ball.",
    )


def _share(part: list[Accuracy], whole: list[Accuracy]) -> float:
    """Per cent that one mean is of another; nan of nothing."""
    found, end = (stats.over_seeds(seen).value for seen in (part, whole))
    return 100 * found / end if end else math.nan


def missing_more(grid: SizeGrid) -> str:
    """Where robust accuracy lacks less than standard accuracy, in words.

    The pairs are named if they are few.
    """
    gaps = grid.missing()
    less = [
        f"{called(ball, grid.sweep.dataset)} at n = {n:,}"
        for (ball, n), (robust, plain) in gaps.items()
        if robust.value <= plain.value
    ]
    return (
        "In points, robust accuracy is further from its full-data value than "
        f"standard accuracy at {len(gaps) - len(less)} of {len(gaps)} pairs "
        "of ball and size"
        + (
            f"; it is not in {_listed(less)}."
            if 0 < len(less) <= NAMED
            else "."
        )
    )


def reached(grid: SizeGrid, n: int) -> str:
    """What part of their full-data values both accuracies have at ``n``."""
    full = grid.sweep.sizes[-1]

    def share(part: list[Accuracy], whole: list[Accuracy]) -> str:
        found = _share(part, whole)
        return "nothing" if math.isnan(found) else f"{found:.0f}%"

    plain = share(*(grid.standard("standard", None, k) for k in (n, full)))
    told = []
    for way, ball in sizes.extremes(grid.sweep):
        if ball is not None:
            robust = (grid.robust(way, ball, k, under=ball) for k in (n, full))
            there = called(ball, grid.sweep.dataset)
            told.append(f"{share(*robust)} in {there}")
    return (
        f"With {n:,} {IMAGES[grid.sweep.dataset]} standard training has "
        f"reached {plain} of its full-data standard accuracy, robust "
        f"training {' and '.join(told)} of its full-data robust accuracy."
    )


def drops(grid: SizeGrid) -> str:
    """The loss at the full size and the largest radii, beside the paper's."""
    told = []
    for _, ball in sizes.extremes(grid.sweep):
        row = paper.table4(grid.sweep.dataset, *ball) if ball else None
        if ball is None or row is None:
            continue
        ours = grid.gain(grid.robust_way, ball, grid.sweep.sizes[-1])
        theirs = row.standard_robust - row.standard_standard
        told.append(
            f"by {ours.per_cent()} points in "
            f"{called(ball, grid.sweep.dataset)} "
            f"(the paper's: by {theirs:.2f} {paper.RECALLED})"
        )
    return f"Robust training changes standard accuracy {' and '.join(told)}."


def softened(grid: SizeGrid) -> str:
    """What half-half batches leave of each loss beyond noise, in words."""
    full, seeds = grid.sweep.sizes[-1], grid.sweep.half_seeds
    told = []
    for ball in grid.sweep.balls:
        half, whole = (
            grid.gain(way, ball, full, seeds)
            for way in ("half", grid.robust_way)
        )
        if whole.high < 0:
            told.append(
                f"{half.per_cent()} instead of {whole.per_cent()} in "
                f"{called(ball, grid.sweep.dataset)}"
            )
    if not told:
        return "No ball costs robust training accuracy beyond noise."
    return (
        "Half-half batches where robust training loses standard accuracy "
        f"beyond noise, points of change ({seeds} seeds): "
        + "; ".join(told)
        + "."
    )


def beside_paper(grid: SizeGrid) -> str:
    """By how much the paper's robust accuracies lie above our weak attack's.

    Of networks after robust training, and after standard training.
    """
    told = []
    for way, title, column in (
        (grid.robust_way, "robust", "robust_robust"),
        ("standard", "standard", "robust_standard"),
    ):
        gaps = {}
        for ball in grid.sweep.balls:
            row = paper.table4(grid.sweep.dataset, *ball)
            weak, _ = _both(grid, way, _own(way, ball), ball)
            ours = 100 * stats.over_seeds(weak).value
            if row is not None:
                gaps[ball] = getattr(row, column) - ours
        if gaps:
            least, most = (pick(gaps, key=gaps.__getitem__)
                           for pick in (min, max))  # fmt: skip
            told.append(
                f"of {title} networks by {gaps[least]:+.1f} "
                f"({called(least, grid.sweep.dataset)}) to "
                f"{gaps[most]:+.1f} points "
                f"({called(most, grid.sweep.dataset)})"
            )
    if not told:
        return "The paper has no such balls."
    return (
        f"The paper's robust accuracies {paper.RECALLED} differ from those "
        f"under our weak attack: {', '.join(told)}."
    )


def table4_standard(grid: SizeGrid) -> Html:
    """Standard accuracy at the full size, beside the paper's Table 4."""
    sweep = grid.sweep
    full = sweep.sizes[-1]
    return _table4(
        grid,
        lambda way, ball, under: _told(grid.standard(way, ball, full)),
        "standard",
        "Standard accuracy in per cent at the full size, by training; "
        f"{_seeds(sweep)}, {sweep.n_test:,} test {IMAGES[sweep.dataset]}.",
    )


def table4_robust(grid: SizeGrid) -> Html:
    """Robust accuracy at the full size, by a weak and a strong attack."""
    sweep = grid.sweep
    means = {
        (way, ball): [
            stats.over_seeds(seen)
            for seen in _both(grid, way, _own(way, ball), ball)
        ]
        for way in _ways4(sweep)
        for ball in sweep.balls
    }
    widest = max(
        max(mean.high - mean.value, mean.value - mean.low)
        for pair in means.values()
        for mean in pair
    )
    return _table4(
        grid,
        lambda way, ball, under: " / ".join(
            f"{100 * mean.value:.1f}" for mean in means[way, under]
        ),
        "robust",
        "Robust accuracy in per cent at the row's ball, weak attack / "
        f"{sweep.claim} protocol; {_seeds(sweep)}, {sweep.n_attacked:,} test "
        f"{IMAGES[sweep.dataset]}; 95 % intervals reach at most "
        f"{100 * widest:.1f} to each side.",
    )


def weak_leaves(grid: SizeGrid) -> str:
    """By how much the weak attack reads too high, in words."""
    told = []
    for way, title in (("standard", "standard"), (grid.robust_way, "robust")):
        gaps = {
            ball: stats.paired(*_both(grid, way, _own(way, ball), ball))
            for ball in grid.sweep.balls
        }
        worst = max(gaps, key=lambda ball: gaps[ball].value)
        told.append(
            f"up to {gaps[worst].per_cent()} points too high on {title} "
            f"networks (in {called(worst, grid.sweep.dataset)})"
        )
    return f"The weak attack reads {' and '.join(told)}."


def fitted(grid: SizeGrid) -> Html:
    """How well the networks fit what they were shown, in the last epoch."""
    sweep = grid.sweep
    ways = [("standard", None)] + [
        (grid.robust_way, ball) for ball in sweep.balls
    ]
    return page.table(
        [
            [f"{n:,}"]
            + [f"{100 * grid.fit(way, ball, n):.1f}" for way, ball in ways]
            for n in sweep.sizes
        ],
        numbers=range(len(ways) + 1),
        header=["n", "standard"]
        + [called(ball, sweep.dataset) for ball in sweep.balls],
        caption="Per cent of the training images that a network gets right in "
        "its last epoch, in the form in which training shows them (in a "
        "ball: perturbed).",
    )


def patience(grid: SizeGrid) -> Html:
    """The gain of robust training after more and more epochs."""
    balls = [ball for _, ball in sizes.extremes(grid.sweep) if ball]
    rows = []
    for n in sorted({each.n for each in grid.sweep.longer}):
        epochs = sizes.sized(grid.sweep, n).epochs
        ladder = grid.sweep.ladder(n)
        seeds = max(each.seeds for each in ladder)
        rows.append([f"{n:,}", epochs, seeds] + [
            grid.gain(grid.robust_way, ball, n, seeds).per_cent()
            for ball in balls
        ])  # fmt: skip
        rows += [
            [f"{n:,}", each.times * epochs, each.seeds]
            + [grid.gain_after(each, ball).per_cent() for ball in balls]
            for each in ladder
        ]
    return page.table(
        rows,
        numbers=range(3 + len(balls)),
        header=["images", "epochs", "seeds"]
        + [called(ball, grid.sweep.dataset) for ball in balls],
        caption="Gain of robust over standard training, points, after more "
        "and more epochs; the first line of each size is the sweep's, for "
        "those seeds that were trained longer. 95 % intervals over seeds; "
        "with one seed they cover the test images, not other seeds.",
    )


def added(grid: SizeGrid) -> str:
    """What the longest training at the last size adds, seed by seed."""
    n = max(each.n for each in grid.sweep.longer)
    longest = grid.sweep.ladder(n)[-1]
    epochs = sizes.sized(grid.sweep, n).epochs
    told = [
        f"{'standard' if ball is None else called(ball, grid.sweep.dataset)} "
        f"{grid.added(longest, way, ball).per_cent()}"
        for way, ball in sizes.extremes(grid.sweep)
    ]
    return (
        f"With {n:,} images and {longest.times * epochs} epochs instead of "
        f"{epochs}, points added to standard accuracy ({longest.which}): "
        f"{', '.join(told)}."
    )


def _table4(
    grid: SizeGrid,
    read: Callable[[str, Ball | None, Ball], str],
    accuracy: str,
    caption: str,
) -> Html:
    """A row for each ball: ours by training, the paper's beside them."""
    sweep = grid.sweep
    ways = _ways4(sweep)
    return page.table(
        [
            [called(ball, sweep.dataset)]
            + [read(way, _own(way, ball), ball) for way in ways]
            + [paper.in_table4(sweep.dataset, *ball, accuracy)]
            for ball in sweep.balls
        ],
        numbers=range(1, len(ways) + 2),
        header=["ball", *ways.values(), "paper [recalled]"],
        caption=caption + " The paper's are in the order standard / half-half "
        "/ robust.",
    )


def _ways4(sweep: sizes.Sweep) -> dict[str, str]:
    """The trainings that Table 4 compares, and what they are called."""
    half = {"half": "half-half"} if sweep.half_seeds else {}
    return (
        {"standard": "standard"} | half | {sizes.robust_way(sweep): "robust"}
    )


def _own(way: str, ball: Ball) -> Ball | None:
    """The ball a network was trained in; None for standard training."""
    return None if way == "standard" else ball


def _both(
    grid: SizeGrid, way: str, ball: Ball | None, under: Ball
) -> tuple[list[Accuracy], list[Accuracy]]:
    """Robust accuracy at the full size by the weak and the strong attack."""
    full = grid.sweep.sizes[-1]
    weak, strong = (
        grid.robust(way, ball, full, under=under, protocol=name)
        for name in ("weak", grid.sweep.claim)
    )
    return weak, strong


def _told(seen: Sequence[Accuracy]) -> str:
    """Mean and half interval, in digits that the test images carry."""
    digits = 2 if seen[0].total > 1_000 else 1
    return stats.over_seeds(seen).plus_minus(digits)


def _seeds(sweep: sizes.Sweep) -> str:
    half = sweep.half_seeds
    told = f"{sweep.seeds} seed{'s' * (sweep.seeds > 1)}"
    same = half in (0, sweep.seeds)
    return told if same else f"{told} (half-half: {half})"
