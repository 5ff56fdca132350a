"""The processes that ``torchrun`` starts, and what they say to each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from . import runs

COMMAND = "torchrun --standalone --nproc-per-node=2"
FRESH_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"
_ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR",
                "MASTER_PORT")  # fmt: skip


@dataclass(frozen=True)
class World:
    """This process among ``size``: its number ``rank`` and its device.

    The default is a process on its own, which needs no ``torchrun``.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def total(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over all processes, on every one of them."""
        values = values.clone()
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agree(self, what: str, value: Any) -> None:
        """Raise ``RuntimeError`` unless ``value`` is the same everywhere."""
        if self.size == 1:
            return
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        if any(other != found[0] for other in found):
            seen = "\n".join(f"  {i}: {one}" for i, one in enumerate(found))
            raise RuntimeError(
                f"the processes do not have the same {what}:\n{seen}\n"
                "All machines need the same code and data, and the output "
                "folder has to lie on a disk that they share."
            )


@contextmanager
def connect(backend: str | None = None) -> Iterator[World]:
    """Join the processes that ``torchrun`` has started, for one block.

    ``backend``: ``"nccl"`` (one GPU for each process), ``"gloo"`` (CPU) or
    None, which takes nccl where there is a GPU. Without ``torchrun`` the
    world is this process. Raises ``RuntimeError`` where only a part of
    torchrun's environment is there, restarts would not work, the backend
    is missing, or a machine has fewer GPUs than processes.
    """
    missing = [name for name in _ENVIRONMENT if name not in os.environ]
    if len(missing) == len(_ENVIRONMENT):
        yield World(device=torch.device("cpu") if backend == "gloo"
                    else runs.device())  # fmt: skip
        return
    if missing:
        raise RuntimeError(
            f"{', '.join(missing)} must be set as well. torchrun sets them: "
            f"{COMMAND} tools/train_distributed.py ... (for one process run "
            "the script with python, with none of "
            f"{', '.join(_ENVIRONMENT)} set)"
        )
    _check_restarts()
    backend = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    device = _device(backend, int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(backend)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def _check_restarts() -> None:
    """Raise where a restarted worker would find addresses of dead ones.

    The processes meet in a store of torchrun's, which newer versions keep
    over a restart with all it holds (pytorch issue 135712).
    """
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if kept and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0:
        raise RuntimeError(
            f"--max-restarts needs {FRESH_STORE} before the command: "
            f"{FRESH_STORE} {COMMAND} --max-restarts=3 "
            "tools/train_distributed.py ..."
        )


def _device(backend: str, local_rank: int) -> torch.device:
    """The device of process ``local_rank`` of this machine."""
    if backend not in ("gloo", "nccl"):
        raise RuntimeError(
            f'backend must be "gloo" or "nccl", not {backend!r}'
        )
    built = dist.is_available() and (
        dist.is_gloo_available()
        if backend == "gloo" else dist.is_nccl_available()
    )  # fmt: skip
    if not built:
        raise RuntimeError(
            f"this build of torch {torch.__version__} has no {backend}; "
            "choose the other backend (--backend gloo or nccl), or run one "
            "process with python instead of torchrun"
        )
    if backend == "gloo":
        return torch.device("cpu")
    gpus = torch.cuda.device_count()
    if local_rank >= gpus:
        raise RuntimeError(
            f"process {local_rank} of this machine has no GPU, there are "
            f"{gpus}: start torchrun with --nproc-per-node={max(1, gpus)}, or "
            "use --backend gloo for CPUs"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
