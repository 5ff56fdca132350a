"""Checks of the exercises of the chapter on augmentation.

As in ``lib.exercises``: each takes an answer and returns a
``page.Verdict``; an answer of ``None`` counts as not given yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import stdev

import torch.nn.functional as F
from torch import Tensor, nn

from . import attacks, evaluation
from .page import Verdict
from .size_readings import last_zero
from .stats import Mean

_OPEN = Verdict(None, "Write your answer into the cell above and run it.")


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
