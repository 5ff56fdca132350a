"""A protocol at work: who still stands, what was seen, how far it has come.

:func:`lib.evaluation.robust_accuracy` drives it. A file can hold it whole,
so that a killed run goes on where it was (see :mod:`lib.states`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import states
from ._memory import batches, in_parts
from .attacks import _into_box, margin
from .counting import Passes
from .norms import project, random_in_ball
from .protocols import Pgd, Probe, Stage
from .sanity import black_box_check

TENSORS = ("x_adv", "gap", "before", "point", "near", "rows")
COUNTS = ("done", "seed", "entered", "log", "probe")


class Cascade:
    """One protocol on the images ``x`` (n, ...) with labels ``y`` (n,).

    ``x_adv`` and ``gap`` hold the worst point of each example and its
    margin (``before``: as it was when the stage that runs now began),
    ``point`` and ``near`` the same for the race that runs now,
    ``others`` (n, classes - 1) the wrong classes, likeliest first. ``rows``
    are the examples of the stage that runs now, ``done`` of them attacked;
    ``log`` has a line for each stage: examples ``tried`` and ``fooled``.
    """

    def __init__(
        self, x: Tensor, y: Tensor, logits: Tensor,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        kind = torch.promote_types(x.dtype, torch.float32)
        self.x, self.y, self.generator = x, y, generator
        self.x_adv, self.gap = x.clone(), margin(logits.to(kind), y)
        self.point, self.before = x.clone(), self.gap
        self.near = torch.full_like(self.gap, torch.inf)
        wrong = logits.scatter(1, y[:, None], -torch.inf)
        self.others = wrong.argsort(dim=1, descending=True)[:, :-1]
        self.rows = torch.empty(0, dtype=torch.long, device=x.device)
        self.done, self.seed, self.entered = 0, 0, False
        self.log: list[dict[str, Any]] = []
        self.probe = {"tried": 0, "fooled": 0, "nearer": 0}

    @property
    def masked(self) -> bool:
        """Whether queries alone have found what gradients had missed."""
        return not black_box_check(**self.probe).passed

    def run(
        self, model: nn.Module, stages: tuple[Stage, ...], *, eps: float,
        norm: str, batch_size: int, after: Callable[[], None],
    ) -> None:  # fmt: skip
        """Work through the stages; ``after`` is called after each batch."""
        while len(self.log) < len(stages):
            stage = stages[len(self.log)]
            if not self.entered:
                self.enter(stage)
            self.work(
                model, stage, eps=eps, norm=norm, batch_size=batch_size,
                after=after,
            )  # fmt: skip
            tried = self.rows.unique()
            fooled = int((self.gap[tried] <= 0).sum())
            self.log.append({"tried": len(tried), "fooled": fooled})
            if isinstance(stage, Probe) and not stage.masked:
                nearer = int((self.gap < self.before)[tried].sum())
                self.probe = self.log[-1] | {"nearer": nearer}
            self.entered = False

    def enter(self, stage: Stage) -> None:
        """Choose the examples of a stage, and draw what fixes its chance."""
        self.before = self.gap.clone()
        self.rows = stage.choose(self.gap, self.near, self.masked)
        copies = len(self.targets(stage)) if stage.targets else stage.starts
        self.rows = self.rows.repeat(copies)
        # a new race knows nothing; who is left behind is out of the race
        near = torch.full_like(self.near, torch.inf)
        if stage.start == "on":
            near[self.rows] = self.near[self.rows]
        self.near = near
        if not isinstance(stage, Pgd):
            self.seed = int(
                torch.randint(
                    2**62, (), generator=self.generator, device=self.x.device
                )
            )
        self.done, self.entered = 0, True

    def work(
        self, model: nn.Module, stage: Stage, *, eps: float, norm: str,
        batch_size: int, after: Callable[[], None],
    ) -> None:  # fmt: skip
        """Attack those of ``rows`` that have not been attacked yet."""
        starts, goals = self.starts(stage, eps, norm), self.goals(stage)

        def attack(part: slice) -> None:
            self.attack(model, stage, part, starts, goals, eps=eps, norm=norm)
            self.done = part.stop
            after()

        parts = batches(len(self.rows), batch_size, self.done)
        if isinstance(stage, Pgd):  # draws by the batch, and halves it itself
            for part in parts:
                attack(part)
        else:
            in_parts(attack, parts)

    def starts(self, stage: Stage, eps: float, norm: str) -> Tensor:
        """Where each of ``rows`` begins, whatever the size of a batch."""
        x = self.x[self.rows]
        if stage.start == "clean" or len(x) == 0:  # nobody: nothing is drawn
            return x
        if stage.start == "on":
            return self.point[self.rows]
        if stage.start == "worst":
            return self.x_adv[self.rows]
        chance = torch.Generator(x.device).manual_seed(self.seed)
        delta = random_in_ball(x, eps, norm, chance)
        return _into_box(x, project(delta, eps, norm))

    def targets(self, stage: Stage) -> list[int]:
        """The ranks among the wrong classes that this model has."""
        return [k for k in stage.targets if k <= self.others.shape[1]]

    def goals(self, stage: Stage) -> Tensor | None:
        """The class that each of ``rows`` is driven to, if any."""
        if not stage.targets:
            return None
        ranks = torch.tensor(
            self.targets(stage), dtype=torch.long, device=self.rows.device
        )
        each = len(self.rows) // max(1, len(ranks))
        return self.others[self.rows, ranks.repeat_interleave(each) - 1]

    def attack(
        self, model: nn.Module, stage: Stage, part: slice, start: Tensor,
        goals: Tensor | None, *, eps: float, norm: str,
    ) -> None:  # fmt: skip
        """One batch of one stage."""
        rows = self.rows[part]
        point, near = stage.attack(
            model, self.x[rows], self.y[rows], eps=eps, norm=norm,
            start=start[part], target=None if goals is None else goals[part],
            seed=self.seed, generator=self.generator,
        )  # fmt: skip
        # of several copies of an example the one that came nearest counts
        least = torch.full_like(self.gap, torch.inf)
        least.scatter_reduce_(0, rows, near, "amin")
        first = near == least[rows]
        for seen, points in ((self.near, self.point), (self.gap, self.x_adv)):
            new = first & (near < seen[rows])
            points[rows[new]] = point[new]
            seen[rows[new]] = near[new]

    def describe(self, stages: tuple[Stage, ...]) -> list[dict[str, Any]]:
        """A row for each stage: its settings, and what came of it."""
        rows = []
        for stage, row in zip(stages, self.log, strict=True):
            # every kind of stage is a dataclass
            fields = asdict(stage)  # type: ignore[call-overload]
            kind = {"kind": type(stage).__name__}
            rows.append(kind | json.loads(json.dumps(fields)) | row)
        return rows

    def save(self, path: Path, key: str, passes: Passes) -> None:
        """Write everything to ``path``, whole or not at all."""
        parts = {name: getattr(self, name) for name in (*TENSORS, *COUNTS)}
        chance = self.generator.get_state()
        about = {"key": key, "passes": asdict(passes), "chance": chance}
        states.write(path, parts | about)

    def restore(self, path: Path, key: str, passes: Passes) -> None:
        """Go on where the run that wrote ``path`` was.

        Raises ``ValueError`` for a damaged file or one of another run.
        """
        with states.opened(path) as state:
            if state["key"] != key:
                raise ValueError(
                    f"{path} holds a run with other settings, images or "
                    "weights; delete it or give another file"
                )
            self.generator.set_state(state["chance"])
            for name in TENSORS:
                setattr(self, name, state[name].to(self.x.device))
            for name in COUNTS:
                setattr(self, name, state[name])
            passes.forwards = state["passes"]["forwards"]
            passes.backwards = state["passes"]["backwards"]
