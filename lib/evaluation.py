"""Robust accuracy: how many examples withstand everything that was tried.

Robust accuracy at eps is the share of examples for which *no* point of the
eps-ball is misclassified. An attack can only show an upper bound of it, so
every number here travels with the attack that produced it.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ._checks import check_labels
from ._memory import channels_last, keep_freed_memory
from .attacks import _in_layout_of
from .cascade import Cascade
from .counting import (
    BATCH,
    Accuracy,
    Passes,
    accuracy,
    count_passes,
    predict,
)
from .norms import check_eps, check_norm
from .protocols import Protocol, named
from .sanity import Finding, black_box_check, gradient_checks, sanity_checks

__all__ = [
    "Accuracy", "Finding", "RobustAccuracy", "accuracy", "count_passes",
    "predict", "robust_accuracy", "sanity_checks",
]  # fmt: skip

SAVE_EVERY = 30.0  # seconds between two writes of an unfinished run


@dataclass(frozen=True)
class RobustAccuracy:
    """Robust accuracy with what is needed to read it.

    ``correct`` (n,) says for each example whether it withstood everything,
    ``x_adv`` (n, ...) holds its worst point, ``attack`` what was tried: the
    protocol's name, ``norm``, ``eps`` and a row for each stage with its
    settings, the examples ``tried`` and how many of them it ``fooled``.
    ``forwards`` and ``backwards`` count images passed through the model.
    ``flags`` are the findings that cast doubt on the number; looked for
    only where the protocol says so, and empty where nothing is suspicious.
    """

    correct: Tensor = field(repr=False)
    x_adv: Tensor = field(repr=False)
    attack: dict[str, Any] = field(repr=False)
    forwards: int = 0
    backwards: int = 0
    flags: tuple[Finding, ...] = ()

    @property
    def count(self) -> Accuracy:
        """The counts behind the number, with their 95 % interval."""
        return Accuracy(int(self.correct.sum()), len(self.correct))

    @property
    def accuracy(self) -> float:
        """The share of examples that withstood everything, in [0, 1]."""
        return self.count.value

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval, for the chance in choosing the examples."""
        return self.count.interval

    def __str__(self) -> str:
        doubts = "".join(f"; {finding}" for finding in self.flags)
        return f"{self.count}{doubts}"


def robust_accuracy(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    protocol: str | Protocol = "quick",
    generator: torch.Generator | None = None,
    batch_size: int = BATCH,
    resume: Path | None = None,
    progress: bool = False,
) -> RobustAccuracy:
    """Share of examples that withstand a protocol, worst case for each.

    An example counts as robust if it is classified correctly and so is
    every point that the attacks looked at; one that has fallen is not
    attacked again.

    Args:
        model: maps images to logits; in evaluation mode. Neither it nor
            the global random state is changed. (For colour images on a CPU
            its kernels are held in another layout while this runs.)
        x: images in [0, 1], shape (n, ...). y: true labels (n,).
        eps: radius of the ball. norm: ``"linf"`` or ``"l2"``.
        protocol: ``"quick"`` to illustrate, ``"strong"`` for a claim (with
            red flags), or a :class:`lib.protocols.Protocol`.
        generator: source of chance, on the device of ``x``; by default a
            new one with seed 0.
        batch_size: images in a pass. It changes the result only by
            rounding, unless the protocol has stages of plain PGD.
        resume: file that holds the unfinished run; continued from if it
            exists, and left behind when finished.
        progress: show a progress bar over stages.

    Raises:
        ValueError: for a model in training mode, unsound input, or a file
            of another run.
        OSError: ``resume`` cannot be written, such as on a full disk.
    """
    check_norm(norm)
    check_eps(eps)
    chosen = named(protocol)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if generator is None:
        generator = torch.Generator(x.device).manual_seed(0)
    if x.device.type == "cpu":
        keep_freed_memory()
    stages = chosen.stages if eps > 0 else ()
    with count_passes(model) as passes, _layout(model, x):
        x = _in_layout_of(model, x.detach())
        logits = predict(model, x, batch_size)
        check_labels(y, len(x), logits.shape[1])
        work = Cascade(x, y, logits, generator)
        right = work.gap > 0
        findings = []
        if chosen.diagnose and bool(right.any()):
            findings = gradient_checks(model, x[right], y[right])
        keep = _Keeper(resume, work, passes)
        if resume is not None:
            keep.open(_key(model, x, y, (eps, norm, asdict(chosen)), work))
        with _bar(chosen.name, len(stages), progress) as bar:

            def after() -> None:
                bar.n = len(work.log) + work.done / max(1, len(work.rows))
                bar.set_postfix(standing=int((work.gap > 0).sum()))
                keep()

            work.run(
                model, stages, eps=eps, norm=norm, batch_size=batch_size,
                after=after,
            )  # fmt: skip
        keep(now=True)
    findings.append(black_box_check(**work.probe))
    about = {"protocol": chosen.name, "norm": norm, "eps": eps}
    return RobustAccuracy(
        work.gap > 0, work.x_adv.contiguous(),
        {**about, "stages": work.describe(stages)},
        passes.forwards, passes.backwards,
        tuple(finding for finding in findings if not finding.passed),
    )  # fmt: skip


def _layout(model: nn.Module, x: Tensor) -> AbstractContextManager[object]:
    """On a CPU images with several channels pass faster channels last."""
    if x.device.type == "cpu" and x.dim() == 4 and x.shape[1] > 1:
        return channels_last(model)
    return nullcontext()


def _bar(name: str, stages: int, shown: bool) -> tqdm:
    return tqdm(
        total=stages, desc=name, disable=not shown, leave=False,
        bar_format="{l_bar}{bar}| {elapsed}{postfix}",
    )  # fmt: skip


class _Keeper:
    """Writes a cascade to a file now and then (to none: does nothing)."""

    def __init__(self, path: Path | None, work: Cascade, passes: Passes):
        self.path, self.work, self.passes = path, work, passes
        self.key, self.last = "", time.monotonic()

    def open(self, key: str) -> None:
        self.key = key
        if self.path is not None and self.path.exists():
            self.work.restore(self.path, key, self.passes)

    def __call__(self, now: bool = False) -> None:
        due = time.monotonic() - self.last >= SAVE_EVERY
        if self.path is not None and (now or due):
            self.work.save(self.path, self.key, self.passes)
            self.last = time.monotonic()


def _key(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    settings: tuple[object, ...],
    work: Cascade,
) -> str:
    """A hash of everything that the result depends on."""
    found = hashlib.sha256(json.dumps(settings).encode())
    weights = [part.detach() for part in model.state_dict().values()]
    for part in (x.detach(), y, work.generator.get_state(), *weights):
        found.update(part.cpu().contiguous().view(torch.uint8).numpy())
    return found.hexdigest()
