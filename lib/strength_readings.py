"""Words for the records of ``benchmarks/strength.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import results
from .seeing_plots import NAMES
from .size_plots import called


def spread(values: Iterable[float], digits: int = 1) -> str:
    """The smallest and the largest value; one number where they agree."""
    found = list(values)
    ends = [f"{end(found):.{digits}f}" for end in (min, max)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def subject(at: Mapping[str, Any]) -> tuple[str, str]:
    """Data and network of a benchmark, and the ball if not its own.

    ``at`` are the settings of its record.
    """
    recipe = results.load(at["weights"]).settings["recipe"]

    def ball(of: Mapping[str, Any]) -> str:
        return called((of["norm"], of["eps"]), at["data"])

    robust = recipe["method"] != "standard"
    network, attacked = ball(recipe) if robust else "standard", ball(at)
    said = network if network == attacked else f"{network} in {attacked}"
    return NAMES[at["data"]], said
