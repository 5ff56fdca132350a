"""Checks of the exercises on large perturbations and on lines between classes.

As in ``lib.exercises``: each takes an answer and returns a
``page.Verdict``; an answer of ``None`` counts as not given yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from . import checkpoints, evaluation, large, plots, saliency
from .evaluation import Accuracy
from .large import Large
from .page import Verdict
from .results import Record

_OPEN = Verdict(None, "Write your answer into the cell above and run it.")

# --- large perturbations --------------------------------------------------


def per_pixel(
    answer: Callable[[float, str, int, int], float | None],
) -> Verdict:
    """Exercise: the radius that is as much per pixel at another size."""
    for eps, norm, side, other in (
        (40.0, "l2", 224, 64),
        (4.7, "l2", 32, 64),
        (0.25, "linf", 224, 64),
        (1.5, "l2", 28, 28),
    ):
        given = answer(eps, norm, side, other)
        if given is None:
            return _OPEN
        times = other / side
        right = eps * times if norm == "l2" else eps
        if not abs(given - right) <= 0.005 * right:
            mistakes = {
                "Both norms were scaled alike. In l-infinity each pixel has "
                "a budget of its own, however many there are.": (
                    eps * times if norm == "linf" else -1.0
                ),
                "In l2 all pixels share one budget: with another number of "
                "them each has another part of it.": eps,
                "That is in proportion to the number of pixels. The length "
                "of a change by c in each of d pixels is c times the *root* "
                "of d.": eps * times**2,
                "The wrong way round: more pixels, longer changes.": (
                    eps / times
                ),
                "The sides are given, not the numbers of pixels: a square "
                "of side s has s times s of them.": eps * times**0.5,
            }
            hint = next(
                (f" {what}" for what, value in mistakes.items()
                 if abs(given - value) <= 0.005 * right),
                "",
            )  # fmt: skip
            return Verdict(
                False,
                f"{plots.NORM_NAMES[norm]} {eps:g} at {side} by {side} pixels "
                f"is {right:.4g} at {other} by {other}, not {given:.4g}."
                + hint,
            )
    return Verdict(
        True,
        "In l2 as the sides of the picture, in l-infinity not at all: "
        "40 at 224 pixels is 11.4 at 64, and 0.25 stays 0.25.",
    )


def masked(
    answer: Collection[str] | None,
    curves: Mapping[str, Mapping[float, float]],
    room: float = 4.0,
) -> Verdict:
    """Exercise: which accuracies (per cent) by l2 radius betray masking?

    From the radius ``room`` on a ball holds images of every class. A curve
    betrays an attack that was led astray where it stands in such a ball,
    and where it rises with the radius.
    """
    if answer is None:
        return _OPEN
    named = {str(name).strip().upper() for name in answer}
    if not named <= set(curves):
        return Verdict(
            False,
            "Name the networks by their letters, as in "
            f"{{{', '.join(repr(name) for name in list(curves)[:2])}}}.",
        )
    proofs = {name: _betrays(curve, room) for name, curve in curves.items()}
    for name, curve in curves.items():
        proof, last = proofs[name], max(curve)
        if name in named and proof is None:
            return Verdict(
                False,
                f"{name} was tried up to radius {last:g} only, and a robust "
                "network may well stand there. What the curve would do "
                "farther out is not known."
                if last < room
                else f"{name} falls all the way, to {curve[last]:g} % at "
                f"radius {last:g}. To fall early is not to be robust, to fall "
                "late is to be; neither hides a gradient.",
            )
    for name, proof in proofs.items():
        if name not in named and proof is not None:
            return Verdict(False, f"One is missing. {proof}")
    found = (f"{name}: {proof}" for name, proof in proofs.items() if proof)
    return Verdict(True, " ".join(found))


def _betrays(curve: Mapping[float, float], room: float) -> str | None:
    """Why a curve betrays masked gradients, without its name, or None."""
    radii = sorted(curve)
    if any(
        curve[far] > curve[near] + 1
        for near, far in pairwise(radii)
    ):
        return (
            "A larger ball holds the smaller one, and yet the attack finds "
            "less in it."
        )
    if radii[-1] >= room and curve[radii[-1]] > 5:
        return (
            f"In a ball of radius {radii[-1]:g} there are images of every "
            f"class, and {curve[radii[-1]]:g} % stand: the attack was not "
            "shown the way."
        )
    return None


def beyond_chance(answer: str | None, record: Record) -> Verdict:
    """Exercise: does the robust judge agree more with the l2 network?

    ``record`` is one of ``large.measure``; the answer is "yes" or "no", by
    whether the 95 % intervals of the two shares are apart.
    """
    if answer is None:
        return _OPEN
    if answer not in ("yes", "no"):
        return Verdict(False, 'The answer is "yes" or "no".')
    spans = {}
    for label in ("standard", "l2"):
        found = record.values["verdicts"][label]["robust"]
        spans[label] = Accuracy(found["agrees"], found["total"])
    (_, low), (high, _) = sorted(span.interval for span in spans.values())
    apart = low < high
    told = "; ".join(
        f"{plots.LABELS[label]}: {span}" for label, span in spans.items()
    )
    return Verdict(
        (answer == "yes") == apart,
        f"{told}. The intervals {'are apart' if apart else 'overlap'}.",
    )


def towards(
    answer: Callable[..., Tensor | None],
    settings: Large,
    x: Tensor,
    y: Tensor,
    wanted: int = 3,
) -> Verdict:
    """Exercise: drive digits to the class ``wanted`` of the l2 network."""
    net, _ = checkpoints.load(dict(settings.trained)["l2"], device=x.device)
    given = answer(net, x, y)
    if given is None:
        return _OPEN
    far = float((given - x).flatten(1).norm(dim=1).max())
    if far > settings.eps + 1e-3:
        return Verdict(
            False, f"One picture moved by {far:.2f}, more than {settings.eps}."
        )
    if float(given.min()) < 0 or float(given.max()) > 1:
        return Verdict(False, "Some pixels have left [0, 1]; clamp them.")
    hits = int((evaluation.predict(net, given).argmax(1) == wanted).sum())
    away = large.ascend(net, x, y, settings.eps, 20)
    free = int((evaluation.predict(net, away).argmax(1) == wanted).sum())
    if hits <= max(free, len(x) // 2):
        return Verdict(
            False,
            f"The network calls {hits} of {len(x)} pictures a {wanted}; "
            f"without a target it is {free}. Is `target` {wanted} in every "
            "row, and were there enough steps?",
        )
    return Verdict(
        True,
        f"{hits} of {len(x)} pictures are called a {wanted}. Show them with "
        "page.images: are they?",
    )


# --- between two classes -------------------------------------------------


def arrivals(
    arrive: int | None, smooth: int | None, shares: Tensor
) -> Verdict:
    """Exercise: count lines that arrive, and those of them that are smooth.

    ``shares`` has the share of the new class on each line (lines, frames).
    """
    if arrive is None or smooth is None:
        return _OPEN
    unseen, seen = shares[:, 0] < 0.1, shares[:, -1] > 0.5
    there = unseen & seen
    steps = shares.diff(dim=1)
    calm = (steps >= -0.01).all(dim=1)
    if arrive != int(there.sum()):
        return Verdict(
            False,
            f"{arrive} lines do not arrive in the sense of the text. "
            + _hint(arrive, {
                "Some of yours begin where the judge sees the new class "
                "already: look at the first frame too.": seen,
                "Some of yours are above one half on the way and fall back: "
                "only the last frame counts.": unseen
                & (shares > 0.5).any(dim=1),
                "To arrive is one thing, to be smooth another: a line with a "
                "step back may arrive.": there & calm,
            }, "Ask of each line: below 0.1 first, above 0.5 last?"),
        )  # fmt: skip
    if smooth != int((there & calm).sum()):
        return Verdict(
            False,
            f"{arrive} arrive, but not {smooth} of these are smooth. "
            + _hint(smooth, {
                "Lines that do not arrive are not counted here, however "
                "smooth.": calm,
                "A step back by no more than 0.01 is forgiven.": there
                & (steps >= 0).all(dim=1),
                "You only compared the ends; a line may fall in between.": (
                    there
                ),
            }, "Which of them ever falls by more than 0.01 in one step?"),
        )  # fmt: skip
    return Verdict(
        True,
        f"{smooth} of {arrive}. Among all {len(shares)} lines "
        f"{int(calm.sum())} are smooth: a line that goes nowhere seldom "
        "steps back.",
    )


def _hint(count: int, mistakes: Mapping[str, Tensor], otherwise: str) -> str:
    """The first mistake whose mask has ``count`` lines."""
    return next(
        (hint for hint, mask in mistakes.items() if int(mask.sum()) == count),
        otherwise,
    )


def perfect_order(
    idle: Sequence[float] | None, restless: Sequence[float] | None
) -> Verdict:
    """Exercise: shares in perfect order that never arrive, and others.

    ``idle`` is to have a rank correlation of 1 with t without arriving;
    ``restless`` to arrive, not smoothly, with one above 0.9.
    """
    if idle is None or restless is None:
        return _OPEN
    orders = []
    for name, given in (("idle", idle), ("restless", restless)):
        if len(given) != 9 or not all(0 <= share <= 1 for share in given):
            return Verdict(
                False, f"`{name}` has to be nine shares, each from 0 to 1."
            )
        made = torch.tensor(given).double()[None]
        time = torch.arange(9.0)[None]
        orders.append(float(saliency.rank_correlation(made, time)[0]))
    if idle[0] < 0.1 and idle[-1] > 0.5:
        return Verdict(False, "`idle` arrives; it should not.")
    if orders[0] < 1 - 1e-9:
        return Verdict(
            False,
            f"`idle` has a rank correlation of {orders[0]:.3f}. For 1 every "
            "share has to be larger than the one before, by however little.",
        )
    if not (restless[0] < 0.1 and restless[-1] > 0.5):
        return Verdict(
            False,
            "`restless` has to arrive: from below 0.1 to above 0.5.",
        )
    if not any(
        after < before - 0.01
        for before, after in pairwise(restless)
    ):
        return Verdict(
            False,
            "`restless` is smooth: let it fall somewhere by more than 0.01.",
        )
    if orders[1] <= 0.9:
        return Verdict(
            False,
            f"`restless` has a rank correlation of {orders[1]:.3f}, which "
            "should be above 0.9: let fewer frames change places.",
        )
    return Verdict(
        True,
        f"Rank correlation 1 for a line to {idle[-1]:g}, "
        f"{orders[1]:.3f} for one to {restless[-1]:g}: the better number "
        "has the line that goes nowhere.",
    )


def flip(answer: Callable[[list[float]], float | None]) -> Verdict:
    """Exercise: where a share first exceeds one half, linear in between."""
    cases = (
        ([0.0, 1.0], 0.5),
        ([0.1, 0.2, 0.8], 0.75),
        ([0.6, 0.9], 0.0),
        ([0.0, 0.7, 0.2, 0.9], 5 / 21),
        ([0.1, 0.5, 0.5], None),
    )
    for shares, right in cases:
        given = answer(list(shares))
        if given is NotImplemented:
            return _OPEN
        if given is None or right is None:
            wrong = given is not right
        else:
            wrong = abs(given - right) > 1e-6
        if wrong:
            said = "None" if right is None else f"{right:.4f}"
            return Verdict(False, f"For {shares}: {said}, not {given}.")
    return Verdict(True, "Also where the share falls back again.")


def linear_line(answer: str | None) -> Verdict:
    """Exercise: can a linear judge's share fall on a line that rises?"""
    if answer is None:
        return _OPEN
    if answer == "no":
        return Verdict(True, "A linear score moves one way along a line.")
    return Verdict(
        False, "Write the score at x_t as a function of t: what shape is it?"
    )
