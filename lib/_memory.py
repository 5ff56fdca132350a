"""How memory is held during heavy work on a CPU.

Call ``keep_freed_memory()`` where heavy work begins (``pgd``, training and
evaluation do); it acts once in a process and costs nothing afterwards.
``channels_last()`` lays out a model's weights while a long evaluation runs.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

# mallopt(3) of the GNU C library
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SIZES = (1 << 30, 1 << 25)  # bytes; before 2.35 it allows 32 MB at most


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
