"""Means and intervals over seeds: the spread that goes with a number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student

from .evaluation import Accuracy


@dataclass(frozen=True)
class Mean:
    """A mean over ``seeds`` runs with its 95 % interval.

    With two seeds or more the interval is Student's t over the seeds. With
    one it is what the test images alone allow (Wilson), and says nothing
    about another seed. An accuracy's interval is never narrower than the
    test images allow.
    """

    value: float
    low: float
    high: float
    seeds: int

    def per_cent(self, digits: int = 2) -> str:
        """Such as ``97.41 [97.10, 97.72]``, in per cent."""
        value, low, high = (
            f"{100 * part:.{digits}f}"
            for part in (self.value, self.low, self.high)
        )
        return f"{value} [{low}, {high}]"

    def plus_minus(self, digits: int = 2) -> str:
        """Such as ``97.41 ± 0.31``: half the interval, the longer side."""
        half = max(self.high - self.value, self.value - self.low)
        return f"{100 * self.value:.{digits}f} ± {100 * half:.{digits}f}"


def mean(values: Sequence[float]) -> Mean:
    """Mean of two or more numbers with Student's t interval at 95 %.

    Raises ``ValueError`` for fewer than two.
    """
    n = len(values)
    if n < 2:
        raise ValueError("an interval over seeds needs at least two seeds")
    middle = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(n)
    half = float(student.ppf(0.975, n - 1)) * error
    return Mean(middle, middle - half, middle + half, n)


def over_seeds(seen: Sequence[Accuracy]) -> Mean:
    """Mean accuracy over seeds; see :class:`Mean` for the interval.

    Bounds lie in [0, 1]. Raises ``ValueError`` for an empty sequence.
    """
    if not seen:
        raise ValueError("there is no accuracy to average")
    if len(seen) == 1:
        return Mean(seen[0].value, *seen[0].interval, 1)
    found = mean([one.value for one in seen])
    # seeds that agree by chance do not make the test images more numerous
    total = seen[0].total
    low, high = Accuracy(round(found.value * total), total).interval
    return Mean(
        found.value,
        max(0.0, min(low, found.low)),
        min(1.0, max(high, found.high)),
        found.seeds,
    )


def paired(first: Sequence[Accuracy], second: Sequence[Accuracy]) -> Mean:
    """Mean of ``first - second``, seed by seed, with its 95 % interval.

    Two models of one seed share their initial weights, data order and test
    images, so their difference varies less than either of them. With one
    seed the interval is the normal one for two independent counts, which
    is too wide rather than too narrow.
    """
    gaps = [a.value - b.value for a, b in zip(first, second, strict=True)]
    if len(gaps) > 1:
        return mean(gaps)
    error = math.sqrt(
        sum(
            one.value * (1 - one.value) / one.total
            for one in (first[0], second[0])
        )
    )
    return Mean(gaps[0], gaps[0] - 1.96 * error, gaps[0] + 1.96 * error, 1)
