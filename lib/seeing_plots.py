"""Figures and pictures of the chapters on what robust networks see."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from . import plots
from .results import Record

TITLES = plots.LABELS | {
    "smooth": "standard, smoothed", "random": "random weights",
}  # fmt: skip
NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
_STYLE = {
    "linf": "linf", "l2": "l2", "smooth": "standard", "random": "random",
}  # fmt: skip


def effects(records: Mapping[str, Record], measure: str) -> Figure:
    """How much more than the standard network each other gradient has.

    A panel for each data set, a row for each gradient; paired differences
    with 95 % intervals over images.
    """
    fig, panels = plots.axes(
        len(records), width=7.2, height=2.8, share_y=True
    )
    for panel, (name, record) in zip(panels, records.items(), strict=True):
        with plots.styled():
            for k, (label, key) in enumerate(_STYLE.items()):
                gap = record.values["measures"][label][measure]
                panel.errorbar(
                    gap["more"], -k, xerr=1.96 * gap["more_error"], capsize=4,
                    color=plots.COLORS[key], marker=plots.MARKERS[key],
                )  # fmt: skip
            panel.axvline(0, color="#888888", linewidth=1)
            panel.set_title(NAMES[name])
            panel.set_xlabel("more than standard")
    panels[0].set_yticks(
        [-k for k in range(len(_STYLE))], [TITLES[key] for key in _STYLE]
    )
    return fig
