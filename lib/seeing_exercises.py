"""The quizzes and the checks of the chapters on what robust networks see.

As in ``lib.exercises``: each check takes an answer and returns a
``page.Verdict``; an answer of ``None`` counts as not given yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from . import checkpoints, evaluation, large, plots, saliency
from .evaluation import Accuracy
from .large import Large
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
    return blind(
        record, against, "standard",
        question="Which gradient is the robust network's?",
        caption="One of each pair of gradients is from a network trained "
        f"against {plots.NORM_NAMES[against]} attacks, the other from a "
        "standard one.",
    )  # fmt: skip


def blind(
    record: Record, asked: str, other: str, *, question: str, caption: str
) -> Html:
    """A quiz: which of two gradients is that of the label ``asked``?

    ``record`` is one of ``seeing.observe``; the two stand in random order.
    """
    images = record.arrays["images"] / 255
    pair = [
        record.arrays[f"gradient-{label}"].float() for label in (asked, other)
    ]
    shown = [
        saliency.shown(each) if images.shape[1] == 3
        else plots.signed_colors(each)
        for each in pair
    ]  # fmt: skip
    return _pairs(
        images, *shown, seed=f"{record.name} {asked}", question=question,
        alt="In each row an image and the loss gradients of two networks "
        "at it, A and B, in random order.",
        caption=caption,
    )  # fmt: skip


def drawn(record: Record, settings: Large, asked: str = "l2") -> Html:
    """A quiz: which picture did ascent on the robust network's loss make?

    ``record`` is one of ``large.measure`` with ``settings``; the other
    picture is the standard network's, at the same radius, the largest.
    """
    ball = f"{plots.NORM_NAMES[settings.norm]} radius {settings.eps:g}"
    return _pairs(
        record.arrays["images"] / 255,
        *(record.arrays[f"seen-{label}"][-1] / 255
          for label in (asked, "standard")),
        seed=f"{record.name} drawn by {asked}",
        question="Which picture was made with the robust network?",
        alt="In each row an image and two perturbed versions of it, A and "
        "B, in random order: one made by climbing the loss of a standard "
        "network, one that of a robust network.",
        caption=f"Both pictures of a row climb a loss from the image on the "
        f"left, as far as {ball} allows: one a standard network's, one that "
        f"of a network trained against {plots.NORM_NAMES[asked]} attacks.",
    )  # fmt: skip


def _pairs(
    images: Tensor,
    wanted: Tensor,
    decoys: Tensor,
    *,
    seed: str,
    question: str,
    alt: str,
    caption: str,
) -> Html:
    """A quiz with a question for each image: which of two is ``wanted``?"""
    questions = []
    for k, answer in enumerate(order(len(images), 2, seed)):
        pair = wanted[k], decoys[k]
        options = pair if answer == 0 else pair[::-1]
        questions.append(Question(question, images[k], options, answer))
    return _quiz(
        questions,
        title=f"Quiz: {question[0].lower()}{question[1:]}",
        alt=alt,
        caption=caption,
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
        given = answer(first, second)
        if given is None:
            return _OPEN
        given = float(given)
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
                f"For the {plots.LABELS[label]} gradients yours is "
                f"{float(given):.3f}; "
                "with any other image as partner it lies between "
                f"{float(possible.min()):.3f} and "
                f"{float(possible.max()):.3f}.",
            )
        said.append(f"{plots.LABELS[label]} {float(given):+.3f}")
    return Verdict(
        True,
        f"Own edges minus another's, on {len(x)} digits: "
        + ", ".join(said) + ".",
    )  # fmt: skip


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
