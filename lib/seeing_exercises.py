"""The quizzes on what robust networks see; the checks on gradients.

As in ``lib.exercises``: each check takes an answer and returns a
``page.Verdict``; an answer of ``None`` counts as not given yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from . import plots, saliency
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


def hoyer(answer: Callable[[Tensor], float | None]) -> Verdict:
    """Exercise: the sparsity of one gradient (h, w), by Hoyer's measure."""
    draw = torch.Generator().manual_seed(0)
    single = torch.zeros(5, 5)
    single[2, 3] = -4.0
    for grad, what in (
        (torch.randn(6, 7, generator=draw), "42 normal draws"),
        (torch.full((4, 5), -0.3), "the same number in all of 20 pixels"),
        (single, "a single pixel of 25"),
    ):
        given = answer(grad.clone())
        if given is None:
            return _OPEN
        given = float(given)
        right = float(saliency.sparsity(grad.abs()[None])[0])
        if not abs(given - right) <= 1e-4:
            return Verdict(
                False,
                f"For {what} it is {right:.4f}, not {given:.4f}."
                + _not_hoyer(given, grad),
            )
    return Verdict(True, "0 where all pixels count alike, 1 for a single one.")


def _not_hoyer(given: float, grad: Tensor) -> str:
    """What was probably computed instead of the sparsity of ``grad``."""
    flat = grad.flatten().double()
    d, one, two = len(flat), float(flat.abs().sum()), float(flat.norm())
    root = d**0.5
    mistakes = {
        "The 1-norm adds sizes: take absolute values first.": (
            root - float(flat.sum()) / two
        ) / (root - 1),
        "The 2-norm is the *root* of the sum of squares.": (
            root - one / two**2
        ) / (root - 1),
        "The 1-norm is a sum, not a mean.": (root - one / d / two)
        / (root - 1),
        "Take the root of d, above and below.": (d - one / two) / (d - 1),
        "Divide by the root of d, minus 1: then a single pixel has 1.": (
            root - one / two
        ),
        "The other way round: 0 where all pixels count alike.": 1
        - (root - one / two) / (root - 1),
        "The 1-norm stands above the 2-norm.": (root - two / one)
        / (root - 1),
    }
    for hint, value in mistakes.items():
        if abs(given - value) < 1e-4:
            return " " + hint
    return ""


def noisy_copies(
    answer: Callable[
        [Callable[[Tensor], Tensor], Tensor, float, int], Tensor | None
    ],
) -> Verdict:
    """Exercise: SmoothGrad, on a bowl and on ripples.

    ``answer(gradient, x, sigma, samples)`` returns the mean of
    ``gradient``, which takes one copy (d,) or many (m, d), over noisy
    copies of ``x`` (d,). Where it was asked is noted, so that the right
    answer is known for the very noise that was drawn.
    """
    sigma, samples, waves = 0.1, 500, 20.0
    x = torch.linspace(0, 1, 30)
    left = []
    for gradient in (
        lambda z: z - 0.3,  # of half the squared distance to 0.3
        lambda z: torch.cos(waves * z),  # of ripples, sin(20 z) / 20
    ):
        asked: list[Tensor] = []

        def noted(z: Tensor, gradient: Callable[[Tensor], Tensor] = gradient,
                  asked: list[Tensor] = asked) -> Tensor:  # fmt: skip
            asked.append(z.detach().clone().reshape(-1, len(x)))
            return gradient(z)

        # a draw without a generator does not move the reader's own
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            given = answer(noted, x.clone(), sigma, samples)
        if given is None:
            return _OPEN
        if given.shape != x.shape:
            return Verdict(
                False,
                f"The answer has shape {tuple(given.shape)}, the image "
                f"{tuple(x.shape)}: the mean is over copies, not over pixels.",
            )
        points = torch.cat(asked) if asked else x[None]
        hint = _not_noise(points - x, sigma, samples)
        if hint is None:
            hint = _not_mean(given, gradient(points))
        if hint is not None:
            return Verdict(False, hint)
        clear = gradient(x)
        left.append(float((given * clear).sum() / clear.square().sum()))
    return Verdict(
        True,
        f"Of the bowl's gradient {left[0]:.0%} remains, of the ripples' "
        f"{left[1]:.0%}: what swings within the width of the noise is "
        "averaged away.",
    )


def _not_noise(noise: Tensor, sigma: float, samples: int) -> str | None:
    """What is wrong with the noise (m, d) of the copies; None if nothing."""
    if not len(noise.unique(dim=0)) > 1:
        size = float(noise[0].square().mean().sqrt())
        if size == 0:
            return (
                "The gradient was asked for at the image itself only. The "
                "noise belongs to the image, before the gradient is taken."
            )
        if size < sigma / 4:
            return "Average the gradients, not the copies."
        return "All copies carry the same noise: draw anew for each."
    if len(noise) != samples:
        return (
            f"The gradient was asked for at {len(noise)} points; samples is "
            f"{samples}."
        )
    if float(noise.std(dim=1).max()) < sigma / 100:
        return (
            "All pixels of a copy move together. Each needs noise of its "
            "own: `torch.randn_like(x)`."
        )
    if abs(float(noise.mean())) > 0.1 * sigma:
        return (
            f"The noise is {float(noise.mean()):.3f} on average and should "
            "be 0: `torch.randn`, not `torch.rand`."
        )
    spread = float(noise.std())
    if abs(spread / sigma - 1) > 0.05:
        hint = (
            " That is sigma squared." if abs(spread / sigma**2 - 1) < 0.05
            else ""
        )  # fmt: skip
        return (
            f"The noise has a deviation of {spread:.3f}, not sigma = "
            f"{sigma:g}.{hint} (And nothing is cut to [0, 1] here.)"
        )
    return None


def _not_mean(given: Tensor, found: Tensor) -> str | None:
    """What ``given`` (d,) is, if not the mean of ``found`` (m, d)."""
    mean = found.mean(dim=0)
    if torch.allclose(given, mean, atol=1e-4):
        return None
    mistakes = {
        "Divide the sum by the number of copies.": found.sum(dim=0),
        "The signs count: average the gradients, not their sizes.": (
            found.abs().mean(dim=0)
        ),
        "That is the gradient at the last copy alone.": found[-1],
    }
    for hint, value in mistakes.items():
        if torch.allclose(given, value, atol=1e-3):
            return hint
    far = float((given - mean).abs().max())
    return (
        "The copies are right, but yours is not the mean of their "
        f"gradients: it is off by up to {far:.3f}."
    )
