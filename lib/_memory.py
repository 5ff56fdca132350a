"""How memory is held during heavy work, and what happens where it ends.

Call ``keep_freed_memory()`` where heavy work on a CPU begins (``pgd``,
training and evaluation do); it acts once in a process and costs nothing
afterwards. ``channels_last()`` lays out a model's weights while a long
evaluation runs. ``in_parts()`` halves batches that are too large.
"""

from __future__ import annotations

import ctypes
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from torch import nn

# mallopt(3) of the GNU C library
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SIZES = (1 << 30, 1 << 25)  # bytes; before 2.35 it allows 32 MB at most
# In the messages of allocators: of a CPU, of GPUs, of libraries beneath torch.
_SAID = (
    "DefaultCPUAllocator", "can't allocate memory", "not enough memory",
    "out of memory", "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc",
    "could not create a memory object",
)  # fmt: skip
_Found = TypeVar("_Found")


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep big freed blocks instead of returning them.

    The GNU C library takes blocks above 32 MB at most (128 kB at first)
    straight from the kernel and gives them back when they are freed. Every
    forward pass then has the same activations mapped and filled with zeros
    page by page again, which can cost as much as the arithmetic. Raised
    to 1 GB, both thresholds make it keep and reuse the memory.

    This holds for the whole process, and the process keeps the most
    memory it ever used until it ends. It changes no result. Elsewhere than
    with the GNU C library (macOS, Windows, musl) nothing happens.

    Returns whether the thresholds were raised.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)  # the C library this process already uses
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(
        any(libc.mallopt(option, size) == 1 for size in _SIZES)
        for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD)
    )


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Inside the block, convolutions hold their weights channels last.

    On a CPU a convolution then reads and writes images as they are, where
    it would otherwise rearrange each of them before and after. Results
    change by rounding only. At the end every weight has its own memory
    again, so that nothing of the model is changed.
    """
    held = [(p, p.data) for p in model.parameters() if p.dim() == 4]
    try:
        for p, data in held:
            p.data = data.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for p, data in held:
            p.data = data


def no_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a device ran out of memory.

    torch has a class of its own for a GPU, and a plain ``RuntimeError``
    from the other allocators.
    """
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in _SAID
    )


@contextmanager
def advice(words: str) -> Iterator[None]:
    """Where memory ends inside the block, ``MemoryError`` says ``words``."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if no_memory(error):
            raise MemoryError(words) from error
        raise


def batches(n: int, size: int, first: int = 0) -> list[slice]:
    """Rows ``first`` to n - 1 in batches of ``size``; the last may be smaller.

    Raises ``ValueError`` for a size below 1.
    """
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, not {size}")
    return [slice(at, min(at + size, n)) for at in range(first, n, size)]


def in_parts(
    run: Callable[[slice], _Found], parts: list[slice], *, halve: bool = True
) -> list[_Found]:
    """``run(part)`` for each part, in halves where the memory is too small.

    For work on rows that do not depend on each other; a run that has failed
    is repeated on its halves. ``halve=False``: they do depend on each other.

    Warns once that parts were halved. Raises ``MemoryError`` that says what
    to change where a part cannot be halved.
    """
    found: list[_Found] = []
    waiting, most = parts[::-1], math.inf
    while waiting:
        part = waiting.pop()
        n, middle = part.stop - part.start, (part.start + part.stop) // 2
        if n <= most:
            try:
                found.append(run(part))
                continue
            except (RuntimeError, MemoryError) as error:
                if not no_memory(error):
                    raise
                if n == 1 or not halve:
                    raise MemoryError(_too_small(n, halve)) from error
            # out here nothing holds what the failed run had made any more
            torch.cuda.empty_cache()  # not all libraries take from the cache
            if most == math.inf:
                warnings.warn(
                    "The memory is too small for a batch of this size; "
                    "going on with half of it, which gives the same result.",
                    stacklevel=3,
                )
            most = -(-n // 2)
        waiting += [slice(middle, part.stop), slice(part.start, middle)]
    return found


def _too_small(n: int, halve: bool) -> str:
    """What to change where the memory is too small for ``n`` images."""
    return (
        f"The memory is too small for a batch of {n}"
        + ("" if halve else ", which a layer in training mode mixes, so that "
           "parts of it would give another result")
        + ". First restart the kernel, which frees what other cells and "
        "notebooks hold. If that is not enough: "
        + ("" if halve else "model.eval(), fewer images, ")
        + "smaller images or a smaller network."
    )
