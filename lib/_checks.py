"""Checks of the arguments that every attack and evaluation shares."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_images(x: Tensor, *, box: bool = True) -> None:
    """Raise ``ValueError`` unless ``x`` is a sound batch of images.

    Sound: a floating-point tensor of shape (n, ...) with n >= 1, finite,
    and, where ``box`` is true, with every value in [0, 1].
    """
    if not isinstance(x, Tensor) or x.dim() < 2:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"images must be a tensor of shape (n, ...), got {shape}; "
            "for one image use x[None]"
        )
    if x.numel() == 0:
        raise ValueError("the batch of images is empty")
    if not x.is_floating_point():
        raise ValueError(
            f"images must be floating-point numbers in [0, 1], not {x.dtype}; "
            "for integer pixels use x.float() / 255"
        )
    # one pass over the pixels; NaN comes through as both bounds
    low, high = (bound.item() for bound in x.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("images hold NaN or infinite values")
    if box and not (low >= 0 and high <= 1):
        raise ValueError(
            f"pixels must lie in [0, 1], these lie in [{low:.3g}, {high:.3g}];"
            " normalisation belongs inside the model"
        )


def check_labels(y: Tensor, n: int, classes: int | None = None) -> None:
    """Raise ``ValueError`` unless ``y`` holds n class numbers.

    Class numbers are integers in 0 .. classes - 1 (the upper end is checked
    where ``classes`` is given).
    """
    if not isinstance(y, Tensor) or y.shape != (n,):
        shape = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(
            f"labels must be a tensor of shape ({n},), one for each image; "
            f"got {shape}"
        )
    if y.dtype != torch.long:  # gather and cross_entropy want no other
        raise ValueError(
            f"labels must be integers (torch.long), not {y.dtype}; "
            "convert them with y.long()"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or (classes is not None and high >= classes):
        end = "" if classes is None else f" .. {classes - 1}"
        raise ValueError(
            f"labels must be class numbers 0{end}, these span {low} .. {high}"
        )


def check_logits(logits: Tensor, n: int) -> None:
    """Raise ``ValueError`` unless ``logits`` has shape (n, classes >= 2)."""
    if logits.dim() != 2 or len(logits) != n or logits.shape[1] < 2:
        raise ValueError(
            "the model must return logits of shape (n, classes) with at "
            f"least two classes; got {tuple(logits.shape)} for n = {n}"
        )
