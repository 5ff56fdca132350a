"""The figures' common style: one colour and one marker for each family.

The colours of models are from the set of Okabe & Ito (2008), which survives
the common kinds of colour blindness and reads on white and on dark pages.
Cheap trainings and the rules of the toy have colours of their own, chosen to
differ from those and, for colour-blind eyes too, from what they are drawn
with. A marker or line style always goes with the colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch, Rectangle
from torch import Tensor

from .page import INK

COLORS = {
    "standard": "#0072B2",
    "linf": "#D55E00",
    "l2": "#009E73",
    "half": "#CC79A7",
    "random": "#56B4E9",
    "paper": "#8C8C8C",
    "bound": "#E69F00",
    # other ways to train or to augment
    "fgsm": "#6B7FF2",
    "free": "#7F875D",
    "trades": "#935B2D",
    "shift": "#B0484E",
    # the rules of the toy
    "average": "#8A4FD0",
    "x1": "#0F8290",
    "bayes": "#D81B72",
    "frontier": "#8A6D00",
    "linear": "#C766D9",
    "tables": "#6E7FA8",
}
MARKERS = {
    "standard": "o", "linf": "s", "l2": "^", "half": "D", "random": "v",
    "paper": "x", "bound": "", "fgsm": "P", "free": "*", "trades": "p",
    "shift": "h", "average": "<", "x1": ">", "bayes": "d", "frontier": "8",
    "linear": "X", "tables": ".",
}  # fmt: skip
LABELS = {
    "standard": "standard",
    "linf": "l∞-trained",
    "l2": "l2-trained",
    "half": "half-half",
    "random": "random in ball",
    "paper": "paper",
    "bound": "bound",
    "fgsm": "FGSM",
    "free": "free",
    "trades": "TRADES",
    "shift": "small shifts",
    "average": "average of weak features",
    "x1": "x1 alone",
    "bayes": "Bayes classifier",
    "frontier": "exact frontier",
    "linear": "linear rule",
    "tables": "tables",
}
WIDE = 6.1  # inches: the widest that a phone shows whole (page.LEAST)
NORM_NAMES = {"linf": "l∞", "l2": "l2"}

_STYLE: dict[Any, Any] = {
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.titlecolor": INK,
    "font.size": 12.5, "axes.titlesize": 12.5, "legend.fontsize": 11,
    "legend.handlelength": 2.6,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.8, "axes.grid": True, "grid.color": "#888888",
    "grid.alpha": 0.25, "grid.linewidth": 0.7, "legend.frameon": False,
    "lines.linewidth": 2.0, "lines.markersize": 5.5,
    "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip


def axes(
    columns: int = 1,
    *,
    width: float = 5.8,
    height: float = 3.6,
    share_y: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure with ``columns`` panels side by side, sizes in inches.

    Not tied to pyplot: nothing is shown until ``page.figure`` gets it.
    Text drawn later should take its colour from the style (the default).
    """
    with rc_context(_STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        panels = fig.subplots(1, columns, sharey=share_y, squeeze=False)[0]
        for panel in panels:  # artists made later look these up here
            panel.tick_params(colors=INK)
    return fig, list(panels)


def styled() -> AbstractContextManager[None]:
    """Context manager with the book's style, for drawing on the axes.

    ``with plots.styled(): ax.plot(...); ax.legend()``
    """
    return rc_context(_STYLE)


@dataclass(frozen=True)
class Curve:
    """One line of a plot: ``key`` of ``COLORS`` fixes colour and marker.

    ``low`` and ``high`` draw a band. Curves of one colour are told apart by
    ``dashed``, or by ``tint`` (0 the full colour, 1 the lightest that still
    reads on white and on dark) with a ``marker`` of their own.
    """

    key: str
    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: bool = False
    tint: float = 0.0
    marker: str | None = None

    @property
    def color(self) -> str:
        """The colour of ``key``, ``tint`` of the way to its lightest."""
        full = to_rgb(COLORS[self.key])
        share = 0.55 * self.tint
        r, g, b = ((1 - share) * part + share for part in full)
        return to_hex((r, g, b)).upper()  # as COLORS has them


def lines(
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    ax: Axes | None = None,
    title: str = "",
    legend: bool = True,
    x_scale: str = "linear",
) -> Figure:
    """Shares against a quantity, in per cent; returns the figure.

    Draws into the panel ``ax``, or into a new figure without one.
    ``x_scale`` is ``"linear"`` or ``"log"``.
    """
    if ax is None:
        _, (ax,) = axes()
    with styled():
        for curve in curves:
            if curve.low is not None and curve.high is not None:
                ax.fill_between(
                    curve.x,
                    [100 * v for v in curve.low],
                    [100 * v for v in curve.high],
                    color=curve.color,
                    alpha=0.2,
                    linewidth=0,
                )
            ax.plot(
                curve.x,
                [100 * v for v in curve.y],
                color=curve.color,
                label=curve.label or LABELS[curve.key],
                marker=MARKERS[curve.key]
                if curve.marker is None
                else curve.marker,
                linestyle="--" if curve.dashed else "-",
                clip_on=False,
                zorder=3,
            )
        ax.set_xlabel(x_label)
        ax.set_ylabel(y_label)
        ax.set_xscale(x_scale)
        if title:
            ax.set_title(title)
        if legend:
            ax.legend()
    return figure_of(ax)


def figure_of(ax: Axes) -> Figure:
    """The figure that the panel ``ax`` belongs to."""
    fig = ax.figure
    assert isinstance(fig, Figure), "the book has no figures in figures"
    return fig


def legend_above(fig: Figure, *panels: Axes) -> None:
    """One legend above all panels, with each label of ``panels`` once.

    In as few rows as the figure's width allows.
    """
    found: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(
            *panel.get_legend_handles_labels(), strict=True
        ):
            found.setdefault(label, handle)
    # inches of an entry in the common style: handle and gaps, then letters
    widest = 0.6 + 0.085 * max(map(len, found))
    columns = max(1, min(len(found), int(fig.get_figwidth() / widest)))
    with styled():
        fig.legend(
            list(found.values()), list(found), loc="outside upper center",
            ncols=columns,
        )  # fmt: skip


def signed_colors(values: Tensor, limit: float | None = None) -> Tensor:
    """Signed images as colours: blue positive, red negative, white zero.

    ``values`` (n, 1, h, w); returns (n, 3, h, w) in [0, 1]. ``limit`` is
    the size shown at full strength; default: each image's largest entry.
    """
    flat = values.detach().flatten(1)
    peak = flat.abs().amax(dim=1) if limit is None else limit
    peak = torch.as_tensor(peak, device=flat.device).clamp_min(1e-30)
    size = (values.detach() / peak.view(-1, 1, 1, 1)).clamp(-1, 1)
    up, down = size.clamp_min(0), (-size).clamp_min(0)
    return torch.cat([1 - up, 1 - up - down, 1 - down], dim=1)


def balls(eps: float = 0.3) -> Figure:
    """The two balls around one point of a two-pixel image, with one step.

    Shows what "steepest" means: the same gradient, followed as far as the
    l-infinity ball and the l2 ball allow, and the box that cuts both.
    """
    fig, panels = axes(2, height=3.3, share_y=True)
    x, grad = (0.62, 0.8), (0.9, 0.38)
    for ax, norm in zip(panels, ("linf", "l2"), strict=True):
        color = COLORS[norm]
        with styled():
            if norm == "linf":
                corner = (x[0] - eps, x[1] - eps)
                shape: Patch = Rectangle(corner, 2 * eps, 2 * eps)
                step = (eps, eps)
            else:
                shape = Circle(x, eps)
                size = math.hypot(*grad)
                step = (eps * grad[0] / size, eps * grad[1] / size)
            shape.set(facecolor=color, alpha=0.18, edgecolor=color, lw=2)
            ax.add_patch(shape)
            ax.add_patch(
                Rectangle((0, 0), 1, 1, fill=False, edgecolor=INK, lw=1.2)
            )
            end = (x[0] + step[0], x[1] + step[1])
            cut = (min(1.0, end[0]), min(1.0, end[1]))
            _arrow(ax, x, (x[0] + grad[0] / 2, x[1] + grad[1] / 2), INK)
            _arrow(ax, x, end, color)
            ax.plot(*cut, "X", color=color, markersize=9, zorder=4)
            ax.plot(*x, "o", color=INK, markersize=6, zorder=4)
            ax.set(xlim=(-0.04, 1.2), ylim=(-0.04, 1.2), aspect="equal")
            ax.set_xlabel("pixel 1")
            ax.set_title(f"{NORM_NAMES[norm]} ball")
    panels[0].set_ylabel("pixel 2")
    return fig


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str
) -> None:
    look = {"arrowstyle": "-|>", "color": color, "lw": 1.8}
    ax.annotate("", xy=end, xytext=start, arrowprops=look, zorder=3)
