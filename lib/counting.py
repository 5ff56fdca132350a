"""Counting: predictions, accuracy with its interval, passes of a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ._checks import check_images, check_labels, check_logits
from ._memory import batches, in_parts
from .attacks import margin

BATCH = 250  # larger batches cost more per image on a CPU, not less


@dataclass(frozen=True)
class Accuracy:
    """``correct`` out of ``total``, with a 95 % interval (Wilson, 1927)."""

    correct: int
    total: int

    @property
    def value(self) -> float:
        """The share correct / total, in [0, 1]."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson score interval at 95 %: honest near 0 and 1 as well."""
        n, share, z = self.total, self.value, 1.959964
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
        half *= z / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{100 * self.value:.2f} % "
            f"[{100 * low:.2f}, {100 * high:.2f}] (n = {self.total:,})"
        )


@dataclass
class Passes:
    """Images sent forward through a model, and gradients sent back."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def count_passes(model: nn.Module) -> Iterator[Passes]:
    """Count the images that pass through ``model`` inside the block.

    Hooks watch the model's output, so the code that runs needs no change;
    they are removed at the end. A pass with a gradient to the weights and
    one with a gradient to the input count the same.
    """
    passes = Passes()

    def back(grad: Tensor) -> None:
        passes.backwards += len(grad)

    def forward(
        _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor
    ) -> None:
        passes.forwards += len(output)
        if output.requires_grad:
            output.register_hook(back)

    handle = model.register_forward_hook(forward)
    try:
        yield passes
    finally:
        handle.remove()


def check_eval_mode(model: nn.Module) -> None:
    """Raise ``ValueError`` where a layer of ``model`` is in training mode."""
    if any(module.training for module in model.modules()):
        raise ValueError(
            "the model is in training mode, where dropout and batch norm "
            "make its answers depend on chance and on the batch; call "
            "model.eval() first"
        )


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch_size: int = BATCH) -> Tensor:
    """Logits for ``x`` (n, ...), computed in batches; shape (n, classes).

    Batches that are too large for the memory are halved, with a warning.
    Raises ``ValueError`` for unsound images or a model in training mode.
    """
    check_eval_mode(model)
    check_images(x)
    parts = batches(len(x), batch_size)
    logits = torch.cat(in_parts(lambda part: model(x[part]), parts))
    check_logits(logits, len(x))
    return logits


def margins(
    model: nn.Module, x: Tensor, y: Tensor, batch_size: int = BATCH
) -> Tensor:
    """By how much class ``y`` wins, shape (n,); a tie (0) is an error."""
    logits = predict(model, x, batch_size)
    check_labels(y, len(x), logits.shape[1])
    return margin(logits, y)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> Accuracy:
    """Standard accuracy of ``model`` on ``x`` (n, ...) and ``y`` (n,).

    Raises ``ValueError`` for a model in training mode or unsound input.
    """
    return Accuracy(int((margins(model, x, y) > 0).sum()), len(x))
