"""Which images come when, and where from: the same for any processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .processes import World

Examples = tuple[Tensor, Tensor] | Dataset[Any]


def order(n: int, length: int, epoch: int, seed: int) -> Tensor:
    """Which of ``n`` images an epoch sees, in order; shape (length,).

    Permutations of all images follow each other without end, and an epoch
    is a stretch of ``length``. With ``length == n`` each epoch is one
    permutation, the same as in :func:`lib.training.train`.
    """
    first, last = epoch * length, (epoch + 1) * length
    draw = torch.Generator().manual_seed(seed)
    passes = [torch.randperm(n, generator=draw) for _ in range(-(-last // n))]
    begin = first // n
    return torch.cat(passes[begin:])[first - begin * n : last - begin * n]


def shards_of(batch: Tensor, shards: int, world: World) -> list[Tensor]:
    """The parts of ``batch`` (rows of the data) that this process computes.

    The batch is cut into ``shards`` parts of equal size, give or take one
    row; every process gets as many parts as the others.
    """
    each = shards // world.size
    parts = batch.tensor_split(shards)
    return list(parts[world.rank * each : (world.rank + 1) * each])


def mixed_seed(*parts: int) -> int:
    """One seed, below 2**56, made of several numbers."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def stream(
    examples: Examples,
    parts: list[Tensor],
    epoch: int,
    workers: int,
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels of each part in turn, on ``device``."""
    if isinstance(examples, tuple):
        x, y = examples
        for part in parts:
            part = part.to(x.device)
            yield x[part].to(device), y[part].to(device)
        return
    if hasattr(examples, "epoch"):
        examples.epoch = epoch
    loader = DataLoader(
        examples, batch_sampler=[part.tolist() for part in parts],
        num_workers=workers, pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # else the global one is advanced
    )  # fmt: skip
    for x, y in loader:
        yield x.to(device, non_blocking=True), y.to(device, non_blocking=True)


def count(examples: Examples) -> int:
    """How many examples there are."""
    if isinstance(examples, tuple):
        return len(examples[0])
    return len(examples)  # type: ignore[arg-type]  # by contract it has one


def is_colour(examples: Examples) -> bool:
    """Whether an image has several channels, (c, h, w) with c > 1."""
    image = examples[0][0]  # the same for tensors and for pairs
    return image.dim() == 3 and image.shape[0] > 1


def labels(examples: Examples) -> Tensor:
    """All labels (n,); a dataset keeps them in ``targets``."""
    if isinstance(examples, tuple):
        return examples[1]
    own = examples.targets  # type: ignore[attr-defined]  # by contract
    return torch.as_tensor(own)


def fingerprint(examples: Examples) -> str:
    """A hash of all labels and, of tensors, of about a hundred images."""
    digest = hashlib.sha256(labels(examples).cpu().numpy().tobytes())
    if isinstance(examples, tuple):
        few = examples[0][:: max(1, count(examples) // 100)]
        digest.update(few.float().cpu().numpy().tobytes())
    return digest.hexdigest()
