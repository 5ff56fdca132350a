"""Training: the outer minimisation of the standard and robust objectives.

One loop for all methods (section 2 and Table 4 of the paper); what sets
them apart is the loss of a batch, in ``objectives``. Settings are a
``Recipe`` (``recipes`` names some).

Long runs save themselves after every epoch and resume.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import models, overfitting, states
from ._checks import check_images, check_labels
from ._memory import advice, keep_freed_memory
from .averaging import WeightAverage
from .evaluation import accuracy, count_passes
from .objectives import METHODS, perturb, shift
from .recipes import Recipe

__all__ = ["Recipe", "Run", "TrainingCollapsed", "perturb", "train"]


class TrainingCollapsed(RuntimeError):
    """The model has become a constant; the message says what to change."""


class Position(Protocol):
    """What a run here has in common with one on several processes."""

    recipe: Recipe
    noise: torch.Generator
    update: int
    updates: int


class Run:
    """The state of one training run, which a file can hold and restore.

    ``delta`` is the perturbation that the method ``free`` carries on;
    ``best`` the weights of the best epoch so far, where there are
    validation images.
    """

    def __init__(
        self, x: Tensor, y: Tensor, recipe: Recipe, options: dict[str, Any]
    ):
        self.recipe = recipe
        self.model = models.build(recipe.model, seed=recipe.seed, **options)
        self.model.to(x.device, x.dtype)
        if x.dim() == 4 and x.shape[1] > 1:
            self.model.to(memory_format=torch.channels_last)
        batches = -(-len(x) // recipe.batch_size)
        self.updates = recipe.epochs * batches * recipe.replays
        self.optimiser = torch.optim.Adam(self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, recipe.lr, total_steps=self.updates
        )
        # two streams: the order of the images and the random starts
        self.order = torch.Generator().manual_seed(recipe.seed)
        self.noise = torch.Generator(x.device).manual_seed(recipe.seed)
        self.images = _fingerprint(x, y)
        self.update = 0
        self.history: list[dict[str, Any]] = []
        self.delta: Tensor | None = None
        self.average: WeightAverage | None = None
        if recipe.averaging:
            self.average = WeightAverage(self.model, recipe.averaging)
        self.best: dict[str, Tensor] = {}

    def eps(self) -> float:
        """The radius at this update, after warm-up."""
        return self.recipe.radius(self.update, self.updates)

    def result(self) -> nn.Sequential:
        """What an epoch has led to, in evaluation mode."""
        model = self.average.model if self.average else self.model
        model.eval()
        return model

    def save(self, path: Path) -> None:
        average = self.average
        state = {
            "recipe": asdict(self.recipe), "updates": self.updates,
            "images": self.images,
            "model": self.model.state_dict(), "update": self.update,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.order.get_state(), "noise": self.noise.get_state(),
            "history": self.history, "delta": self.delta, "best": self.best,
            "average": average.model.state_dict() if average else {},
        }  # fmt: skip
        states.write(path, state)

    def restore(self, path: Path) -> None:
        with states.opened(path) as state:
            # made again, an older recipe has the fields that came later
            recipe = Recipe(**state["recipe"])
            if (recipe, state["updates"], state["images"]) != (
                self.recipe, self.updates, self.images,
            ):  # fmt: skip
                raise ValueError(
                    f"{path} holds a run with other settings or other "
                    "images; delete it or give another file"
                )
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])
            self.order.set_state(state["order"])
            self.noise.set_state(state["noise"])
            self.update, self.history = state["update"], state["history"]
            self.best = state["best"]
            if state["delta"] is not None:
                self.delta = state["delta"].to(self.noise.device)
            if self.average is not None:
                self.average.model.load_state_dict(state["average"])
                self.average.updates = self.update


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
    on_epoch: Callable[[nn.Module, dict[str, Any]], None] | None = None,
    **options: int,
) -> tuple[nn.Sequential, list[dict[str, Any]]]:
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
        The model in evaluation mode (averaged, and of the best epoch, where
        the recipe says so) and one row for each epoch: ``loss`` and
        ``accuracy`` on the images trained on (for ``trades`` on the clean
        ones), ``eps``, the images passed ``forwards`` and ``backwards``,
        ``seconds`` (and of the processor, ``cpu_seconds``),
        ``held_out_accuracy``; with validation images also
        what ``overfitting.inspect`` finds, and ``catastrophic``.

    Raises:
        MemoryError: the batches are too large for the memory.
        TrainingCollapsed: the model stays at chance once the warm-up is over.
        ValueError: unsound images, labels or a resume file of another run.
        OSError: ``resume`` cannot be written, such as on a full disk.

    Warns once of catastrophic overfitting. It does not stop the run: the
    weights of the best epoch are kept anyway.
    """
    check_images(x)
    check_labels(y, len(x), options.get("classes", 10))
    keep_freed_memory()
    (x, y), validation = overfitting.split(
        x, y, recipe.validation, recipe.seed
    )
    run = Run(x, y, recipe, options)
    if resume is not None and resume.exists():
        run.restore(resume)
    bar = tqdm(
        total=run.updates, initial=run.update, disable=not progress,
        desc=f"{recipe.method} eps={recipe.eps:.3g}", leave=False,
    )  # fmt: skip
    with bar:
        while len(run.history) < recipe.epochs and not overfitting.has_stalled(
            run.history, recipe.patience
        ):
            with advice(_too_large(recipe)):
                row = _epoch(run, x, y, bar)
            if held_out is not None:
                right = accuracy(run.result(), *held_out)
                row["held_out_accuracy"] = right.value
            run.history.append(row)
            if validation is not None:
                _validate(run, validation, row)
            stop_if_collapsed(run, y, row)
            if on_epoch is not None:
                on_epoch(run.result(), row)
            if resume is not None:
                run.save(resume)
    model = run.result()
    if run.best:
        model.load_state_dict(run.best)
    return model, run.history


def _too_large(recipe: Recipe) -> str:
    return (
        "The memory is too small for this training. First restart the kernel, "
        "which frees what other cells and notebooks hold. If that is not "
        f"enough, lower the recipe's batch_size (it is {recipe.batch_size}); "
        "it is not halved unasked, as that would train another model."
    )


def _epoch(run: Run, x: Tensor, y: Tensor, bar: tqdm) -> dict[str, Any]:
    """One pass over the data in a fresh random order; its row."""
    began, cpu = time.perf_counter(), time.process_time()
    run.model.train()
    total = torch.zeros((), device=x.device)
    right: int | Tensor = 0
    seen = 0
    eps = 0.0
    rows = torch.randperm(len(x), generator=run.order).to(x.device)
    with count_passes(run.model) as passes:
        for part in rows.split(run.recipe.batch_size):
            batch = prepare(run, x[part]), y[part]
            for _ in range(run.recipe.replays):
                eps = run.eps()
                loss, hits = _update(run, *batch, eps)
                total, right = total + loss * len(part), right + hits
                seen += len(part)
                bar.update()
                if run.update % 50 == 0:  # reading back waits for the device
                    bar.set_postfix(
                        loss=f"{loss.item():.3f}", eps=f"{eps:.3f}",
                        accuracy=f"{int(right) / seen:.1%}",
                    )  # fmt: skip
    return {
        "epoch": len(run.history) + 1, "loss": float(total) / seen,
        "accuracy": int(right) / seen, "eps": eps, **asdict(passes),
        "seconds": round(time.perf_counter() - began, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
    }  # fmt: skip


def prepare(run: Position, x: Tensor) -> Tensor:
    """A batch augmented, and in the memory layout that suits it."""
    if run.recipe.augment == "crop-flip":
        x = shift(x, run.noise, pad=4, mirror=True)
    elif run.recipe.augment == "shift":
        x = shift(x, run.noise, pad=2)
    if x.dim() == 4 and x.shape[1] > 1:  # colour: the faster layout
        x = x.contiguous(memory_format=torch.channels_last)
    return x


def _update(
    run: Run, x: Tensor, y: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """One step of the optimiser; the loss and the number of hits."""
    half = torch.autocast(
        x.device.type, torch.bfloat16,
        enabled=run.recipe.precision == "bfloat16",
    )  # fmt: skip
    with half:
        loss, logits = METHODS[run.recipe.method](run, x, y, eps)
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    run.optimiser.step()
    run.schedule.step()
    run.update += 1
    if run.average is not None:
        run.average.update(run.model)
    return loss.detach(), (logits.argmax(dim=1) == y).sum()


def _validate(
    run: Run, images: tuple[Tensor, Tensor], row: dict[str, Any]
) -> None:
    """Complete the newest row; keep its weights if they are the best."""
    model = run.result()
    row |= overfitting.inspect(model, images, run.recipe)
    row["catastrophic"] = overfitting.catastrophic(row, run.recipe, images[1])
    if overfitting.best_epoch(run.history) == len(run.history) - 1:
        state = model.state_dict().items()
        run.best = {name: value.clone() for name, value in state}
    before = any(each["catastrophic"] for each in run.history[:-1])
    if row["catastrophic"] and not before:
        warnings.warn(overfitting.advice(row), stacklevel=3)


def stop_if_collapsed(
    run: Position, y: Tensor, row: dict[str, Any]
) -> None:
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
