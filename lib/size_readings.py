"""From the records of a size sweep to its curves, gains and crossings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from . import results, runs, sizes, stats
from .evaluation import Accuracy
from .readings import counted
from .results import Record
from .sizes import Longer, Sweep, name_of
from .stats import Mean

Ball = tuple[str, float]


@dataclass(frozen=True)
class Crossing:
    """Where a gain turns into a loss: the size n at which it is zero.

    ``sizes`` has a number for each seed whose gain changes sign for good
    (interpolated in log n between the two sizes around it); ``middle`` is
    their geometric mean, ``low`` and ``high`` its 95 % interval (Student's
    t on log n, None with fewer than two). ``seeds`` counts all seeds,
    ``never`` those that never gain, ``always`` those that still gain with
    all the data.
    """

    sizes: tuple[float, ...]
    seeds: int
    never: int
    always: int
    middle: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def every(self) -> bool:
        """Whether every seed crosses; else ``middle`` is of a selection."""
        return len(self.sizes) == self.seeds


@dataclass(frozen=True)
class SizeGrid:
    """The records of one sweep, read by way to train, ball and size.

    ``way`` and ``ball`` are those of ``sizes.name_of``: ``"standard"`` and
    ``"shift"`` have the ball None. Lists have one entry for each seed.
    """

    sweep: Sweep
    records: Mapping[str, Record]

    @classmethod
    def load(cls, folder: str) -> SizeGrid:
        """The committed records of ``sizes.SWEEPS[folder]["full"]``."""
        sweep = sizes.SWEEPS[folder]["full"]
        return cls(
            sweep,
            {
                name: results.load(f"{folder}/{name}")
                for name, _ in sizes.points(sweep)
            },
        )

    @classmethod
    def load_or_run(cls, folder: str) -> SizeGrid:
        """The sweep as ``BOOK_RUN`` asks for it.

        Smoke runs the tiny sweep, full the whole; a GPU for 15 minutes is
        not enough for that, so ``colab`` reads the committed records.
        """
        if runs.mode() == "colab":
            return cls.load(folder)
        choices = sizes.SWEEPS[folder]
        sweep = choices["smoke" if runs.mode() == "smoke" else "full"]
        return cls(
            sweep,
            results.load_or_run_all(
                folder, dict(sizes.points(sweep)), sizes.train_and_measure
            ),
        )

    @property
    def robust_way(self) -> str:
        """How the robust models were trained: ``"pgd"`` or ``"fgsm"``."""
        return sizes.robust_way(self.sweep)

    def at(self, way: str, ball: Ball | None, n: int) -> list[Record]:
        """The records of one model, seed by seed."""
        return [
            self.records[name_of(way, ball, n, seed)]
            for seed in range(sizes.seeds_of(self.sweep, way))
        ]

    def standard(self, way: str, ball: Ball | None, n: int) -> list[Accuracy]:
        """Standard accuracy."""
        return [
            counted(record.values["standard"])
            for record in self.at(way, ball, n)
        ]

    def robust(
        self,
        way: str,
        ball: Ball | None,
        n: int,
        *,
        under: Ball,
        protocol: str = "quick",
    ) -> list[Accuracy]:
        """Robust accuracy in the ball ``under``, by a named protocol."""
        return [
            counted(_find(record, under, protocol))
            for record in self.at(way, ball, n)
        ]

    def curve(self, way: str, ball: Ball | None) -> list[Mean]:
        """Mean standard accuracy at each size of the sweep."""
        return [
            stats.over_seeds(self.standard(way, ball, n))
            for n in self.sweep.sizes
        ]

    def robust_curve(self, ball: Ball) -> list[Mean]:
        """Mean robust accuracy in the training ball at each size."""
        return [
            stats.over_seeds(self.robust(self.robust_way, ball, n, under=ball))
            for n in self.sweep.sizes
        ]

    def gain(
        self, way: str, ball: Ball | None, n: int, seeds: int | None = None
    ) -> Mean:
        """Standard accuracy minus that of standard training, paired.

        Over all seeds, or over the first ``seeds``.
        """
        return stats.paired(
            self.standard(way, ball, n)[:seeds],
            self.standard("standard", None, n)[:seeds],
        )

    def gains(self, way: str, ball: Ball | None) -> list[Mean]:
        """:meth:`gain` at each size of the sweep."""
        return [self.gain(way, ball, n) for n in self.sweep.sizes]

    def crossing(self, ball: Ball) -> Crossing:
        """Where robust training in ``ball`` stops to help."""
        found: list[float] = []
        never = always = 0
        for seed in range(self.sweep.seeds):
            gaps = [
                self.standard(self.robust_way, ball, n)[seed].value
                - self.standard("standard", None, n)[seed].value
                for n in self.sweep.sizes
            ]
            size = last_zero(self.sweep.sizes, gaps)
            if size is not None:
                found.append(size)
            elif gaps[-1] > 0:
                always += 1
            else:
                never += 1
        return _summary(found, self.sweep.seeds, never, always)

    def missing(self) -> dict[tuple[Ball, int], tuple[Mean, Mean]]:
        """How far each size falls short of all the data, paired by seed.

        For each ball and each size below the full one: robust accuracy of
        robust training, and standard accuracy of standard training.
        """
        *below, full = self.sweep.sizes
        return {
            (ball, n): (
                stats.paired(
                    *(
                        self.robust(self.robust_way, ball, size, under=ball)
                        for size in (full, n)
                    )
                ),
                stats.paired(
                    *(
                        self.standard("standard", None, size)
                        for size in (full, n)
                    )
                ),
            )
            for ball in self.sweep.balls
            for n in below
        }

    def mistakes(self) -> sizes.Mistakes:
        """The test images that the networks of seed 0 got wrong."""
        found = {
            row
            for ball in (None, *self.sweep.balls)
            for n in self.sweep.sizes
            for row, _ in self.errors(ball, n)
        }
        return sizes.Mistakes(
            self.sweep.dataset, self.sweep.n_test, tuple(sorted(found))
        )

    def errors(self, ball: Ball | None, n: int) -> list[tuple[int, int]]:
        """Test image and wrong answer of the first mistakes of seed 0."""
        way = self.robust_way if ball else "standard"
        return self.at(way, ball, n)[0].values["errors"]

    def after(
        self, longer: Longer, way: str, ball: Ball | None
    ) -> list[Accuracy]:
        """Standard accuracy after a longer training, seed by seed."""
        return [
            counted(
                self.records[
                    name_of(f"{longer.word}-{way}", ball, longer.n, seed)
                ].values["standard"]
            )
            for seed in range(longer.seeds)
        ]

    def gain_after(self, longer: Longer, ball: Ball) -> Mean:
        """:meth:`gain` where both networks have trained for longer."""
        return stats.paired(
            self.after(longer, self.robust_way, ball),
            self.after(longer, "standard", None),
        )

    def added(self, longer: Longer, way: str, ball: Ball | None) -> Mean:
        """What the longer training adds to standard accuracy, paired."""
        return stats.paired(
            self.after(longer, way, ball),
            self.standard(way, ball, longer.n)[: longer.seeds],
        )

    def fit(self, way: str, ball: Ball | None, n: int) -> float:
        """Share of training images right in the last epoch, mean over seeds.

        Of the images as training shows them.
        """
        return fmean(
            record.values["history"][-1]["accuracy"]
            for record in self.at(way, ball, n)
        )

    def spent(self, way: str, ball: Ball | None, n: int) -> dict[str, Any]:
        """What the training of one model took, mean over seeds.

        ``passes``: forwards and backwards of one image, both counted;
        ``cpu_seconds``: of the processor, evaluation left out.
        """
        values = [record.values for record in self.at(way, ball, n)]
        passes = [sum(each["passes"].values()) for each in values]
        seconds = [each["training_cpu_seconds"] for each in values]
        return {"passes": fmean(passes), "cpu_seconds": fmean(seconds)}

    def cost(self) -> dict[str, Any]:
        """What the sweep took: models, passes of training, processor hours."""
        values = [record.values for record in self.records.values()]
        training = sum(each["training_cpu_seconds"] for each in values)
        whole = sum(each.cost["cpu_seconds"] for each in self.records.values())
        return {
            "models": len(values),
            "passes": sum(sum(each["passes"].values()) for each in values),
            "training_hours": training / 3600,
            "testing_hours": (whole - training) / 3600,
        }


def last_zero(sizes: tuple[int, ...], gaps: list[float]) -> float | None:
    """The size at which ``gaps`` falls through zero for the last time.

    Interpolated linearly in log n. None where the last gap is positive, or
    no gap is.
    """
    if gaps[-1] > 0 or max(gaps) <= 0:
        return None
    k = max(i for i, gap in enumerate(gaps) if gap > 0)
    share = gaps[k] / (gaps[k] - gaps[k + 1])
    low, high = math.log(sizes[k]), math.log(sizes[k + 1])
    return math.exp(low + share * (high - low))


def _summary(
    found: list[float], seeds: int, never: int, always: int
) -> Crossing:
    if not found:
        return Crossing((), seeds, never, always)
    logs = [math.log(size) for size in found]
    if len(logs) == 1:
        return Crossing(tuple(found), seeds, never, always, found[0])
    middle = stats.mean(logs)
    return Crossing(
        tuple(found), seeds, never, always,
        *(math.exp(part) for part in (middle.value, middle.low, middle.high)),
    )  # fmt: skip


def _find(record: Record, under: Ball, protocol: str) -> dict[str, Any]:
    for row in record.values["robust"]:
        same = row["norm"] == under[0] and abs(row["eps"] - under[1]) < 1e-9
        if same and row["protocol"] == protocol:
            return row
    raise results.RecordError(
        f"{record.name} was not attacked with {protocol} in {under}"
    )
