"""Figures and pictures of the chapters on what robust networks see."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from . import plots
from .evaluation import Accuracy
from .results import Record

JUDGES = {
    "standard": "standard judge", "robust": "robust judge",
    "neighbours": "neighbours",
}  # fmt: skip
TITLES = plots.LABELS | {
    "smooth": "standard, smoothed", "random": "random weights",
}  # fmt: skip
NAMES = {
    "mnist": "MNIST", "cifar10": "CIFAR-10", "imagenette64": "Imagenette",
}  # fmt: skip
WALKERS = {
    "standard": "standard", "linf": "linf", "l2": "l2", "noise": "random",
}  # fmt: skip
WALKER_NAMES = {
    "standard": "standard", "linf": "l∞-trained", "l2": "l2-trained",
    "noise": "noise",
}  # fmt: skip
MEASURES = {
    "edges": "agreement with own edges", "sparsity": "sparsity",
    "excess": "own minus another's edges", "strokes": "energy on strokes",
}  # fmt: skip
_STYLE = {
    "linf": "linf", "l2": "l2", "smooth": "standard", "random": "random",
}  # fmt: skip


def effects(
    records: Mapping[str, Record],
    measure: str,
    style: Mapping[str, str] = _STYLE,
    titles: Mapping[str, str] = TITLES,
) -> Figure:
    """How much more than the standard network each other gradient has.

    A panel for each data set, a row for each gradient of ``style`` (label
    to key of ``plots.COLORS``; left empty where a record has none); paired
    differences with 95 % intervals over images. ``measure``: one of
    ``MEASURES``.
    """
    fig, panels = plots.axes(
        len(records), width=plots.WIDE, height=1.2 + 0.4 * len(style),
        share_y=True,
    )  # fmt: skip
    for panel, (name, record) in zip(panels, records.items(), strict=True):
        with plots.styled():
            for k, (label, key) in enumerate(style.items()):
                if label not in record.values["measures"]:
                    continue
                gap = record.values["measures"][label][measure]
                panel.errorbar(
                    gap["more"], -k, xerr=1.96 * gap["more_error"], capsize=4,
                    color=plots.COLORS[key], marker=plots.MARKERS[key],
                )  # fmt: skip
            panel.axvline(0, color="#888888", linewidth=1)
            panel.set_title(NAMES[name])
    with plots.styled():
        fig.supxlabel(
            f"{MEASURES[measure]}: more than the standard network",
            fontsize="medium",
        )
    panels[0].set_yticks(
        [-k for k in range(len(style))], [titles[key] for key in style]
    )
    return fig


def fall(records: Mapping[str, Record], norm: str = "l2") -> Figure:
    """Accuracy of each network against the radius of the ascent.

    ``records`` by data set; ``norm`` is that of the radius.
    """
    fig, panels = plots.axes(len(records), width=plots.WIDE, share_y=True)
    for panel, (name, record) in zip(panels, records.items(), strict=True):
        rows = record.values["curve"]
        curves = []
        for label in dict.fromkeys(row["model"] for row in rows):
            seen = [row for row in rows if row["model"] == label]
            counts = [Accuracy(row["correct"], row["total"]) for row in seen]
            curves.append(
                plots.Curve(
                    label, [row["eps"] for row in seen],
                    [count.value for count in counts], "",
                    [count.interval[0] for count in counts],
                    [count.interval[1] for count in counts],
                )
            )  # fmt: skip
        plots.lines(
            curves, ax=panel, x_label=f"{plots.NORM_NAMES[norm]} radius eps",
            title=NAMES[name], legend=False,
            y_label="still right, per cent" if panel is panels[0] else "",
        )  # fmt: skip
        panel.xaxis.set_major_formatter("{x:g}")  # panels stand close
    plots.legend_above(fig, panels[0])
    return fig


def climb(records: Mapping[str, Record], norm: str = "l2") -> Figure:
    """Mean loss of each network against the radius of the ascent.

    As :func:`fall`; the losses on a scale of powers of ten.
    """
    fig, panels = plots.axes(len(records), width=plots.WIDE, share_y=True)
    for panel, (name, record) in zip(panels, records.items(), strict=True):
        rows = record.values["curve"]
        with plots.styled():
            for label in dict.fromkeys(row["model"] for row in rows):
                seen = [row for row in rows if row["model"] == label]
                panel.plot(
                    [row["eps"] for row in seen],
                    [row["loss"] for row in seen],
                    color=plots.COLORS[label], marker=plots.MARKERS[label],
                    label=plots.LABELS[label],
                )  # fmt: skip
            panel.set_yscale("log")
            panel.set_title(NAMES[name])
            panel.set_xlabel(f"{plots.NORM_NAMES[norm]} radius eps")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_major_formatter("{x:g}")
    with plots.styled():
        panels[0].set_ylabel("mean loss")
    plots.legend_above(fig, panels[0])
    return fig


def walks(record: Record, judges: Mapping[str, str]) -> Figure:
    """A judge's mean share of the old and the new class along the line.

    A panel for each of ``judges`` (name in the record: title).
    """
    fig, panels = plots.axes(len(judges), width=plots.WIDE, share_y=True)
    for panel, (judge, title) in zip(panels, judges.items(), strict=True):
        curves = []
        for label, key in WALKERS.items():
            seen = record.values["interpolation"][label][judge]
            steps = [k / (len(seen["new"]) - 1)
                     for k in range(len(seen["new"]))]  # fmt: skip
            curves.append(
                plots.Curve(key, steps, seen["new"], WALKER_NAMES[label])
            )
            curves.append(
                plots.Curve(
                    key, steps, seen["old"], "_old", dashed=True, marker=""
                )
            )
        plots.lines(
            curves, ax=panel, x_label="t, from the image to its end",
            title=title, legend=False,
            y_label="judge's share, per cent" if panel is panels[0] else "",
        )  # fmt: skip
    for dashed, words in ((False, "new class"), (True, "old class")):
        panels[0].plot(
            [], [], color="#888888", linestyle="--" if dashed else "-",
            label=words,
        )  # fmt: skip
    plots.legend_above(fig, panels[0])
    return fig

