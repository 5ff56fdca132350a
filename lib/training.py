"""Training: the outer minimisation of the standard and robust objectives.

One loop for four methods (section 2 and Table 4 of the paper):

``standard``     clean images (equation 1)
``adversarial``  PGD images only (equation 2)
``half``         one half of every batch clean, the other half PGD images
``random``       uniform random perturbations in the same ball

Long runs save themselves after every epoch and resume.
"""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import models, results
from ._checks import check_images, check_labels
from .attacks import pgd
from .evaluation import accuracy, count_passes
from .norms import check_eps, check_norm, random_in_ball

METHODS = ("standard", "adversarial", "half", "random")


class TrainingCollapsed(RuntimeError):
    """The model has become a constant; the message says what to change."""


@dataclass(frozen=True)
class Recipe:
    """Every setting of a training run that changes its result.

    ``eps`` and ``norm`` are those of the training perturbations; ``steps``
    PGD steps of ``rel_step * eps / steps`` each. ``eps`` grows linearly
    from 0 over ``warmup`` (a fraction of all updates), without which
    training at eps = 0.3 on MNIST can stay at chance. Adam with a one-cycle
    learning rate that peaks at ``lr``. ``precision`` is that of the passes
    in training, ``"float32"`` or ``"bfloat16"`` (weights stay float32).
    Perturbations are crafted with the model in evaluation mode if
    ``craft_mode`` is ``"eval"``. ``augment="crop-flip"`` shifts every image
    by up to 4 pixels and mirrors half of them before they are perturbed.
    """

    model: str = "small_cnn"
    method: str = "standard"
    norm: str = "linf"
    eps: float = 0.0
    steps: int = 5
    rel_step: float = 2.5
    epochs: int = 6
    batch_size: int = 128
    lr: float = 2e-3
    warmup: float = 0.3
    precision: str = "float32"
    craft_mode: str = "eval"
    seed: int = 0
    augment: str = results.later("none")

    def __post_init__(self) -> None:
        check_norm(self.norm)
        check_eps(self.eps)
        if self.method not in METHODS:
            raise ValueError(
                f"method must be one of {', '.join(METHODS)}, "
                f"not {self.method!r}"
            )
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError('precision must be "float32" or "bfloat16"')
        if self.craft_mode not in ("eval", "train"):
            raise ValueError('craft_mode must be "eval" or "train"')
        if self.augment not in ("none", "crop-flip"):
            raise ValueError('augment must be "none" or "crop-flip"')
        if min(self.epochs, self.batch_size, self.steps) < 1:
            raise ValueError("epochs, batch_size and steps must be >= 1")
        if not (0 < self.lr < math.inf and 0 < self.rel_step < math.inf):
            raise ValueError("lr and rel_step must be finite and > 0")
        if not 0 <= self.warmup <= 1:
            raise ValueError("warmup is a share of the run, in [0, 1]")


def perturb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    eps: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The images that a batch is trained on, for the recipe's method.

    ``x`` (n, ...) in [0, 1], ``y`` (n,); returns a tensor shaped like
    ``x``. ``half`` perturbs the second half of the batch. ``eps`` is given
    apart because it grows during warm-up.
    """
    if recipe.method == "standard" or eps == 0:
        return x
    if recipe.method == "random":
        noise = random_in_ball(x, eps, recipe.norm, generator)
        return (x + noise).clamp(0, 1)
    kept = len(x) // 2 if recipe.method == "half" else 0
    modes = [(module, module.training) for module in model.modules()]
    model.train(recipe.craft_mode == "train")
    try:
        worst = pgd(
            model, x[kept:], y[kept:], eps=eps, norm=recipe.norm,
            steps=recipe.steps, step_size=recipe.rel_step * eps / recipe.steps,
            keep="last", generator=generator,
        )  # fmt: skip
    finally:
        for module, mode in modes:
            module.training = mode
    return torch.cat([x[:kept], worst])


def crop_flip(
    x: Tensor, generator: torch.Generator | None = None, pad: int = 4
) -> Tensor:
    """Random shifts by up to ``pad`` pixels (black comes in), random mirror.

    The usual augmentation of CIFAR-10 for a batch ``x`` (n, c, h, w), every
    image on its own; ``generator`` is on the device of ``x``.
    """
    n, _, height, width = x.shape
    options = {"generator": generator, "device": x.device}
    shift = torch.randint(0, 2 * pad + 1, (2, n, 1), **options)
    mirrored = torch.rand(n, 1, **options) < 0.5
    rows = shift[0] + torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device).expand(n, -1)
    columns = shift[1] + torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(n, device=x.device)[:, None, None]
    padded = F.pad(x, [pad] * 4)
    picked = padded[image, :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


class _Run:
    """The state of one training run, which a file can hold and restore."""

    def __init__(self, x: Tensor, y: Tensor, recipe: Recipe, options: dict):
        self.recipe = recipe
        self.model = models.build(recipe.model, seed=recipe.seed, **options)
        self.model.to(x.device, x.dtype)
        if x.dim() == 4 and x.shape[1] > 1:
            self.model.to(memory_format=torch.channels_last)
        batches = -(-len(x) // recipe.batch_size)
        self.updates = recipe.epochs * batches
        self.optimiser = torch.optim.Adam(self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, recipe.lr, total_steps=self.updates
        )
        # two streams: the order of the images and the random starts
        self.order = torch.Generator().manual_seed(recipe.seed)
        self.noise = torch.Generator(x.device).manual_seed(recipe.seed)
        self.images = _fingerprint(x, y)
        self.update = 0
        self.history: list[dict] = []

    def eps(self) -> float:
        """The radius at this update, after warm-up."""
        ramp = self.recipe.warmup * self.updates
        share = 1.0 if ramp <= 0 else min(1.0, (self.update + 1) / ramp)
        return self.recipe.eps * share

    def save(self, path: Path) -> None:
        state = {
            "recipe": asdict(self.recipe), "updates": self.updates,
            "images": self.images,
            "model": self.model.state_dict(), "update": self.update,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.order.get_state(), "noise": self.noise.get_state(),
            "history": self.history,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)  # a killed run leaves the old file whole

    def restore(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} is damaged and cannot be resumed from; delete it to "
                "start again, or give another file"
            ) from error
        if (state["recipe"], state["updates"], state.get("images")) != (
            asdict(self.recipe), self.updates, self.images,
        ):  # fmt: skip
            raise ValueError(
                f"{path} holds a run with other settings or other images; "
                "delete it or give another file"
            )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.order.set_state(state["order"])
        self.noise.set_state(state["noise"])
        self.update, self.history = state["update"], state["history"]


def _fingerprint(x: Tensor, y: Tensor) -> str:
    """A hash of the labels and of about a hundred images."""
    few = x[:: max(1, len(x) // 100)].float().cpu().numpy()
    return hashlib.sha256(
        few.tobytes() + y.cpu().numpy().tobytes()
    ).hexdigest()


def train(
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    held_out: tuple[Tensor, Tensor] | None = None,
    resume: Path | None = None,
    progress: bool = True,
    on_epoch: Callable[[nn.Module, dict], None] | None = None,
    **options: int,
) -> tuple[nn.Sequential, list[dict]]:
    """Train ``recipe.model`` on ``x`` (n, ...) in [0, 1] and ``y`` (n,).

    Args:
        held_out: images and labels whose standard accuracy is noted after
            each epoch (not used for training or for choosing anything).
        resume: file that holds the run's state; written after each epoch,
            continued from if it exists.
        progress: show a progress bar with loss, accuracies, time left.
        on_epoch: called with the model and the epoch's row of the history.
        options: for the model's function, such as ``classes``.

    Returns:
        The model in evaluation mode and one row for each epoch: ``loss``
        and ``accuracy`` on the images trained on, ``eps``, the images
        passed ``forwards`` and ``backwards``, ``seconds``, and
        ``held_out_accuracy``.

    Raises:
        TrainingCollapsed: the model stays at chance once the warm-up is over.
        ValueError: unsound images, labels or a resume file of another run.
    """
    check_images(x)
    check_labels(y, len(x), options.get("classes", 10))
    run = _Run(x, y, recipe, options)
    if resume is not None and resume.exists():
        run.restore(resume)
    bar = tqdm(
        total=run.updates, initial=run.update, disable=not progress,
        desc=f"{recipe.method} eps={recipe.eps:.3g}", leave=False,
    )  # fmt: skip
    with bar:
        for epoch in range(len(run.history), recipe.epochs):
            began = time.perf_counter()
            with count_passes(run.model) as passes:
                row = {"epoch": epoch + 1, **_epoch(run, x, y, bar)}
            row |= asdict(passes)
            row["seconds"] = round(time.perf_counter() - began, 3)
            run.model.eval()
            if held_out is not None:
                row["held_out_accuracy"] = accuracy(run.model, *held_out).value
            run.history.append(row)
            _stop_if_collapsed(run, y, row)
            if on_epoch is not None:
                on_epoch(run.model, row)
            if resume is not None:
                run.save(resume)
    run.model.eval()
    return run.model, run.history


def _epoch(run: _Run, x: Tensor, y: Tensor, bar: tqdm) -> dict:
    """One pass over the data in a fresh random order."""
    run.model.train()
    total, right, seen = torch.zeros((), device=x.device), 0, 0
    eps = 0.0
    rows = torch.randperm(len(x), generator=run.order).to(x.device)
    for part in rows.split(run.recipe.batch_size):
        eps = run.eps()
        loss, hits = _update(run, x[part], y[part], eps)
        total, right = total + loss * len(part), right + hits
        seen += len(part)
        bar.update()
        if run.update % 50 == 0:  # reading a value back waits for the device
            bar.set_postfix(
                loss=f"{loss.item():.3f}", eps=f"{eps:.3f}",
                accuracy=f"{int(right) / seen:.1%}",
            )  # fmt: skip
    return {
        "loss": float(total) / len(x),
        "accuracy": int(right) / len(x),
        "eps": eps,
    }


def _update(
    run: _Run, x: Tensor, y: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """One step of the optimiser; the loss and the number of hits."""
    half = torch.autocast(
        x.device.type, torch.bfloat16,
        enabled=run.recipe.precision == "bfloat16",
    )  # fmt: skip
    if run.recipe.augment == "crop-flip":
        x = crop_flip(x, run.noise)
    if x.dim() == 4 and x.shape[1] > 1:  # colour: the faster layout
        x = x.contiguous(memory_format=torch.channels_last)
    with half:
        x_adv = perturb(run.model, x, y, run.recipe, eps, run.noise)
        logits = run.model(x_adv).float()
    loss = F.cross_entropy(logits, y)
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    run.optimiser.step()
    run.schedule.step()
    run.update += 1
    return loss.detach(), (logits.argmax(dim=1) == y).sum()


def _stop_if_collapsed(run: _Run, y: Tensor, row: dict) -> None:
    """Raise once the warm-up is over and the model is still at chance."""
    warm = run.update > 1.2 * run.recipe.warmup * run.updates
    largest = int(y.bincount().max()) / len(y)
    # a constant gets the largest class right; a fifth above it is learning
    # (half the way to 100 % where a fifth would be more than that)
    learning = min(1.2 * largest, (1 + largest) / 2)
    if run.update >= 200 and warm and row["accuracy"] < learning:
        raise TrainingCollapsed(
            f"after {run.update} updates only {row['accuracy']:.1%} of the "
            "training images are classified correctly, no better than a "
            "constant. Lower lr, raise warmup (the share of the run over "
            "which eps grows), or lower eps."
        )
