"""Checks of the exercises of the chapters on the size sweep.

As in ``lib.exercises``: each takes an answer and returns a
``page.Verdict``; an answer of ``None`` counts as not given yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import stdev

import torch
import torch.nn.functional as F
from scipy.stats import t as student
from torch import Tensor, nn

from . import attacks, evaluation
from .page import Verdict
from .size_readings import last_zero
from .stats import Mean

_OPEN = Verdict(None, "Write your answer into the cell above and run it.")
_VALUES = 3 * 32 * 32  # colour values of a photograph of CIFAR-10


def predictions(
    guess: Mapping[str, str | None], asked: Mapping[str, tuple[str, str, Mean]]
) -> Verdict:
    """Exercise: on which side of zero gains lie.

    ``asked`` has for each name of ``guess`` the answer for a positive gain,
    the one for a negative, and the gain; one whose interval holds 0 is told
    as undecided.
    """
    if any(guess[name] is None for name in asked):
        return Verdict(
            None,
            "Fill in the cell of predictions above and run it and this one.",
        )
    told, wrong = [], 0
    for name, (above, below, gain) in asked.items():
        if guess[name] not in (above, below):
            return Verdict(
                False,
                f'The answer to "{name}" must be "{above}" or "{below}".',
            )
        what = f"{name}: {gain.per_cent()} points"
        if gain.low <= 0 <= gain.high:
            told.append(f"{what}, within noise")
            continue
        right = above if gain.value > 0 else below
        wrong += guess[name] != right
        told.append(f"{what}, so {right}")
    return Verdict(wrong == 0, "The gains: " + "; ".join(told) + ".")


def crossing(
    answer: Callable[[Sequence[float], Sequence[float]], float | None],
) -> Verdict:
    """Exercise: the size at which a gain falls through zero."""
    cases = (
        ((100, 1_000), (0.5, -0.5), "halfway on the log scale"),
        ((100, 1_000, 10_000), (0.03, 0.01, -0.02), "a third of the way"),
        ((10, 100, 1_000, 10_000), (-1, 1, -2, -1), "the gain rises first"),
        ((10, 100, 1_000, 10_000), (2, -1, 1, -3), "two changes of sign"),
        ((100, 1_000), (0.5, 0.1), "the last gain is positive"),
        ((100, 1_000), (-0.5, -0.1), "no gain is positive"),
    )
    for sizes, gains, what in cases:
        given = answer(sizes, gains)
        if given is NotImplemented:
            return _OPEN
        right = last_zero(sizes, list(gains))
        case = f"sizes {sizes}, gains {gains} ({what})"
        if right is None:
            if given is not None:
                return Verdict(False, f"{case}: None is right, not {given}.")
            continue
        if given is None or not math.isfinite(given):
            return Verdict(
                False, f"{case}: there is a zero, yours is {given}."
            )
        if abs(given / right - 1) > 1e-6:
            linear = "linear in n" if sizes[0] < given < sizes[-1] else "off"
            return Verdict(
                False,
                f"{case}: {right:.1f} is right, yours is {given:.1f} "
                f"({linear}?). Interpolate the logarithm of n.",
            )
    return Verdict(True, "Right in all cases, with and without a zero.")


def paired(
    answer: Mapping[str, float | None],
    first: Sequence[float],
    second: Sequence[float],
) -> Verdict:
    """Exercise: half widths of the interval of a mean difference."""
    given = {k: value for k, value in answer.items() if value is not None}
    if len(given) < len(answer):
        return _OPEN
    n = len(first)
    apart = 2.306 * math.sqrt((stdev(first) ** 2 + stdev(second) ** 2) / n)
    gaps = [b - a for a, b in zip(first, second, strict=True)]
    together = 2.776 * stdev(gaps) / math.sqrt(n)
    for name, right in (("unrelated", apart), ("paired", together)):
        if abs(given[name] - right) > 0.02 * right:
            return Verdict(
                False,
                f"Not the half width for {name} lists: yours is "
                f"{given[name]:.4f}. "
                + (
                    "Divide each variance by the number of seeds, add, take "
                    "the root, times t."
                    if name == "unrelated"
                    else "Take the standard deviation of the differences, "
                    "divide by the root of their number, times t."
                ),
            )
    gain = sum(gaps) / n
    return Verdict(
        True,
        f"The gain of {100 * gain:.1f} points has a half width of "
        f"{100 * apart:.1f} unpaired and of {100 * together:.1f} paired: "
        + ("only the second" if together < gain < apart else "each")
        + " excludes 0.",
    )


def useless(
    answer: Callable[[Tensor], Tensor | None],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float = 1.5,
) -> Verdict:
    """Exercise: confuse more than PGD in the l2 ball without a gradient."""
    given = answer(x.clone())
    if given is None:
        return _OPEN
    if given.shape != x.shape:
        return Verdict(
            False,
            f"The images must keep their shape {tuple(x.shape)}; yours have "
            f"{tuple(given.shape)}.",
        )
    if float(given.min()) < 0 or float(given.max()) > 1:
        return Verdict(False, "Some pixels have left [0, 1]; clamp them.")
    # readable: the same strokes, in whatever brightness
    flat, clean = given.flatten(1), x.flatten(1)
    flat = flat - flat.mean(dim=1, keepdim=True)
    clean = clean - clean.mean(dim=1, keepdim=True)
    alike = F.cosine_similarity(flat, clean).abs().mean()
    if float(alike) < 0.6:
        return Verdict(
            False,
            "The digits are hardly there any more: the correlation of your "
            f"pixels with the clean ones is {float(alike):.2f} in size, and "
            "0.6 is asked for. A person must still be able to read them.",
        )
    worst = attacks.pgd(model, x, y, eps=eps, norm="l2", steps=20)
    yours, theirs = (
        float(F.cross_entropy(evaluation.predict(model, each), y))
        for each in (given, worst)
    )
    if yours <= theirs:
        return Verdict(
            False,
            f"Your loss is {yours:.2f}, PGD's is {theirs:.2f}. What has the "
            "network never seen that a person would not even notice?",
        )
    return Verdict(
        True, f"Your loss is {yours:.2f}, PGD's in the ball {theirs:.2f}."
    )


def levels(answer: Mapping[str, float | None]) -> Verdict:
    """Exercise: grey levels of each value when all change as much as allowed.

    ``answer`` has a number for each ball, named as ``"l2 80/255"``.
    """
    given = {k: value for k, value in answer.items() if value is not None}
    if len(given) < len(answer):
        return _OPEN
    told = []
    for ball, value in given.items():
        norm, radius = ball.split()
        whole = float(radius.removesuffix("/255"))
        right = whole if norm == "linf" else whole / math.sqrt(_VALUES)
        if abs(value - right) > 0.02 * right:
            hint = (
                "In the l-infinity ball every value may use the whole radius."
                if norm == "linf"
                else "That is one value alone using up the radius."
                if abs(value - whole) < 0.02 * whole
                else f"The l2 length of a change by c in all {_VALUES:,} "
                f"values is c times the root of {_VALUES:,}."
            )
            return Verdict(False, f"{ball}: not {value:.3g} levels. {hint}")
        told.append(f"{right:.2f} in {ball}")
    return Verdict(True, f"Levels of 255: {', '.join(told)}.")


def seeds_needed(answer: Callable[[float, float], int]) -> Verdict:
    """Exercise: how many seeds make a 95 % interval narrow enough."""
    for spread, half in ((0.5, 1.0), (1.0, 1.0), (0.8, 0.5), (2.0, 0.5)):
        given = answer(spread, half)
        if given is NotImplemented:
            return _OPEN
        right = next(n for n in range(2, 10_000) if _half(spread, n) <= half)
        if given != right:
            normal = math.ceil((1.96 * spread / half) ** 2)
            hint = (
                " That is the normal distribution's answer; with few seeds "
                "the factor is Student's t, which is larger."
                if given == max(2, normal)
                else ""
            )
            return Verdict(
                False,
                f"Standard deviation {spread:g}, half width {half:g}: {right} "
                f"seeds are needed ({_half(spread, right):.2f}), not {given}."
                + hint,
            )
    return Verdict(True, "Right in all four cases.")


def _half(spread: float, n: int) -> float:
    """Half of the 95 % interval of a mean over ``n`` seeds."""
    return float(student.ppf(0.975, n - 1)) * spread / math.sqrt(n)


def separation(
    answer: Callable[[Tensor, Tensor], float | None], x: Tensor, y: Tensor
) -> Verdict:
    """Exercise: the l-infinity distance of the nearest pair of two classes."""
    given = answer(x.clone(), y.clone())
    if given is None:
        return _OPEN
    gaps = torch.cdist(x.flatten(1), x.flatten(1), p=math.inf)
    other = y[:, None] != y[None]
    right = float(gaps[other].min())
    if abs(given - right) > 1e-4:
        hint = ""
        if given == 0:
            hint = " An image and itself are not a pair of two classes."
        elif abs(given - float(gaps[gaps > 0].min())) < 1e-4:
            hint = " The nearest pair of all is of one class."
        return Verdict(
            False, f"The smallest distance is not {given:.4f}.{hint}"
        )
    return Verdict(
        True,
        f"The nearest two of {len(x)} photographs of different classes are "
        f"{255 * right:.0f}/255 apart: balls of radius 8/255 around them "
        + ("do not meet." if 2 * 8 / 255 < right else "meet."),
    )
