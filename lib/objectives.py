"""What one update descends: a loss for each method of training.

A method turns a batch into a loss. ``METHODS`` holds, under its name, a
function of ``(run, x, y, eps)`` that returns the loss and the logits by
which the batch's hits are counted; ``run`` is the :class:`training.Run`
with its ``model``, ``recipe`` and random ``noise``.

``standard``     clean images (equation 1)
``adversarial``  PGD images only (equation 2); with one step, FGSM with a
                 random start (Wong et al., 2020)
``half``         one half of every batch clean, the other half PGD images
``random``       uniform random perturbations in the same ball
``gaussian``     Gaussian noise of deviation ``eps`` in every pixel, not cut
                 to [0, 1], as for smoothed classifiers (Cohen et al., 2019)
``free``         perturbations that move along with the weights, both from
                 one gradient (Shafahi et al., 2019)
``trades``       cross-entropy of the clean images plus ``beta`` times how
                 far the answers can be moved (Zhang et al., 2019)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attacks import pgd
from .norms import project, random_in_ball, steepest

if TYPE_CHECKING:
    from .recipes import Recipe
    from .training import Run


def on_images(
    run: Run, x: Tensor, y: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the images that :func:`perturb` returns."""
    x_adv = perturb(run.model, x, y, run.recipe, eps, run.noise)
    logits = run.model(x_adv).float()
    return F.cross_entropy(logits, y), logits


def free(run: Run, x: Tensor, y: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy at the perturbation left by the update before.

    One pass back gives the gradient to the weights and to the images. The
    perturbation then takes its step for the next update, which sees the
    same batch (``recipe.replays``) or starts the next one from there.
    """
    if run.delta is None:  # as many rows as a full batch
        run.delta = torch.zeros_like(x)
    delta = run.delta[: len(x)]
    # cut to the pixel box outside the graph: clamp can hide the gradient
    x_adv = (x + delta).clamp(0, 1).requires_grad_()

    def climb(grad: Tensor) -> None:
        step = run.recipe.step_size(eps) * steepest(grad, run.recipe.norm)
        delta.copy_(project(delta + step, eps, run.recipe.norm))

    x_adv.register_hook(climb)
    logits = run.model(x_adv).float()
    return F.cross_entropy(logits, y), logits


def trades(
    run: Run, x: Tensor, y: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy on clean images plus ``beta`` times the divergence.

    The divergence is KL(p(x) || p(x_adv)) between the answers on the clean
    image and on the one in the ball where it is largest (equation 5 of
    Zhang et al., with the divergence their experiments use).
    """
    logits = run.model(x).float()
    loss = F.cross_entropy(logits, y)
    if run.recipe.beta == 0 or eps == 0:
        return loss, logits
    x_adv = furthest(run.model, x, run.recipe, eps, run.noise)
    moved = _divergence(run.model(x_adv).float(), logits) / len(x)
    return loss + run.recipe.beta * moved, logits


METHODS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "standard": on_images,
    "adversarial": on_images,
    "half": on_images,
    "random": on_images,
    "gaussian": on_images,
    "free": free,
    "trades": trades,
}


def perturb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    eps: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The images that a batch is trained on, for the first five methods.

    ``x`` (n, ...) in [0, 1], ``y`` (n,); returns a tensor shaped like
    ``x``. ``half`` perturbs the second half of the batch. ``eps`` is given
    apart because it grows during warm-up.
    """
    if recipe.method == "standard" or eps == 0:
        return x
    if recipe.method == "random":
        noise = random_in_ball(x, eps, recipe.norm, generator)
        return (x + noise).clamp(0, 1)
    if recipe.method == "gaussian":
        noise = torch.randn(
            x.shape, generator=generator, device=x.device, dtype=x.dtype
        )
        return x + eps * noise
    kept = len(x) // 2 if recipe.method == "half" else 0
    with _mode_for_crafting(model, recipe):
        worst = pgd(
            model, x[kept:], y[kept:], eps=eps, norm=recipe.norm,
            steps=recipe.steps, step_size=recipe.step_size(eps),
            keep="last", generator=generator,
        )  # fmt: skip
    return torch.cat([x[:kept], worst])


def furthest(
    model: nn.Module,
    x: Tensor,
    recipe: Recipe,
    eps: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Images in the ball whose answers diverge most from those on ``x``.

    PGD without labels, from a random start (at ``x`` itself the divergence
    has no gradient); returns a tensor shaped like ``x`` (n, ...).
    """
    with _mode_for_crafting(model, recipe):
        with torch.no_grad():
            clean = model(x).float()
        start = random_in_ball(x, eps, recipe.norm, generator)
        x_adv = (x + start).clamp(0, 1)
        for _ in range(recipe.steps):
            x_adv.requires_grad_()
            apart = _divergence(model(x_adv).float(), clean)
            (grad,) = torch.autograd.grad(apart, x_adv)
            step = recipe.step_size(eps) * steepest(grad, recipe.norm)
            delta = project(x_adv.detach() - x + step, eps, recipe.norm)
            x_adv = (x + delta).clamp(0, 1)
    return x_adv


def _divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """KL(p_clean || p), summed over the batch; both logits (n, classes)."""
    p, q = clean.log_softmax(dim=1), logits.log_softmax(dim=1)
    return F.kl_div(q, p, reduction="sum", log_target=True)


@contextmanager
def _mode_for_crafting(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """The recipe's mode inside, every layer's own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(recipe.craft_mode == "train")
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def shift(
    x: Tensor,
    generator: torch.Generator | None = None,
    *,
    pad: int,
    mirror: bool = False,
) -> Tensor:
    """Every image moved by up to ``pad`` pixels, on its own; black comes in.

    The usual augmentation for a batch ``x`` (n, c, h, w); with ``mirror``
    half of the images are mirrored too. ``generator`` is on the device of
    ``x``; returns a tensor shaped like ``x``.
    """
    n, _, height, width = x.shape
    options: dict[str, Any] = {"generator": generator, "device": x.device}
    moved = torch.randint(0, 2 * pad + 1, (2, n, 1), **options)
    rows = moved[0] + torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device).expand(n, -1)
    if mirror:
        mirrored = torch.rand(n, 1, **options) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    columns = moved[1] + columns
    image = torch.arange(n, device=x.device)[:, None, None]
    padded = F.pad(x, [pad] * 4)
    picked = padded[image, :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)
