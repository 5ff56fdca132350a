"""Verdicts on section 3, "what robust models see", from the records."""

from __future__ import annotations

from typing import Any, Literal

from . import masking, results
from .evaluation import Accuracy
from .large import LARGE
from .seeing import LOOKING

# what was measured; whether the criterion holds; the chapter
Finding = tuple[str, bool | Literal["partly"], str]
ROBUST = ("linf", "l2")


def follows_the_object() -> Finding:
    """C22: robust gradients agree more with the edges of their image.

    Own minus another's edges, paired with the standard network, has to
    exclude 0 from above for every robust network.
    """
    told, held = [], True
    for name in LOOKING:
        found = results.load(f"gradients/{name}").values["measures"]
        for label in ROBUST:
            gap = found[label]["excess"]
            half = 1.96 * gap["more_error"]
            held &= gap["more"] - half > 0
            told.append(
                f"{name} {label} {gap['more']:+.3f} "
                f"[{gap['more'] - half:.3f}, {gap['more'] + half:.3f}]"
            )
    ours = "rank correlation with own minus another image's edges, more than "
    return ours + "standard: " + "; ".join(told), held, "gradients"


def judges_agree() -> Finding:
    """C23: judges see the new class in robust networks' pictures.

    Asked of each data set, judge and robust network: is the interval of
    the agreement above that for the standard network?
    """
    told, above, asked = [], 0, 0
    for name in LARGE:
        verdicts = results.load(f"large/{name}").values["verdicts"]
        for judge in verdicts["standard"]:
            counts = {
                label: Accuracy(found[judge]["agrees"], found[judge]["total"])
                for label, found in verdicts.items()
            }
            for label in ROBUST:
                asked += 1
                above += (
                    counts[label].interval[0] > counts["standard"].interval[1]
                )
            told.append(
                f"{name}, {judge} judge: "
                + ", ".join(f"{k} {v.value:.0%}" for k, v in counts.items())
            )
    ours = (
        f"agreement above the standard network's in {above} of {asked} "
        "pairs of judge and robust network; " + "; ".join(told)
    )
    return ours, _all_or_some(above, asked), "large-perturbations"


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
            told += [f"{name} {label} network, {fault}" for fault in faults]
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
        found.append(f"success at the largest radius {share:.1%}")
    for (_, norm, eps), rows in cases.items():
        ball = f"in the {norm} ball {eps:.3g}"
        if masking.gained(rows) > 0.01:
            gain = f"{100 * masking.gained(rows):.1f}"
            found.append(f"more steps gain {gain} points {ball}")
        found += [
            f"{attack} leaves {rows[attack]['correct']} images standing "
            f"{ball}, PGD {rows['restarts']['correct']}"
            for attack in masking.BLIND
            if rows[attack]["correct"] < rows["restarts"]["correct"]
        ]
    return found


def lines_are_smooth() -> Finding:
    """C25: along the line a judge's share of the new class never falls.

    Of the lines of robust networks that arrive, nine in ten have to be
    without a step back, for every judge.
    """
    told, smooth, asked = [], 0, 0
    for name in LARGE:
        lines = results.load(f"large/{name}").values["interpolation"]
        for label in ROBUST:
            for judge, seen in lines[label].items():
                asked += 1
                smooth += seen["monotone"] >= 0.9 * max(1, seen["rises"])
                told.append(
                    f"{name} {label}, {judge} judge: {seen['monotone']} of "
                    f"{seen['rises']} that arrive, of {seen['total']}"
                )
    ours = "lines without a step back: " + "; ".join(told)
    return ours, _all_or_some(smooth, asked), "between-classes"


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


def _all_or_some(held: int, asked: int) -> bool | Literal["partly"]:
    return True if held == asked else "partly" if held else False


FINDINGS = {
    "C22, Fig. 2, 10": follows_the_object,
    "C23, Fig. 3, 8, 9": judges_agree,
    "C24": gradients_lead,
    "C25, Fig. 4": lines_are_smooth,
    "C21": parts_together,
}
