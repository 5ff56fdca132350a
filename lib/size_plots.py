"""Figures of the size sweep: Figures 1 and 6 of the paper and their kin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import confusion, paper, plots, stats
from .readings import counted
from .results import Record
from .size_readings import Ball, SizeGrid
from .sizes import extremes, name_of, sized
from .stats import Mean

_MARKS = ("^", "s", "D", "v")
SIZES = "training images (log scale)"
ROOM = 2.5  # points above and below the gains


def radius(ball: Ball, dataset: str) -> str:
    """A radius as the paper writes it for the data set: 0.3, or 8/255."""
    norm, eps = ball
    if dataset == "cifar10" or (dataset != "mnist" and norm == "linf"):
        return f"{255 * eps:.0f}/255"
    return f"{eps:g}"


def called(ball: Ball, dataset: str) -> str:
    """A ball in words: norm and radius."""
    return f"{plots.NORM_NAMES[ball[0]]} {radius(ball, dataset)}"


def against_size(
    grid: SizeGrid,
    read: Callable[[Ball], Sequence[Mean]],
    *,
    y_label: str,
    standard: Sequence[Mean] | None = None,
) -> Figure:
    """A panel for each norm, a curve for each radius, sizes on the x axis.

    ``read`` gives a ball's means at the sweep's sizes; ``standard`` is drawn
    in both panels. Bands are 95 % intervals over seeds.
    """
    norms = list(grid.sweep.eps)
    fig, panels = plots.axes(len(norms), width=plots.WIDE, share_y=True)
    for panel, norm in zip(panels, norms, strict=True):
        balls = [(norm, eps) for eps in grid.sweep.eps[norm]]
        curves = []
        if standard is not None:
            curves.append(_curve(grid, "standard", standard, "eps = 0"))
        for k, ball in enumerate(balls):
            curves.append(
                _curve(
                    grid, norm, read(ball),
                    f"eps = {radius(ball, grid.sweep.dataset)}",
                    tint=1 - (k + 1) / len(balls), marker=_MARKS[k],
                )
            )  # fmt: skip
        plots.lines(
            curves, ax=panel, x_scale="log", x_label=SIZES,
            y_label=y_label if norm == norms[0] else "",
            title=f"{plots.NORM_NAMES[norm]} training",
        )  # fmt: skip
    return fig


def gains(grid: SizeGrid) -> Figure:
    """Robust minus standard training in standard accuracy, paired.

    The axis holds all means, with room around; wider bands are cut.
    """
    found = {
        ball: grid.gains(grid.robust_way, ball) for ball in grid.sweep.balls
    }
    fig = against_size(
        grid, found.__getitem__, y_label="gain over standard training, points"
    )
    means = [100 * gap.value for gaps in found.values() for gap in gaps]
    for panel in fig.axes:
        panel.set_ylim(min(means) - ROOM, max(means) + ROOM)
        _zero(panel)
    return fig


def against_eps(grid: SizeGrid) -> Figure:
    """Standard accuracy at the full size against the radius of training.

    A panel for each norm: robust training, half-half training where it was
    run, and the paper's robust training where it has a value. Radii are in
    pixel units for digits and in grey levels of 255 for photographs.
    """
    sweep = grid.sweep
    unit, of = (1, "") if sweep.dataset == "mnist" else (255, ", of 255")
    full = sweep.sizes[-1]
    fig, panels = plots.axes(len(sweep.eps), width=plots.WIDE, share_y=True)
    for panel, norm in zip(panels, sweep.eps, strict=True):
        balls: list[Ball] = [(norm, eps) for eps in sweep.eps[norm]]
        x = [0.0] + [unit * eps for _, eps in balls]

        def read(way: str, inside: Sequence[Ball] = balls) -> list[Mean]:
            asked = [("standard", None), *((way, ball) for ball in inside)]
            return [stats.over_seeds(grid.standard(*w, full)) for w in asked]

        curves = [_curve(grid, norm, read(grid.robust_way), "", x)]
        if sweep.half_seeds:
            curves.append(_curve(grid, "half", read("half"), "half-half", x))
        rows = [paper.table4(sweep.dataset, *ball) for ball in balls]
        theirs = [row for row in rows if row is not None]
        if len(theirs) == len(balls):
            start = theirs[0].standard_standard
            curves.append(
                plots.Curve(
                    "paper", x,
                    [start / 100]
                    + [row.standard_robust / 100 for row in theirs],
                    f"paper {paper.RECALLED}", dashed=True,
                )
            )  # fmt: skip
        plots.lines(
            curves, ax=panel, x_label=f"eps in training{of}", legend=False,
            y_label="standard accuracy, per cent"
            if panel is panels[0] else "",
            title=f"{plots.NORM_NAMES[norm]} training",
        )  # fmt: skip
    plots.legend_above(fig, *panels)
    return fig


def patience(grid: SizeGrid) -> Figure:
    """Standard accuracy against epochs, seed 0: a panel for each size."""
    counts = sorted({each.n for each in grid.sweep.longer})
    width = 5.8 if len(counts) == 1 else plots.WIDE
    fig, panels = plots.axes(len(counts), width=width, share_y=True)
    for panel, n in zip(panels, counts, strict=True):
        steps = grid.sweep.ladder(n)
        epochs = [
            times * sized(grid.sweep, n).epochs
            for times in (1, *(each.times for each in steps))
        ]
        curves = [
            plots.Curve(
                "standard" if ball is None else ball[0], epochs,
                [grid.standard(way, ball, n)[0].value]
                + [grid.after(each, way, ball)[0].value for each in steps],
                "standard" if ball is None
                else called(ball, grid.sweep.dataset),
            )
            for way, ball in extremes(grid.sweep)
        ]  # fmt: skip
        plots.lines(
            curves, ax=panel, x_scale="log", x_label="epochs (log scale)",
            y_label="standard accuracy, per cent" if n == counts[0] else "",
            title=f"{n:,} training images", legend=False,
        )  # fmt: skip
        panel.set_xticks(epochs, [str(each) for each in epochs])
        panel.minorticks_off()
    plots.legend_above(fig, *panels)
    return fig


def one_curve(
    grid: SizeGrid, mine: Mapping[str, Record], ball: Ball, seed: int
) -> Figure:
    """Standard accuracy of one seed beside the recorded means.

    ``mine`` are the records of ``sizes.curve`` for ``ball`` and ``seed``,
    by name.
    """
    curves = []
    for way, inside, key, label in (
        ("standard", None, "standard", "standard"),
        (grid.robust_way, ball, ball[0], "robust"),
    ):
        means = [mean.value for mean in grid.curve(way, inside)]
        rerun = [
            counted(
                mine[name_of(way, inside, n, seed)].values["standard"]
            ).value
            for n in grid.sweep.sizes
        ]
        curves += [
            plots.Curve(
                key, grid.sweep.sizes, means,
                f"{label}, mean of the records", dashed=True,
            ),
            plots.Curve(key, grid.sweep.sizes, rerun, f"{label}, seed {seed}"),
        ]  # fmt: skip
    return plots.lines(
        curves, x_scale="log", x_label=SIZES,
        y_label="standard accuracy, per cent",
    )  # fmt: skip


def rivals(grid: SizeGrid) -> Figure:
    """The gains of all ways to augment, at the sizes where they compete."""
    sweep = grid.sweep
    ways = {
        "shift": ("shift", "h"), "random": ("random", "v"),
        "fgsm": ("fgsm", "P"),
    }
    fig, panels = plots.axes(len(sweep.rival), width=plots.WIDE, share_y=True)
    for panel, ball in zip(panels, sweep.rival, strict=True):
        curves = [
            _gain(
                grid, way, None if way == "shift" else ball, ways[way][0],
                confusion.NAMES[way], ways[way][1],
            )
            for way in sweep.rivals
        ]
        curves.append(
            _gain(
                grid, grid.robust_way, ball, ball[0],
                f"{confusion.NAMES['pgd']}, {plots.NORM_NAMES[ball[0]]}", None,
            )
        )
        plots.lines(
            curves, ax=panel, x_scale="log", x_label=SIZES, legend=False,
            y_label="gain over standard training, points"
            if ball == sweep.rival[0] else "",
            title=f"{plots.NORM_NAMES[ball[0]]}, eps = "
            f"{radius(ball, sweep.dataset)}",
        )  # fmt: skip
        _zero(panel)
    plots.legend_above(fig, *panels)
    return fig


def _curve(
    grid: SizeGrid, key: str, means: Sequence[Mean], label: str,
    x: Sequence[float] | None = None, **style: Any,
) -> plots.Curve:  # fmt: skip
    """Means as a curve with its band, where there is more than one seed."""
    spread = means[0].seeds > 1
    return plots.Curve(
        key, x or grid.sweep.sizes, [m.value for m in means], label,
        [m.low for m in means] if spread else None,
        [m.high for m in means] if spread else None, **style,
    )  # fmt: skip


def _gain(
    grid: SizeGrid, way: str, ball: Ball | None, key: str, label: str,
    marker: str | None,
) -> plots.Curve:  # fmt: skip
    sizes = grid.sweep.rival_sizes
    means = [grid.gain(way, ball, n) for n in sizes]
    return _curve(grid, key, means, label, sizes, marker=marker)


def _zero(panel: Axes) -> None:
    """A line at no gain."""
    panel.axhline(0, color="#888888", linewidth=1, zorder=1)
