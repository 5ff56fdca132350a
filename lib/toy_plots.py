"""Figures of the toy chapters, in the book's common style.

Every function takes data and returns a figure for ``page.figure``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import plots
from .page import INK

# The toy's rules have their own colours in the book; "standard" and "linf"
# are for networks and rules that were trained so.
COLORS = {**plots.COLORS, "ink": INK}


@dataclass(frozen=True)
class Line:
    """An exact curve: ``color`` is a key of ``COLORS``."""

    x: Sequence[float]
    y: Sequence[float]
    label: str
    color: str
    style: str = "-"


@dataclass(frozen=True)
class Points:
    """Measured values with optional intervals (low, high)."""

    x: Sequence[float]
    y: Sequence[float]
    label: str
    color: str
    marker: str = "o"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def chart(
    items: Sequence[Line | Points],
    *,
    x_label: str,
    y_label: str,
    at: dict[str, float] | None = None,
    x_scale: str = "linear",
    y_scale: str = "linear",
    x_lim: tuple[float, float] | None = None,
    y_lim: tuple[float, float] | None = None,
    ax: Axes | None = None,
    legend: str | None = "best",
) -> Figure:
    """Exact curves and measured points in one panel; returns the figure.

    ``at`` draws named upright lines; ``legend`` is its place, "above" the
    panel included, None for no legend. Values are drawn as they come (no
    percentages).
    """
    if ax is None:
        _, (ax,) = plots.axes()
    with plots.styled():
        for name, place in (at or {}).items():
            ax.axvline(place, color=INK, lw=1, ls=":")
            ax.annotate(
                name,
                (place, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -3),
                textcoords="offset points",
                va="top",
                color=INK,
                fontsize=11,
            )
        for item in items:
            _draw(ax, item)
        ax.set(xlabel=x_label, ylabel=y_label, xscale=x_scale, yscale=y_scale)
        if x_lim:
            ax.set_xlim(*x_lim)
        if y_lim:
            ax.set_ylim(*y_lim)
        if legend not in (None, "above"):
            # the places are matplotlib's own words
            ax.legend(loc=legend)  # type: ignore[call-overload]
    if legend == "above":
        plots.legend_above(plots.figure_of(ax), ax)
    return plots.figure_of(ax)


def _draw(ax: Axes, item: Line | Points) -> None:
    color = COLORS[item.color]
    if isinstance(item, Line):
        ax.plot(item.x, item.y, item.style, color=color, label=item.label)
        return
    bars = None
    if item.low is not None and item.high is not None:
        y = np.asarray(item.y)
        # an interval around a count of 0 or all may end just short of it
        bars = np.maximum([y - item.low, np.asarray(item.high) - y], 0)
    ax.errorbar(
        item.x,
        item.y,
        bars,
        fmt=item.marker,
        color=color,
        ecolor=color,
        elinewidth=1.3,
        capsize=2.5,
        label=item.label,
        zorder=4,
    )


def cloud(
    points: dict[str, tuple[np.ndarray, np.ndarray]],
    bound: Line,
    frontier: Line,
    *,
    x_lim: tuple[float, float],
) -> Figure:
    """Classifiers as points in the plane of the two accuracies."""
    _, (ax,) = plots.axes(height=4.2)
    looks = {
        "tables": ("tables", "o", 7, 0.6), "linear": ("linear", "o", 7, 0.6),
        "networks": ("ink", "s", 34, 1.0),
    }  # fmt: skip
    with plots.styled():
        for kind, (color, marker, size, alpha) in looks.items():
            standard, robust = points[kind]
            standard, robust = np.asarray(standard), np.asarray(robust)
            shown = (standard >= x_lim[0]) & (robust <= 1)
            # a picture inside the drawing: thousands of shapes would make
            # the page heavy
            ax.scatter(
                standard[shown],
                robust[shown],
                s=size,
                marker=marker,
                color=COLORS[color],
                alpha=alpha,
                linewidths=0,
                label=f"{kind} ({len(standard):,})",
                rasterized=len(standard) > 500,
                zorder=2 + 2 * (size > 9),
            )
        for line in (bound, frontier):
            ax.plot(
                line.x,
                line.y,
                line.style,
                color=COLORS[line.color],
                label=line.label,
                zorder=3,
            )
        ax.set(
            xlim=x_lim,
            ylim=(-0.02, 1.02),
            xlabel="standard accuracy",
            ylabel="accuracy under attack of size 2η",
        )
    fig = plots.figure_of(ax)
    plots.legend_above(fig, ax)
    for handle in filter(None, fig.legends[0].legend_handles):
        handle.set_alpha(1)
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([30])
    return fig
