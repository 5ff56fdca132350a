"""The quiz and the checks of the chapter that closes section 3.

As in ``lib.exercises``: each check takes an answer and returns a
``page.Verdict``; an answer of ``None`` counts as not given yet.
"""

from __future__ import annotations

from collections.abc import Callable

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
