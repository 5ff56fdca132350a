"""Watching a run on images kept out of its training set.

Two things go wrong unseen while a robust model is trained. Robust accuracy
on new images falls again while it still grows on the training set (robust
overfitting, Rice et al., 2020): the best epoch's weights are kept. And
training with one gradient step can end in a model that only withstands one
gradient step (catastrophic overfitting, Wong et al., 2020): a warning.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .attacks import fgsm, pgd
from .data import subset
from .evaluation import accuracy
from .recipes import Recipe

Images = tuple[Tensor, Tensor]


def split(
    x: Tensor, y: Tensor, n: int, seed: int
) -> tuple[Images, Images | None]:
    """Training and validation images: ``n`` of ``x``, drawn at random.

    ``x`` (total, ...), ``y`` (total,). With ``n = 0`` everything is for
    training, in its own order. Raises ``ValueError`` where nothing is left
    to train on.
    """
    if n == 0:
        return (x, y), None
    if n >= len(x):
        raise ValueError(
            f"validation={n} takes all of the {len(x)} training images"
        )
    kept_out = torch.zeros(len(x), dtype=torch.bool)
    kept_out[subset(len(x), n, seed)] = True
    kept_out = kept_out.to(x.device)
    return (x[~kept_out], y[~kept_out]), (x[kept_out], y[kept_out])


def inspect(
    model: nn.Module, images: Images, recipe: Recipe
) -> dict[str, Any]:
    """Accuracies on validation images: for a row of the history.

    ``validation_accuracy`` on clean images, ``validation_fgsm`` under one
    step of 1.25 ``eps`` from a random point and ``validation_pgd`` under ten
    steps, at the recipe's full ``eps``. The random starts are the same at
    every epoch. ``model`` is in evaluation mode.
    """
    x, y = images
    noise = torch.Generator(x.device).manual_seed(recipe.seed)
    ball: dict[str, Any] = {
        "eps": recipe.eps, "norm": recipe.norm, "generator": noise,
    }  # fmt: skip
    one_step = fgsm(
        model, x, y, step_size=1.25 * recipe.eps, random_start=True, **ball
    )
    ten_steps = pgd(model, x, y, steps=10, keep="last", **ball)
    return {
        "validation_accuracy": accuracy(model, x, y).value,
        "validation_fgsm": accuracy(model, one_step, y).value,
        "validation_pgd": accuracy(model, ten_steps, y).value,
    }


def catastrophic(row: dict[str, Any], recipe: Recipe, y: Tensor) -> bool:
    """Does the model withstand one step, and hardly anything else?

    True where FGSM leaves well more than the largest class of the
    validation labels ``y`` and PGD less than a fifth of that. Judged from
    the end of the warm-up on, and only for models trained on gradient
    steps: any standard model looks like this.
    """
    if recipe.method in ("standard", "random") or row["eps"] < recipe.eps:
        return False
    chance = int(y.bincount().max()) / len(y)
    well_more = min(1.5 * chance, (1 + chance) / 2)
    one_step, ten_steps = row["validation_fgsm"], row["validation_pgd"]
    return one_step > well_more and ten_steps < one_step / 5


def advice(row: dict[str, Any]) -> str:
    """What to tell about a row that is :func:`catastrophic`."""
    return (
        f"catastrophic overfitting at epoch {row['epoch']}: on images kept "
        "out of training the model withstands one gradient step "
        f"({row['validation_fgsm']:.1%}) but not ten "
        f"({row['validation_pgd']:.1%}). Lower eps or lr, or take more "
        "steps; the weights of the best epoch are kept."
    )


def best_epoch(history: list[dict[str, Any]]) -> int:
    """Index of the first row with the largest ``validation_pgd``."""
    scores = [row["validation_pgd"] for row in history]
    return scores.index(max(scores))


def has_stalled(history: list[dict[str, Any]], patience: int) -> bool:
    """Whether the last ``patience`` epochs have brought nothing better."""
    if not (patience and history):
        return False
    return len(history) - 1 - best_epoch(history) >= patience
