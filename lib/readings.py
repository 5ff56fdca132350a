"""From records to the numbers of tables, figures and verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import results, stats
from .evaluation import Accuracy
from .results import Record
from .stats import Mean


@dataclass(frozen=True)
class TrainingGrid:
    """The records of ``experiments.training_grid``, read by model.

    A model is named without its seed: ``"standard"``,
    ``"linf-0.3-adversarial"``, ``"l2-1.5-half"``. Every method returns one
    accuracy for each seed, in the order of the seeds.
    """

    records: Mapping[str, Record]

    @classmethod
    def load(cls, name: str) -> TrainingGrid:
        """The committed records below ``results/<name>/``."""
        prefix = f"{name}/"
        return cls(
            {
                full.removeprefix(prefix): results.load(full)
                for full in results.names(name)
            }
        )

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self._of("standard"))

    @property
    def balls(self) -> list[tuple[str, float]]:
        """The (norm, eps) pairs of the training perturbations."""
        attacks = self._of("standard")[0].settings["attacks"]
        return [(norm, eps) for norm, eps in attacks]

    def standard(self, model: str) -> list[Accuracy]:
        """Standard accuracy of ``model``."""
        return [
            counted(record.values["standard"]) for record in self._of(model)
        ]

    def robust(
        self, model: str, norm: str, eps: float, quick: bool = False
    ) -> list[Accuracy]:
        """Robust accuracy in one ball, by the usual or the quick attack."""
        kind = "quick" if quick else "robust"
        return [
            counted(_find(record.values[kind], norm, eps))
            for record in self._of(model)
        ]

    def curve(self, model: str, norm: str) -> tuple[list[float], list[Mean]]:
        """Radii and mean robust accuracies along the recorded curve."""
        records = self._of(model)
        radii = [
            row["attack"]["eps"]
            for row in records[0].values["curve"]
            if row["attack"]["norm"] == norm
        ]
        means = [
            stats.over_seeds(
                [
                    counted(_find(record.values["curve"], norm, eps))
                    for record in records
                ]
            )
            for eps in radii
        ]
        return radii, means

    def _of(self, model: str) -> list[Record]:
        found: list[Record] = []
        while f"{model}-seed{len(found)}" in self.records:
            found.append(self.records[f"{model}-seed{len(found)}"])
        if not found:
            raise results.RecordError(f"no record of the model {model}")
        return found


def name_of(norm: str, eps: float, method: str) -> str:
    """A model's name in the records, such as ``"l2-1.5-half"``."""
    return f"{norm}-{eps:g}-{method}"


@dataclass(frozen=True)
class CostRow:
    """Cost of an update with ``steps`` PGD steps against a standard one.

    ``ratio`` of median seconds, between the smallest (``low``) and the
    largest (``high``) ratio of the rounds; ``passes`` is the same ratio in
    forward and backward passes.
    """

    steps: int
    ratio: float
    low: float
    high: float
    passes: float


def cost_rows(record: Record) -> list[CostRow]:
    """The rows of ``experiments.training_cost`` as ratios."""
    plain, *others = record.values["rows"]
    base = plain["seconds"]
    rows = []
    for row in others:
        each = [a / b for a, b in zip(row["seconds"], base, strict=True)]
        rows.append(
            CostRow(
                row["steps"],
                statistics.median(row["seconds"]) / statistics.median(base),
                min(each),
                max(each),
                (row["forwards"] + row["backwards"])
                / (plain["forwards"] + plain["backwards"]),
            )
        )
    return rows


def counted(row: Mapping[str, Any]) -> Accuracy:
    """The counts of a record's row as an accuracy."""
    return Accuracy(row["correct"], row["total"])


def _find(
    rows: list[dict[str, Any]], norm: str, eps: float
) -> dict[str, Any]:
    for row in rows:
        attack = row["attack"]
        if attack["norm"] == norm and abs(attack["eps"] - eps) < 1e-9:
            return row
    raise results.RecordError(f"no attack with norm {norm}, eps {eps}")
