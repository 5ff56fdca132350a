"""Figures and pictures of the chapter that closes section 3."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from . import aligned, page, plots, saliency
from .evaluation import Accuracy
from .results import Record
from .seeing_plots import NAMES, TITLES

NOISES = tuple(
    dict.fromkeys(
        label for each in aligned.ALIGNED.values() for label, _ in each.noisy
    )
)
# spaces that do not break: "σ = 0.25" stays in one line
_SIGMAS = {label: label.replace("noise ", "σ\xa0=\xa0") for label in NOISES}
LABELS = (
    TITLES
    | {label: f"noise {sigma}" for label, sigma in _SIGMAS.items()}
    | {
        f"{label}, smoothed": f"noise {sigma}, smoothed"
        for label, sigma in _SIGMAS.items()
    }
    | {
        f"standard, {label}": f"standard, smoothed {sigma}"
        for label, sigma in _SIGMAS.items()
    }
)
STYLE = {
    "linf": "linf", "l2": "l2", **dict.fromkeys(NOISES, "random"),
    "noise 0.25, smoothed": "random", "standard, noise 0.25": "standard",
}  # fmt: skip


def together(records: Mapping[str, Record]) -> Figure:
    """Robust accuracy in the l2 ball against alignment, for each network.

    A panel for each data set; records of ``aligned.measure``; 95 %
    intervals both ways.
    """
    fig, panels = plots.axes(
        len(records), width=plots.WIDE, height=3.8, share_y=True
    )
    for panel, (name, record) in zip(panels, records.items(), strict=True):
        with plots.styled():
            for label, rows in record.values["robust"].items():
                (ball,) = [row for row in rows if row["norm"] == "l2"]
                seen = Accuracy(ball["correct"], ball["total"])
                found = record.values["measures"][label]["excess"]
                key = STYLE.get(label, "standard")
                x, y = 100 * seen.value, found["mean"]
                # at 0 and 1 rounding can put the bound past the value
                sides = [[max(0.0, x - 100 * seen.interval[0])],
                         [max(0.0, 100 * seen.interval[1] - x)]]  # fmt: skip
                panel.errorbar(
                    x, y, xerr=sides, yerr=1.96 * found["error"],
                    color=plots.COLORS[key], marker=plots.MARKERS[key],
                    linestyle="", label=LABELS[label],
                )  # fmt: skip
                noisy = [name for name in record.values["robust"]
                         if name in _SIGMAS]  # fmt: skip
                place, side = _place(label, noisy)
                panel.annotate(
                    _SIGMAS.get(label, LABELS[label]), (x, y), place,
                    fontsize=11, textcoords="offset points", ha=side,
                )  # fmt: skip
            panel.set_xlim(-65, 175)  # room for words
            panel.set_xticks([0, 100])
            panel.margins(y=0.15)
            panel.set_title(NAMES[name])
            panel.set_xlabel(f"radius {ball['eps']:.3g}")
    panels[0].set_ylabel("own minus another's edges")
    with plots.styled():
        fig.supxlabel(
            "accuracy under an l2 attack of this radius, per cent",
            fontsize="medium",
        )
    return fig


def _place(label: str, noisy: list[str]) -> tuple[tuple[int, int], str]:
    """Where a network's name stands by its point, in points, and its side."""
    alone = len(noisy) == 1
    if label not in noisy:
        return ((4, -14) if label == "l2" and alone else (4, 5)), "left"
    if alone:
        return (6, -17), "right"
    # several lie close together: one below the other
    return (-12, 2 - 9 * (len(noisy) - 1 - noisy.index(label))), "right"


def gallery(record: Record, name: str) -> page.Html:
    """Images and four gradients: does noise do what attacks do?

    ``record`` is one of ``aligned.measure`` for the data set ``name``.
    """
    main = aligned.SHOWN[name]
    labels = ("standard", f"standard, {main}", main, "l2")
    draw = plots.signed_colors if name == "mnist" else saliency.shown
    images = record.arrays["images"] / 255
    return page.images(
        [images] + [draw(record.arrays[f"gradient-{label}"].float())
                    for label in labels],
        row_labels=["image"] + [LABELS[label] for label in labels],
        column_labels=[f"image {k + 1}" for k in range(len(images))],
        alt=f"Eight images of {NAMES[name]}, and below each four loss "
        "gradients: a speckle from the standard network, and hardly less of "
        "one where it is averaged over noise; the object from the "
        "noise-trained and from the l2-trained network.",
        caption=f"{NAMES[name]}: the gradient of a network that has met noise "
        "and no adversary follows the object like that of the l2-trained "
        "one. Averaging a standard network's gradient over the same noise "
        f"does {'none' if name == 'mnist' else 'only a part'} of it.",
    )  # fmt: skip
