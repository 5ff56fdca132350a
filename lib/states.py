"""Files that hold an unfinished run, written whole or not at all.

The first line is the SHA-256 of the rest, which is what ``torch.save``
writes.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ._files import write_whole
from ._memory import no_memory


def write(path: Path, state: dict[str, Any]) -> None:
    """Save tensors and plain values; a killed run leaves the old file whole.

    The folder of ``path`` is made where it does not exist. Raises
    ``OSError`` with advice where nothing can be written.
    """
    file = io.BytesIO()
    torch.save(state, file)
    content = file.getvalue()
    write_whole(path, _digest(content) + b"\n" + content)


@contextmanager
def opened(path: Path) -> Iterator[dict[str, Any]]:
    """What :func:`write` saved, on the CPU; nothing in it is executed.

    Raises ``ValueError`` for a file that was altered or cut short, and where
    the caller does not find in it what it looks for (``KeyError``,
    ``TypeError``, ``RuntimeError``): another version of the code wrote it.
    Where the memory ends, that error is left as it is.
    """
    digest, _, content = path.read_bytes().partition(b"\n")
    damaged = ValueError(
        f"{path} is damaged, or from another version of the code, and cannot "
        "be resumed from; delete it to start again, or name another"
    )
    if digest != _digest(content):
        raise damaged
    try:
        yield torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
    except (
        EOFError, KeyError, RuntimeError, TypeError, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        if no_memory(error):
            raise
        raise damaged from error


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
