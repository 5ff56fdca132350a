"""Tables of the chapters on what robust networks see, from records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from . import results
from .aligned_readings import Gap, between
from .evaluation import Accuracy
from .large import Large
from .results import Record
from .seeing import LOOKING
from .seeing_plots import JUDGES, NAMES, TITLES
from .size_plots import called


def network_rows() -> list[list[str]]:
    """The networks of ``LOOKING``, from the records of their training.

    Data set, network, architecture, ball and attack steps of its training,
    epochs, clean accuracy, and robust accuracy in that ball.
    """
    rows = []
    for name, plan in LOOKING.items():
        for label, record in plan.trained:
            found = results.load(record)
            recipe, values = found.settings["recipe"], found.values
            robust = "–"
            if recipe["eps"]:
                (count,) = values["robust"]
                robust = _share(count)
            rows.append(
                [NAMES[name], TITLES[label], recipe["model"],
                 _against(recipe, name),
                 str(recipe["steps"]) if recipe["eps"] else "–",
                 str(recipe["epochs"]), _share(values["standard"]), robust]
            )  # fmt: skip
    return rows


def judge_rows(
    plans: Mapping[str, Large], records: Mapping[str, Record]
) -> list[list[str]]:
    """The judges: how each was trained, and how often it is right.

    Data set, judge, architecture, ball of its training, epochs, accuracy on
    the clean test images of ``records``.
    """
    rows = []
    for name, plan in plans.items():
        trained = dict(plan.judges)
        for judge, seen in records[name].values["judges"].items():
            made = ["–"] * 3
            if judge in trained:
                recipe = results.load(trained[judge]).settings["recipe"]
                made = [recipe["model"], _against(recipe, name),
                        str(recipe["epochs"])]  # fmt: skip
            rows.append([NAMES[name], JUDGES[judge], *made, _share(seen)])
    return rows


def _against(recipe: Mapping[str, Any], name: str) -> str:
    """The ball of a training, such as "l2 80/255"."""
    if not recipe["eps"]:
        return "none"
    return called((recipe["norm"], recipe["eps"]), name)


def _share(count: Mapping[str, int]) -> str:
    return f"{count['correct'] / count['total']:.1%}"


def verdict_rows(
    records: Mapping[str, Record],
    noise: str,
    cell: Callable[[Mapping[str, Any]], str],
    controls: Mapping[str, Record] | None = None,
) -> list[list[str]]:
    """What the judges say of each network's pictures, and of ``noise``.

    Data set, network, number of images, then for each of ``JUDGES`` a
    ``cell`` of its verdict (``agreement`` or ``confidence``). Records of
    ``lib.large_controls`` add their rows to those of their data set.
    """
    more = controls or {}
    return [
        [NAMES[name], noise if label == "noise" else TITLES[label],
         str(found["standard"]["total"]),
         *(cell(found[judge]) if judge in found else "–"
           for judge in JUDGES)]
        for name, record in records.items()
        for each in (record, more.get(name))
        if each is not None
        for label, found in each.values["verdicts"].items()
    ]  # fmt: skip


def agreement(found: Mapping[str, Any]) -> str:
    """How often a judge agrees, in per cent with its 95 % interval."""
    if not found["total"]:
        return "–"
    count = Accuracy(found["agrees"], found["total"])
    low, high = (100 * end for end in count.interval)
    return f"{100 * count.value:.0f} [{low:.0f}, {high:.0f}]"


def confidence(found: Mapping[str, Any]) -> str:
    """A judge's mean share of the new class, with its 95 % margin."""
    if not found["total"]:
        return "–"
    return f"{found['share']:.2f} ± {1.96 * found['error']:.2f}"


def ahead(record: Record, label: str, judge: str) -> Gap | None:
    """A judge's agreement with a network less that with the standard one."""
    first, second = (
        record.values["verdicts"][key][judge] for key in (label, "standard")
    )
    return between(
        Accuracy(first["agrees"], first["total"]),
        Accuracy(second["agrees"], second["total"]),
    )


def without_a_step_back(
    records: Mapping[str, Record], labels: tuple[str, ...]
) -> tuple[int, int]:
    """Of all judges' lines to these networks' pictures: smooth, arrived."""
    lines = [
        seen
        for record in records.values()
        for label in labels
        for seen in record.values["interpolation"][label].values()
    ]
    return (
        sum(seen["monotone"] for seen in lines),
        sum(seen["rises"] for seen in lines),
    )


def lattice(gradient: Tensor, period: int) -> float:
    """The share of energy on one pixel of every block, relative to even.

    For gradients (n, c, h, w) and blocks of ``period`` by ``period``, at
    the place in the block that holds most: 1 without a lattice.
    """
    energy = gradient.double().square().sum(1)
    energy = energy / energy.sum((1, 2), keepdim=True)
    side = energy.shape[-1] // period
    blocks = energy.unflatten(2, (side, period)).unflatten(1, (side, period))
    return float(blocks.sum((1, 3)).mean(0).max()) * period**2


def none_of(count: int) -> float:
    """The largest share that ``count`` images without a case leave open.

    At 95 %: a case as common as that is missed by all of them in 5 %.
    """
    return float(1 - 0.05 ** (1 / count))
