"""Files that hold an unfinished training run, written whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch


def write(path: Path, state: dict[str, Any]) -> None:
    """Save tensors and plain values; a killed run leaves the old file whole.

    The folder of ``path`` is made where it does not exist.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def read(path: Path) -> dict[str, Any]:
    """What :func:`write` saved, on the CPU; nothing in it is executed.

    Raises ``ValueError`` for a damaged file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path} is damaged and cannot be resumed from; delete it to "
            "start again, or name another"
        ) from error
