"""Checks of the exercises of the chapters on attacks, training, evaluation.

Each takes an answer and returns a ``page.Verdict`` that says in words what
is wrong. An answer of ``None`` (or a function that still returns ``None``)
counts as not given yet.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import attacks, evaluation, norms
from .page import Verdict

_OPEN = Verdict(None, "Write your answer into the cell above and run it.")


def l2_step(answer: Callable[[Tensor], Tensor | None]) -> Verdict:
    """Exercise: the steepest step of length 1 in the l2 norm."""
    draw = torch.Generator().manual_seed(0)
    grad = torch.randn(5, 1, 4, 4, generator=draw)
    grad *= torch.tensor([1.0, 10, 0.1, 3, 1e-3]).view(-1, 1, 1, 1)
    given = answer(grad.clone())
    if given is None:
        return _OPEN
    if given.shape != grad.shape:
        return Verdict(
            False,
            f"The step must have the gradient's shape {tuple(grad.shape)}, "
            f"yours has {tuple(given.shape)}. `keepdim=True` or `view` help.",
        )
    sizes = given.flatten(1).norm(dim=1)
    if not torch.allclose(sizes, torch.ones(5), atol=1e-4):
        return Verdict(
            False,
            "Each image's step must have length 1; yours have lengths "
            f"{[round(float(s), 3) for s in sizes]}. Divide each row by its "
            "own norm, not the batch by one norm.",
        )
    along = torch.nn.functional.cosine_similarity(
        given.flatten(1), grad.flatten(1)
    )
    if float(along.min()) < 0.9999:
        return Verdict(
            False,
            "The length is right, the direction is not: in l2 the steepest "
            "direction is the gradient itself.",
        )
    return Verdict(True, "Length 1 for each image, along its own gradient.")


def targeted(
    answer: Callable[..., Tensor | None],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float = 0.3,
) -> Verdict:
    """Exercise: drive every image to the class after its own."""
    target = (y + 1) % 10
    given = answer(model, x, target, eps)
    if given is None:
        return _OPEN
    if float((given - x).abs().max()) > eps + 1e-5:
        return Verdict(
            False, f"Some pixel moved by more than eps = {eps}; project."
        )
    if float(given.min()) < 0 or float(given.max()) > 1:
        return Verdict(False, "Some pixels have left [0, 1]; clamp them.")
    hit = float((evaluation.predict(model, given).argmax(1) == target)
                .float().mean())  # fmt: skip
    away = attacks.pgd(model, x, y, eps=eps, steps=20)
    chance = float((evaluation.predict(model, away).argmax(1) == target)
                   .float().mean())  # fmt: skip
    if hit <= max(chance, 0.5):
        return Verdict(
            False,
            f"Only {hit:.0%} reach the target (the untargeted attack gets "
            f"there by accident for {chance:.0%}). Go *down* the loss of "
            "the target class instead of up the loss of the true one.",
        )
    return Verdict(True, f"{hit:.0%} of the images end in the target class.")


def worst_case(answer: Callable[[Tensor], float | None]) -> Verdict:
    """Exercise: robust accuracy from several restarts' outcomes."""
    fooled = torch.tensor(
        [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]
    ).bool()
    given = answer(fooled)
    if given is None:
        return _OPEN
    if abs(float(given) - 0.4) < 1e-6:
        return Verdict(True, "An image is robust only if no restart fools it.")
    if abs(float(given) - 0.8) < 1e-6:
        return Verdict(
            False,
            "0.8 is what each restart alone leaves standing. But the "
            "adversary may choose another restart for each image.",
        )
    return Verdict(
        False,
        f"{float(given):.3g} is not the share of images that withstand all "
        "restarts; `any` along one dimension helps.",
    )


def passes_per_update(answer: int | None, steps: int = 7) -> Verdict:
    """Exercise: how many standard updates one PGD-``steps`` update costs."""
    if answer is None:
        return _OPEN
    if answer == steps + 1:
        return Verdict(
            True,
            f"{steps} pairs of passes to find the perturbation, one more to "
            "update the weights.",
        )
    if answer == steps:
        return Verdict(False, "Do not forget the update of the weights.")
    if answer == 2 * steps:
        return Verdict(
            False,
            "A standard update needs a forward and a backward pass too: "
            "compare pairs with pairs.",
        )
    return Verdict(False, "Count pairs of a forward and a backward pass.")


def half_batch(
    answer: Callable[..., Tensor | None],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float = 0.2,
) -> Verdict:
    """Exercise: perturb the second half of a batch, keep the first."""
    given = answer(model, x, y, eps)
    if given is None:
        return _OPEN
    if given.shape != x.shape:
        return Verdict(
            False,
            f"The batch must keep its shape {tuple(x.shape)}; yours has "
            f"{tuple(given.shape)}. `torch.cat` joins two halves.",
        )
    half = len(x) // 2
    if not torch.equal(given[:half], x[:half]):
        return Verdict(False, "The first half of the batch should be clean.")
    moved = (given[half:] - x[half:]).flatten(1).abs().amax(dim=1)
    if float(moved.min()) == 0:
        return Verdict(False, "Some images of the second half did not move.")
    if float(moved.max()) > eps + 1e-5:
        return Verdict(False, f"Some pixel moved by more than eps = {eps}.")
    return Verdict(True, "One half clean, the other at its worst.")


def linear_worst_case(answer: Callable[..., Tensor | None]) -> Verdict:
    """Exercise: the logistic loss at a linear model's worst points.

    ``answer(w, b, x, y, eps, norm)`` gets weights (d,), a bias, examples
    (n, d) and labels -1 or +1 (n,); it returns losses (n,).
    """
    draw = torch.Generator().manual_seed(0)
    w, x = torch.randn(6, generator=draw), torch.randn(9, 6, generator=draw)
    y, b = torch.tensor([1.0, -1, -1] * 3), torch.tensor(0.4)
    for norm, eps in (("linf", 0.3), ("l2", 0.7)):
        data = b, x, y, eps, norm
        slope = w.clone().requires_grad_()
        given = answer(slope, *data)
        if given is None:
            return _OPEN
        if given.shape != y.shape:
            return Verdict(
                False,
                f"Return one loss for each of the {len(y)} examples, not "
                f"the shape {tuple(given.shape)}: no mean, no sum.",
            )
        worst = _attacked_loss(w, *data)
        if not torch.allclose(given, worst, atol=1e-4):
            return Verdict(False, _mistaken(given.detach(), worst, w, *data))
        right = torch.autograd.grad(_attacked_loss(slope, *data).sum(), slope)
        if not given.requires_grad or not torch.allclose(
            torch.autograd.grad(given.sum(), slope)[0], right[0], atol=1e-3
        ):
            return Verdict(
                False,
                "The losses are right, but one cannot train on them: all "
                "of their gradient has to reach w. Use tensors throughout.",
            )
        steep = answer(300 * w, *data)
        if steep is None or not steep.isfinite().all():
            return Verdict(
                False,
                "Right for these weights; with 300 times as large ones the "
                "loss is not finite. `F.softplus` does not overflow.",
            )
    return Verdict(
        True,
        "As high as at the worst of all corners (linf) and at the end of "
        "the gradient (l2), for the price of one norm of the weights.",
    )


def _attacked_loss(
    w: Tensor, b: Tensor, x: Tensor, y: Tensor, eps: float, norm: str
) -> Tensor:
    """The largest loss that an attack finds, for each example.

    In l-infinity it tries every corner of the ball: the loss is convex in
    the image, so one of them is the worst. In l2 it takes one step of full
    length along the gradient, whose direction is the same everywhere.
    """
    if norm == "linf":
        sides = torch.tensor([-eps, eps])
        ends = torch.cartesian_prod(*[sides] * x.shape[1])
        near = x[:, None] + ends
    else:
        image = x.clone().requires_grad_()
        loss = F.softplus(-y * (image @ w.detach() + b)).sum()
        (grad,) = torch.autograd.grad(loss, image)
        near = (x + eps * norms.steepest(grad, "l2"))[:, None]
    return F.softplus(-y[:, None] * (near @ w + b)).amax(dim=1)


def _mistaken(
    given: Tensor,
    worst: Tensor,
    w: Tensor,
    b: Tensor,
    x: Tensor,
    y: Tensor,
    eps: float,
    norm: str,
) -> str:
    """What was probably done where ``given`` are not the worst losses."""
    score = x @ w + b
    sizes = {"1": w.abs().sum(), "2": w.norm(), "infinity": w.abs().max()}
    right = "1" if norm == "linf" else "2"
    less = eps * sizes.pop(right)
    shifted = {
        "This is the loss at the examples themselves. How far can a "
        "perturbation lower the margin?": y * score,
        "You have raised the margins. The adversary wants them small: "
        "mind the sign.": y * score + less,
        "Where is the label? An example with y = -1 is right where "
        "w.x + b is *below* zero.": score - less,
        "The label must not turn the adversary around: it lowers the "
        "margin y (w.x + b) of both classes.": y * (score - less),
        "The norm must not be squared: twice the weights, twice the "
        "harm of the same perturbation.": y * score - less**2 / eps,
    } | {
        f'With norm="{norm}" the harm is not measured by the {name}-norm of '
        "w. How large can w.delta get where delta has length 1?": y * score
        - eps * size
        for name, size in sizes.items()
    }
    found = {hint: F.softplus(-m) for hint, m in shifted.items()}
    found[
        "The loss is not a sum of a clean loss and a penalty. The norm "
        "belongs to the margin, inside of the softplus."
    ] = F.softplus(-y * score) + less
    for hint, losses in found.items():
        if torch.allclose(given, losses, atol=1e-4):
            return hint
    row = int((given - worst).abs().argmax())
    far = "more" if given[row] > worst[row] else "less"
    return (
        f'With norm="{norm}" and eps = {eps} your loss of example {row} is '
        f"{given[row]:.3f}, {far} than the attack finds ({worst[row]:.3f}). "
        "Which perturbation lowers the margin most?"
    )


def trade_off(answer: dict[str, str] | None, truth: dict[str, str]) -> Verdict:
    """Exercise: predicted directions ("up"/"down") against the measured."""
    if answer is None or any(v is None for v in answer.values()):
        return _OPEN
    wrong = [k for k in truth if answer.get(k) != truth[k]]
    if not wrong:
        return Verdict(True, "All directions agree with the measurement.")
    return Verdict(
        False,
        "Not what was measured: " + ", ".join(wrong) + ". Look at the table "
        "again: which column moves which way as eps grows?",
    )


def sample_size(answer: float | None, share: float = 0.9) -> Verdict:
    """Exercise: images for a half width of one point at ``share``."""
    if answer is None:
        return _OPEN
    right = 1.96**2 * share * (1 - share) / 0.01**2
    if abs(answer / right - 1) < 0.03:
        return Verdict(
            True,
            f"About {right:,.0f}. For half a point it would be four times "
            "as many.",
        )
    if abs(answer / right / 4 - 1) < 0.03:
        return Verdict(
            False, "With that many the *whole* interval is one point wide; "
            "its half may be.",
        )  # fmt: skip
    if answer < 1:
        return Verdict(False, "The answer is a number of images, not a share.")
    half = 1.96 * (share * (1 - share) / answer) ** 0.5
    return Verdict(
        False,
        f"With {answer:,.0f} images the half width is {100 * half:.2f} "
        "points, not 1. Solve the formula for n.",
    )


def both_attacks(answer: float | None) -> Verdict:
    """Exercise: robust accuracy from what two attacks leave standing."""
    if answer is None:
        return _OPEN
    if abs(answer - 2 / 6) < 1e-6:
        return Verdict(True, "Two images withstand both attacks.")
    if abs(answer - 3 / 6) < 1e-6:
        return Verdict(
            False,
            "3/6 is what the better attack leaves on its own. The adversary "
            "may choose, for each image, the attack that works.",
        )
    if abs(answer - 5 / 6) < 1e-6:
        return Verdict(
            False, "You counted images that withstand *either* attack."
        )
    return Verdict(
        False, "Count the images that neither attack has fooled: `&`."
    )


def see_through(
    answer: Callable[..., Callable[[Tensor], Tensor] | None],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float = 0.2,
    levels: int = 7,
) -> Verdict:
    """Exercise: the same outputs as behind rounded pixels, with a slope."""
    made = answer(model, levels)
    if made is None:
        return _OPEN
    with torch.no_grad():
        expected = model((x * levels).round() / levels)
        same = torch.allclose(made(x), expected, atol=1e-4)
    if not same:
        return Verdict(
            False,
            "Its outputs differ from those of the network behind rounded "
            "pixels. Forward, the rounding has to stay.",
        )
    x_adv = attacks.pgd(made, x, y, eps=eps, steps=20)
    with torch.no_grad():
        left = float((made(x_adv).argmax(1) == y).float().mean())
        before = float((expected.argmax(1) == y).float().mean())
    if left > before / 2:
        return Verdict(
            False,
            f"The outputs are right, but PGD at eps = {eps} still leaves "
            f"{100 * left:.0f} % standing of the {100 * before:.0f} % right "
            "before: the gradient is blind. "
            "Let it flow around the rounding.",
        )
    return Verdict(
        True,
        f"PGD leaves {100 * left:.0f} % standing of the {100 * before:.0f} % "
        "right before: there was no robustness.",
    )
