"""What section 3 of the paper comes to: verdicts and effect sizes.

From the ledger and from the records of the chapters on what robust
networks see, for the chapter that closes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from . import aligned, ledger, paper
from .aligned_plots import LABELS
from .evaluation import Accuracy
from .results import Record
from .seeing_plots import JUDGES, NAMES

CLAIMS = ("C21", "C22", "C23", "C24", "C25")
STATUS = {
    ledger.REPRODUCED: "shown", f"partly {ledger.REPRODUCED}": "shown in part",
    ledger.NOT: "not shown", ledger.OPEN: "open",
}  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """A claim, what the ledger says of it, and the chapter that asks."""

    claim: paper.Claim
    status: str
    chapter: str


def standings() -> list[Standing]:
    """The claims of section 3 in order, with the ledger's verdicts."""
    found = {claim.ident.split(",")[0]: claim for claim in paper.LEDGER}
    rows = []
    for ident in CLAIMS:
        judged = ledger.judge(found[ident])
        rows.append(
            Standing(found[ident], STATUS[judged.verdict], judged.chapter)
        )
    return rows


@dataclass(frozen=True)
class Gap:
    """A network's number less the standard one's, with its 95 % margin."""

    value: float
    margin: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return abs(self.value) > self.margin

    def points(self) -> str:
        """In percentage points, such as ``+38.2 ± 6.0``."""
        return f"{100 * self.value:+.1f} ± {100 * self.margin:.1f}"

    def __str__(self) -> str:
        return f"{self.value:+.3f} ± {self.margin:.3f}"


@dataclass(frozen=True)
class Effect:
    """One measure on one data set, each network against the standard one.

    ``gaps`` has the keys ``linf``, ``l2`` and ``noise``; None where there
    is nothing to compare. ``share`` tells shares from correlations.
    """

    claim: str
    data: str
    measure: str
    gaps: dict[str, Gap | None]
    share: bool = True

    def cells(self) -> list[str]:
        """The gaps in words."""
        return [
            "–" if gap is None else gap.points() if self.share else str(gap)
            for gap in self.gaps.values()
        ]


def between(first: Accuracy, second: Accuracy) -> Gap | None:
    """``first - second`` of two independent counts, normal interval.

    Newcombe's interval would differ where a share is near 0 or 1; the
    larger of its two sides is the margin here. None without a count.
    """
    if not (first.total and second.total):
        return None
    sides = [
        sqrt((a.value - a.interval[i]) ** 2 + (b.value - b.interval[j]) ** 2)
        for a, b, i, j in ((first, second, 0, 1), (first, second, 1, 0))
    ]
    return Gap(first.value - second.value, max(sides))


def effects(
    seen: Mapping[str, Record],
    large: Mapping[str, Record],
    drawn: Mapping[str, Record],
) -> list[Effect]:
    """Effect sizes of C22, C23 and C25 for every data set and judge.

    ``seen`` are records of ``aligned.measure``, ``large`` of
    ``large.measure`` with the networks of the chapters before, ``drawn``
    the same with the networks of ``aligned.DRAWN``, by data set.
    """
    found = []
    for name, record in seen.items():
        measures = record.values["measures"]
        found.append(
            Effect("C22", NAMES[name], "own minus another's edges", {
                key: Gap(gap["more"], 1.96 * gap["more_error"])
                for key, gap in (
                    (key, measures[label]["excess"])
                    for key, label in _labels(name).items()
                )
            }, share=False)
        )  # fmt: skip
    for claim, part, count in (
        ("C23", "verdicts", "agrees"), ("C25", "interpolation", "rises")
    ):  # fmt: skip
        for name in large:
            found += [
                Effect(claim, NAMES[name], title, gaps)
                for title, gaps in _by_judges(
                    large[name].values[part], drawn[name].values[part],
                    count, aligned.SHOWN[name],
                )
            ]  # fmt: skip
    return found


def _labels(name: str) -> dict[str, str]:
    return {"linf": "linf", "l2": "l2", "noise": aligned.SHOWN[name]}


def _by_judges(
    old: dict[str, Any], new: dict[str, Any], count: str, noisy: str
) -> list[tuple[str, dict[str, Gap | None]]]:
    """For each judge its title and the gaps of a count."""
    rows = []
    for judge in old["standard"]:
        counts = {
            key: Accuracy(found[judge][count], found[judge]["total"])
            for key, found in (
                ("standard", old["standard"]), ("linf", old["linf"]),
                ("l2", old["l2"]), ("noise", new[noisy]),
            )
        }  # fmt: skip
        standard = counts.pop("standard")
        gaps = {k: between(each, standard) for k, each in counts.items()}
        rows.append((JUDGES[judge], gaps))
    return rows


def gradient_rows(records: Mapping[str, Record]) -> list[list[str]]:
    """The table of all gradients: a row for each, from ``aligned.measure``.

    Data set, gradient, standard accuracy, robust accuracies (of networks
    only), and four measures; "–" where there is none.
    """
    rows = []
    for name, record in records.items():
        values = record.values
        for label, found in values["measures"].items():
            balls = values["robust"].get(label)
            right = values["right"][label] / values["n"]
            rows.append([
                NAMES[name], LABELS[label], f"{right:.1%}",
                *([share(each["correct"], each["total"]) for each in balls]
                  if balls else ["–", "–"]),
                *(plus_minus(found[part], 3) if part in found else "–"
                  for part in ("edges", "excess", "sparsity", "strokes")),
            ])  # fmt: skip
    return rows


def inverted_rows(inverted: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """The table of inverted features, from ``aligned_features.measure``."""
    return [
        [
            LABELS[label], plus_minus(found["features"]),
            *(plus_minus(found[part]) for part in ("own", "other", "excess")),
            share(found["first"], found["total"]),
            plus_minus(found["distance"], 1),
            plus_minus(found["distance_other"], 1),
        ]
        for label, found in inverted.items()
    ]  # fmt: skip


def share(correct: int, total: int) -> str:
    """Such as ``86% [81%, 90%]``, with Wilson's 95 % interval."""
    count = Accuracy(correct, total)
    low, high = count.interval
    return f"{count.value:.0%} [{low:.0%}, {high:.0%}]"


def plus_minus(part: Mapping[str, float], digits: int = 2) -> str:
    """A ``mean`` with 1.96 times its ``error``, such as ``0.21 ± 0.01``."""
    half = 1.96 * part["error"]
    return f"{part['mean']:.{digits}f} ± {half:.{digits}f}"
