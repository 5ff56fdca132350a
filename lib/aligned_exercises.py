"""The quiz and the checks of the chapter that closes section 3.

As in ``lib.exercises``: each check takes an answer and returns a
``page.Verdict``; an answer of ``None`` counts as not given yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import NormalDist

import torch
from torch import Tensor

from . import aligned, experiments
from .page import Html, Verdict
from .results import Record
from .seeing_exercises import blind

_OPEN = Verdict(None, "Write your answer into the cell above and run it.")


def quiz(record: Record, noisy: str) -> Html:
    """Which of two gradients has met an adversary in training?

    ``record`` is one of ``aligned.measure``; the gradients are those of the
    l2-trained network and of the one labelled ``noisy``.
    """
    return blind(
        record, "l2", noisy,
        question="Which network was trained against attacks?",
        caption="One of each pair of gradients is from a network trained "
        "against l2 attacks, the other from one that has only seen Gaussian "
        "noise.",
    )  # fmt: skip


def noise_length(answer: Callable[[float, int], float | None]) -> Verdict:
    """Exercise: the usual l2 length of Gaussian noise on an image."""
    draw = torch.Generator().manual_seed(0)
    for sigma, pixels in ((1.0, 100), (0.5, 784), (0.25, 3072)):
        given = answer(sigma, pixels)
        if given is None:
            return _OPEN
        noise = sigma * torch.randn(1000, pixels, generator=draw)
        right = float(noise.norm(dim=1).mean())
        if abs(given - right) > 0.01 * right:
            hint = (
                " That is its square." if abs(given - right**2) < 0.1 * right
                else ""
            )  # fmt: skip
            return Verdict(
                False,
                f"For sigma = {sigma:g} and {pixels} pixels a thousand draws "
                f"are {right:.2f} long on average, not {given:.2f}.{hint}",
            )
    point = experiments.NOISY_POINTS["mnist-0.5-seed0"]
    sigma = point.recipe.eps
    radius = dict(aligned.ALIGNED["mnist"].balls)["l2"]
    times = sigma * 784**0.5 / radius
    return Verdict(
        True,
        f"On digits, noise of sigma = {sigma:g} is {times:.0f} times as long "
        f"as the l2 attack of radius {radius:g}.",
    )


def blind_judges(
    answer: Mapping[str, float | None], old: Tensor, new: Tensor
) -> Verdict:
    """Exercise: the agreement of judges that do not look at the picture.

    ``old`` (n,) are the true classes, ``new`` (n,) what the attacked
    network says; ``answer`` has a share for each of three judges.
    """
    if any(value is None for value in answer.values()):
        return _OPEN
    wrong = new != old
    asked = int(wrong.sum())
    threes = int((new[wrong] == 3).sum())
    right = {"always 3": threes / asked, "dice": 0.1, "never fooled": 0.0}
    hints = {
        "always 3": {
            "Only images that the network gets wrong now are asked about.": (
                int((new == 3).sum()) / len(new)
            ),
            "It agrees where the *network* says 3, whatever the picture "
            "was.": int((old[wrong] == 3).sum()) / asked,
            "A count; the agreement is a share of the images asked about.": (
                threes
            ),
            "One in ten is right for dice. How often is the new class 3?": 0.1,
        },
        "dice": {
            "Whatever the new class is, one face of ten shows it; that "
            "there are nine wrong classes does not help the dice.": 1 / 9,
            "Two classes do not make a coin: the dice may show any of the "
            "ten.": 0.5,
        },
        "never fooled": {
            "Where the network is right, no judge is asked.": (
                1 - asked / len(new)
            ),
            "It is always right, and so it never says what a network says "
            "that is wrong.": 1.0,
        },
    }  # fmt: skip
    for name, share in right.items():
        given = float(answer[name] or 0)
        if not abs(given - share) <= 0.005:
            hint = next(
                (what for what, value in hints[name].items()
                 if abs(given - value) <= 0.005),
                "Go through the images that the network gets wrong, one by "
                "one: does this judge name the new class?",
            )  # fmt: skip
            return Verdict(False, f"{name}: not {given:.3g}. {hint}")
    return Verdict(
        True,
        f"{right['always 3']:.0%}, 10 %, 0 %: without a look a judge may "
        "agree often, and one that sees the old class never does. So the "
        "text compares networks under the same judge.",
    )


def vote(answer: Callable[[float, float], float | None]) -> Verdict:
    """Exercise: the certified l2 radius of a vote over noisy copies.

    Compared with a linear classifier of two classes, for which the radius
    is exactly the distance to the border.
    """
    unit = NormalDist()
    for distance, sigma in ((0.5, 0.5), (0.3, 0.25), (1.2, 1.0), (0.0, 0.5)):
        share = unit.cdf(distance / sigma)
        given = answer(share, sigma)
        if given is None:
            return _OPEN
        if not abs(given - distance) <= 1e-4:
            mistakes = {
                "Where is sigma? More noise, wider proofs.": distance / sigma,
                "Multiply by sigma, do not divide.": distance / sigma**2,
                "Sigma is the deviation, not its square.": distance * sigma,
                "That is the distribution; its inverse is asked for, "
                "`NormalDist().inv_cdf`.": sigma * unit.cdf(share),
                "The sign: more than half of the votes give a positive "
                "radius.": -distance,
                "That quantile is for an interval with two ends. Here the "
                "winner's share alone counts.": sigma
                * unit.inv_cdf((1 + share) / 2),
            }  # fmt: skip
            hint = next(
                (f" {what}" for what, value in mistakes.items()
                 if abs(given - value) <= 1e-4),
                "",
            )  # fmt: skip
            return Verdict(
                False,
                f"A border {distance:g} away gets {share:.1%} of the votes "
                f"under sigma = {sigma:g}; yours makes {given:.4f} of that."
                + hint,
            )
    lost = answer(0.3, 0.5)
    if lost is None or abs(lost) > 1e-9:
        return Verdict(
            False,
            "With 30 % of the votes nothing is proved, so the radius is 0, "
            f"not {lost if lost is None else format(lost, '.3f')}.",
        )
    sigma = experiments.NOISY_POINTS["mnist-0.5-seed0"].recipe.eps
    radius = dict(aligned.ALIGNED["mnist"].balls)["l2"]
    return Verdict(
        True,
        f"A proof for the l2 radius {radius:g} at sigma = {sigma:g} takes "
        f"{unit.cdf(radius / sigma):.2%} of the votes.",
    )


def projection(
    answer: Callable[[Tensor, Tensor, Tensor], Tensor | None],
) -> Verdict:
    """Exercise: where descent on linear features ends, in closed form."""
    draw = torch.Generator().manual_seed(0)
    for rows, pixels in ((3, 8), (5, 5), (1, 12)):
        features = torch.randn(rows, pixels, generator=draw).double()
        x, start = torch.rand(2, pixels, generator=draw).double()
        given = answer(features, x, start)
        if given is None:
            return _OPEN
        if given.shape != x.shape:
            return Verdict(
                False,
                f"The answer has shape {tuple(given.shape)}, the image "
                f"{tuple(x.shape)}.",
            )
        wrong = float((features @ (given - x)).abs().max())
        if wrong > 1e-4:
            return Verdict(
                False,
                f"With {rows} features of {pixels} pixels yours has other "
                f"features than x, by up to {wrong:.2g}.",
            )
        # descent moves along the rows only, so the rest of the start stays
        rest = torch.eye(pixels).double()
        rest -= torch.linalg.pinv(features) @ features
        moved = float((rest @ (given - start)).abs().max())
        if moved > 1e-4:
            return Verdict(
                False,
                "The features are right, but descent would have ended "
                f"elsewhere: yours differs from the start by up to {moved:.2g}"
                " in directions that no feature sees.",
            )
    return Verdict(
        True,
        "What the features do not see is left as it was in the start.",
    )
