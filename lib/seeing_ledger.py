"""Verdicts on section 3, "what robust models see", from the records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from . import masking, results
from .evaluation import Accuracy
from .large import LARGE, LINF
from .plots import NORM_NAMES
from .seeing import LOOKING
from .seeing_plots import JUDGES, NAMES, TITLES, WALKER_NAMES

# what was measured; whether the criterion holds; the chapter
Finding = tuple[str, bool | Literal["partly"], str]
ROBUST = ("linf", "l2")
ARRIVED = 50  # lines; of fewer a share of nine in ten says little
BLIND = {"transfer": "transferred points", "queries": "queries"}


def follows_the_object() -> Finding:
    """C22: robust gradients agree more with the edges of their image.

    Own minus another's edges, paired with the standard network, has to
    exclude 0 from above for every robust network.
    """
    told, held = zip(*map(_follows, LOOKING), strict=True)
    ours = "rank correlation with own minus another image's edges, more than "
    return ours + "standard: " + "; ".join(told), all(held), "gradients"


def _follows(name: str) -> tuple[str, bool]:
    """The gaps of a data set in words; whether all exclude 0 from above."""
    found = results.load(f"gradients/{name}").values["measures"]
    told, held = [], True
    for label in ROBUST:
        gap = found[label]["excess"]
        half = 1.96 * gap["more_error"]
        held &= gap["more"] - half > 0
        told.append(
            f"{NAMES[name]} {TITLES[label]} {gap['more']:+.3f} "
            f"[{gap['more'] - half:.3f}, {gap['more'] + half:.3f}]"
        )
    return "; ".join(told), held


def judges_agree() -> Finding:
    """C23: judges see the new class in robust networks' pictures.

    Asked of each norm, data set, judge and robust network: is the interval
    of the agreement above that for the standard network? The shares of the
    robust judge are listed, those of the others only counted. A network
    attacked in the ball of its training (MNIST, l-infinity) is asked as the
    others are. In l2 it is also told, though not judged, how often the
    agreement is above that of the standard network with smoothed gradients.
    """
    told, listed, all_above, smoothed = [], [], _Tally(), _Tally()
    for norm, plans in (("l2", LARGE), ("linf", LINF)):
        shares, above = [], _Tally()
        for name, plan in plans.items():
            verdicts = results.load(f"large/{name}").values["verdicts"]
            for judge, counts in _agreements(verdicts).items():
                for label in ROBUST:
                    held = _above(counts[label], counts["standard"])
                    above.add(judge, held)
                    all_above.add(judge, held)
                    if norm == "l2":
                        control = _smoothed(name, judge)
                        smoothed.add(judge, _above(counts[label], control))
                if judge == "robust":
                    shares.append(f"{NAMES[plan.dataset]} {_listed(counts)}")
        told.append(
            f"{NORM_NAMES[norm]}: agreement above the standard network's in "
            f"{above} pairs of judge and robust network "
            f"({above.by_judge()})"
        )
        listed.append(f"{NORM_NAMES[norm]}: " + "; ".join(shares))
    ours = f"{'; '.join(told)}\n{JUDGES['robust']}, {'. '.join(listed)}. "
    ours += (
        "The l∞ radius of MNIST is that of training. In l2 the agreement is "
        "also above that for the standard network along smoothed gradients "
        f"in {smoothed} pairs"
    )
    return ours, all_above.held, "large-perturbations"


def _smoothed(name: str, judge: str) -> Accuracy:
    """A judge's agreement with the standard network, gradients smoothed."""
    found = results.load(f"large/controls-{name}").values["verdicts"]
    return Accuracy(
        found["smooth"][judge]["agrees"], found["smooth"][judge]["total"]
    )


def _agreements(
    verdicts: dict[str, dict[str, dict[str, int]]],
) -> dict[str, dict[str, Accuracy]]:
    """How often each judge agrees, for each of the attacked networks."""
    return {
        judge: {
            label: Accuracy(found[judge]["agrees"], found[judge]["total"])
            for label, found in verdicts.items()
        }
        for judge in verdicts["standard"]
    }


def _above(robust: Accuracy, plain: Accuracy) -> bool:
    """Whether the intervals lie apart; never where nothing was counted."""
    if not (robust.total and plain.total):
        return False
    return robust.interval[0] > plain.interval[1]


def _listed(counts: dict[str, Accuracy]) -> str:
    """The networks' shares in words; with the total where it is below 100."""
    return ", ".join(
        f"{WALKER_NAMES[label]} "
        + (f"{100 * count.value:.0f} %" if count.total else "none moved")
        + (f" of {count.total}" if 0 < count.total < 100 else "")
        for label, count in counts.items()
        if label in ("standard", *ROBUST)
    )


def gradients_lead() -> Finding:
    """C24: the gradients of the networks of section 3 are not masked.

    Asked of each network: does the mean loss rise with the radius, up to
    success on at least 95 % of the images; do more steps and starts gain at
    most one point; and does no attack without gradient leave fewer images
    standing than PGD? Reproduced where all networks pass everything.
    """
    told, passed, asked = [], 0, 0
    for name, settings in masking.MASKING.items():
        curve = results.load(f"large/{name}").values["curve"]
        hidden = masking.by_case(results.load(f"large/masking-{name}"))
        for label, _ in settings.trained:
            rows = [row for row in curve if row["model"] == label]
            cases = {k: v for k, v in hidden.items() if k[0] == label}
            faults = _signs_of_masking(rows, cases)
            asked += 1
            passed += not faults
            if faults:
                network = f"{NAMES[name]}, {TITLES[label]}"
                told.append(f"{network}: {', '.join(faults)}")
    ours = f"no sign of masking in {passed} of {asked} networks"
    return (
        "; ".join([ours, *told]), _all_or_some(passed, asked),
        "large-perturbations",
    )  # fmt: skip


def _signs_of_masking(
    curve: list[dict[str, Any]],
    cases: dict[masking.Case, dict[str, dict[str, Any]]],
) -> list[str]:
    """What speaks for masking, in words; empty if nothing does."""
    found = []
    losses = [row["loss"] for row in curve]
    if losses != sorted(losses):
        found.append("loss falls as the radius grows")
    last = curve[-1]
    share = 1 - last["correct"] / last["total"]
    if share < 0.95:
        found.append(f"success at the largest radius {100 * share:.1f} %")
    for (_, norm, eps), rows in cases.items():
        ball = f"(ball: {NORM_NAMES[norm]}, {eps:.3g})"
        if masking.gained(rows) > 0.01:
            gain = f"{100 * masking.gained(rows):.1f}"
            found.append(f"more steps gain {gain} points {ball}")
        found += [
            f"{words} leave {rows[attack]['correct']} images standing where "
            f"PGD leaves {rows['restarts']['correct']} {ball}"
            for attack, words in BLIND.items()
            if rows[attack]["correct"] < rows["restarts"]["correct"]
        ]
    return found


def lines_are_smooth() -> Finding:
    """C25: along the line a judge's share of the new class never falls.

    Two questions for each data set, judge and robust network. Of the lines
    that arrive, at least ``ARRIVED``, are nine in ten without a step back?
    And is that share above the standard network's, the 95 % intervals
    apart? Reproduced where both hold for all pairs, partly where either
    holds for some.
    """
    told, smooth, smoother = [], _Tally(), _Tally()
    for name in LARGE:
        lines = results.load(f"large/{name}").values["interpolation"]
        for judge in lines["standard"]:
            counts = {
                label: Accuracy(seen[judge]["monotone"], seen[judge]["rises"])
                for label, seen in lines.items()
            }
            for label in ROBUST:
                count = counts[label]
                enough = count.total >= ARRIVED
                smooth.add(judge, enough and count.value >= 0.9)
                smoother.add(judge, _above(count, counts["standard"]))
            told.append(
                f"{NAMES[name]}, {JUDGES[judge]}: "
                + ", ".join(
                    f"{WALKER_NAMES[label]} {counts[label].correct} of "
                    f"{counts[label].total}"
                    for label in ("standard", *ROBUST)
                )
            )
    ours = (
        f"nine in ten without a step back in {smooth} pairs of judge and "
        f"robust network ({smooth.by_judge()}); more often than on the "
        f"standard network's lines in {smoother}\nwithout a step back, of "
        "those that arrive: " + "; ".join(told)
    )
    found = {smooth.held, smoother.held}
    held = found.pop() if len(found) == 1 else "partly"
    return ours, held, "between-classes"


def parts_together() -> Finding:
    """C21: robust features align with perception, as C22, C23 and C25 do.

    Reproduced where all three are, partly where some or parts of them
    are. That people see alike is not among the criteria.
    """
    held = {
        name.split(",")[0]: FINDINGS[name]()[1]
        for name in ("C22, Fig. 2, 10", "C23, Fig. 3, 8, 9", "C25, Fig. 4")
    }
    words = {True: "holds", "partly": "in part", False: "fails"}
    told = ", ".join(f"{name} {words[each]}" for name, each in held.items())
    some = any(each is not False for each in held.values())
    return (
        f"{told}; agreement with people was not measured",
        True if all(each is True for each in held.values())
        else "partly" if some else False,
        "what-aligns",
    )  # fmt: skip


def on_the_substitute() -> tuple[str, bool, bool | Literal["partly"]]:
    """Figures 2c and 3c on Imagenette, for want of Restricted ImageNet.

    What was measured, and whether C22 and C23 (in l2) hold there.
    """
    name = "imagenette64"
    gradients, followed = _follows(name)
    verdicts = results.load(f"large/{name}").values["verdicts"]
    above, shares = _Tally(), []
    for judge, counts in _agreements(verdicts).items():
        for label in ROBUST:
            above.add(judge, _above(counts[label], counts["standard"]))
        shares.append(f"{JUDGES[judge]} {_listed(counts)}")
    ours = (
        f"gradients, own minus another's edges: {gradients}; agreement above "
        f"the standard network's in {above} pairs of judge and robust "
        f"network: {'; '.join(shares)}"
    )
    return ours, followed, above.held


@dataclass
class _Tally:
    """How often something held, of how often it was asked, by judge."""

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, judge: str, held: bool) -> None:
        yes, asked = self.counts.get(judge, (0, 0))
        self.counts[judge] = yes + held, asked + 1

    def total(self) -> tuple[int, int]:
        yes, asked = zip(*self.counts.values(), strict=True)
        return sum(yes), sum(asked)

    def __str__(self) -> str:
        return "{} of {}".format(*self.total())

    def by_judge(self) -> str:
        """The counts of each judge, in words."""
        return ", ".join(
            f"{JUDGES[judge]} {yes} of {asked}"
            for judge, (yes, asked) in self.counts.items()
        )

    @property
    def held(self) -> bool | Literal["partly"]:
        return _all_or_some(*self.total())


def _all_or_some(held: int, asked: int) -> bool | Literal["partly"]:
    return True if held == asked else "partly" if held else False


FINDINGS = {
    "C22, Fig. 2, 10": follows_the_object,
    "C23, Fig. 3, 8, 9": judges_agree,
    "C24": gradients_lead,
    "C25, Fig. 4": lines_are_smooth,
    "C21": parts_together,
}
