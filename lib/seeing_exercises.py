"""The quiz and the checks of the chapter on input gradients.

As in ``lib.exercises``: each check takes an answer and returns a
``page.Verdict``; an answer of ``None`` counts as not given yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from . import plots, saliency
from .page import Html, Verdict
from .quiz import Question, order
from .quiz import quiz as _quiz
from .results import Record

_OPEN = Verdict(None, "Write your answer into the cell above and run it.")


def quiz(record: Record, against: str = "l2") -> Html:
    """Which of two gradients is the robust network's? From a record.

    ``record`` is one of ``seeing.measure``, ``against`` the label of the
    robust network that the standard one is compared with.
    """
    images = record.arrays["images"] / 255
    pair = [
        record.arrays[f"gradient-{label}"].float()
        for label in ("standard", against)
    ]
    shown = [
        saliency.shown(each) if images.shape[1] == 3
        else plots.signed_colors(each)
        for each in pair
    ]  # fmt: skip
    right = order(len(images), 2, f"{record.name} {against}")
    questions = []
    for k, answer in enumerate(right):
        standard, robust = (each[k] for each in shown)
        options = (robust, standard) if answer == 0 else (standard, robust)
        questions.append(
            Question(
                "Which gradient is the robust network's?", images[k], options,
                answer,
            )
        )
    return _quiz(
        questions,
        title="Quiz: which gradient is the robust network's?",
        alt="In each row an image and the loss gradients of two networks "
        "at it, A and B, in random order.",
        caption="One of each pair of gradients is from a network trained "
        f"against {plots.NORM_NAMES[against]} attacks, the other from a "
        "standard one.",
    )


def ranks(
    answer: Callable[[Tensor, Tensor], float | None],
) -> Verdict:
    """Exercise: Spearman's correlation of two maps without ties."""
    draw = torch.Generator().manual_seed(0)
    first = torch.rand(6, 7, generator=draw)
    noise = torch.rand(6, 7, generator=draw)
    given = answer(first, noise)
    if given is None:
        return _OPEN
    for second, what in (
        (first**5, "second is first to the fifth power, the same order"),
        (-first, "second is minus first"),
        (first + noise, "second is first plus noise"),
    ):
        right = float(saliency.rank_correlation(first[None], second[None])[0])
        given = float(answer(first, second))
        if abs(given - right) > 1e-4:
            plain = torch.stack([first.flatten(), second.flatten()])
            pearson = float(torch.corrcoef(plain)[0, 1])
            hint = (
                " That is the correlation of the values; rank them first."
                if abs(given - pearson) < 1e-4 else ""
            )  # fmt: skip
            return Verdict(
                False, f"Where {what}: {right:.4f}, not {given:.4f}.{hint}"
            )
    return Verdict(True, "Only the order counts, and ties were not asked for.")


def excess(
    answer: Callable[[Tensor, Tensor], float | None],
    x: Tensor,
    grads: Mapping[str, Tensor],
) -> Verdict:
    """Exercise: mean agreement with own edges, less that with another's."""
    said = []
    for label, grad in grads.items():
        given = answer(grad, x)
        if given is None:
            return _OPEN
        force, edge = saliency.strength(grad), saliency.edges(x)
        own = saliency.rank_correlation(force, edge)
        other = torch.stack(
            [
                saliency.rank_correlation(force, edge.roll(k, 0))
                for k in range(1, len(x))
            ]
        )
        possible = (own - other).mean(dim=1)
        if not float(possible.min()) - 1e-4 <= float(given) <= (
            float(possible.max()) + 1e-4
        ):
            return Verdict(
                False,
                f"For the {label} gradients yours is {float(given):.3f}; "
                "with any other image as partner it lies between "
                f"{float(possible.min()):.3f} and "
                f"{float(possible.max()):.3f}.",
            )
        said.append(f"{label} {float(given):+.3f}")
    return Verdict(
        True,
        f"Own edges less another's, on {len(x)} digits: "
        + ", ".join(said) + ".",
    )  # fmt: skip
