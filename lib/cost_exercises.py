"""Checks of the exercises of the chapter on what robustness costs.

As in ``lib.exercises``: each takes an answer and returns a
``page.Verdict``; an answer of ``None`` counts as not given yet.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from . import attacks, evaluation
from .page import Verdict

_OPEN = Verdict(None, "Write your answer into the cell above and run it.")


def trades_pairs(answer: float | None, steps: int = 10) -> Verdict:
    """Exercise: pairs of passes of a TRADES update with ``steps`` steps."""
    if answer is None:
        return _OPEN
    if abs(answer - (steps + 2.5)) < 1e-6:
        return Verdict(
            True,
            f"{steps + 3} passes forward and {steps + 2} back, which is "
            f"{steps + 2.5:g} pairs.",
        )
    if abs(answer - (2 * steps + 5)) < 1e-6:
        return Verdict(False, "These are single passes; two make a pair.")
    if abs(answer - (steps + 2)) < 1e-6:
        return Verdict(
            False,
            "Before it can climb away from the answer on the clean image, "
            "the attack has to compute that answer.",
        )
    if abs(answer - (steps + 1)) < 1e-6:
        return Verdict(
            False,
            "That is PGD. The loss of TRADES has two parts, and each needs "
            "its own passes.",
        )
    return Verdict(False, "Count forward and backward passes apart first.")


def run_hours(
    here: float | None,
    faster: float | None,
    ms_per_pair: float,
    *,
    updates: int = 80_000,
    batch: int = 128,
    steps: int = 7,
    speed: float = 50.0,
) -> Verdict:
    """Exercise: hours of a run at ``ms_per_pair`` milliseconds.

    ``faster`` is the answer for a device ``speed`` times as fast.
    """
    if here is None or faster is None:
        return _OPEN
    hours = ms_per_pair * updates * batch / 3.6e6
    right = hours * (steps + 1)
    for value, hint in (
        (hours * steps, "Do not forget the pass that updates the weights."),
        (hours, "That is standard training: where is the attack?"),
        (right * 3600, "These are seconds; the question asks for hours."),
        (right * 1000, "Milliseconds: divide by 1,000 once more."),
    ):
        if _near(here, value):
            return Verdict(False, hint)
    if not _near(here, right):
        return Verdict(
            False,
            "Multiply updates, images in a batch, pairs of passes for each "
            "image, and the seconds of a pair.",
        )
    if not _near(faster, right / speed):
        return Verdict(
            False,
            "The first number is right. The faster device takes "
            f"1/{speed:g} of it.",
        )
    return Verdict(
        True,
        f"{right:.0f} hours here, {right / speed:.1f} there: the count of "
        "passes is fixed, the device sets the price of one.",
    )


def fewer_passes(
    answer: Callable[..., Tensor | None],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 0.1,
    steps: int = 20,
    share: float = 0.7,
) -> Verdict:
    """Exercise: as strong as PGD for at most ``share`` of its passes.

    ``answer(model, x, y, eps, steps)`` returns images in the l-infinity
    ball around ``x`` (n, ...). As strong: it fools no fewer images than
    PGD from the images themselves, but for one in fifty.
    """
    with evaluation.count_passes(model) as ours:
        given = answer(model, x.clone(), y, eps, steps)
    if given is None:
        return _OPEN
    if given.shape != x.shape:
        return Verdict(False, "Return one image for each image of x.")
    if float((given - x).abs().max()) > eps + 1e-5:
        return Verdict(False, f"Some pixel moved by more than eps = {eps}.")
    if float(given.min()) < 0 or float(given.max()) > 1:
        return Verdict(False, "Some pixels have left [0, 1].")
    with evaluation.count_passes(model) as plain:
        reference = attacks.pgd(
            model, x, y, eps=eps, steps=steps, random_start=False,
            keep="last",
        )  # fmt: skip
    standing = evaluation.accuracy(model, given, y).correct
    expected = evaluation.accuracy(model, reference, y).correct
    if standing > expected + len(x) // 50:
        return Verdict(
            False,
            f"{standing} of {len(x)} images are left standing; PGD leaves "
            f"{expected}. Who is not fooled yet needs all its steps.",
        )
    spent = ours.forwards + ours.backwards
    used = spent / (plain.forwards + plain.backwards)
    if used > share:
        return Verdict(
            False,
            f"As strong, but at {used:.0%} of the passes. Which images "
            "gain nothing from another step?",
        )
    return Verdict(
        True,
        f"{standing} of {len(x)} left standing (PGD: {expected}), at "
        f"{used:.0%} of the passes. In training the loss needs the worst "
        "point of every image, fooled or not.",
    )


def _near(value: float, target: float) -> bool:
    """Within two per cent."""
    return abs(value - target) <= 0.02 * abs(target)
