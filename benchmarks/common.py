"""What the benchmark scripts share: fair timing, peers, records.

Contenders take turns within one process, in another order every round, and
are compared by the ratio of their medians. A machine that other programs
slow down for a while then slows everybody down alike.
"""

from __future__ import annotations

import importlib.util
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the scripts run from any folder

from lib import results  # noqa: E402


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    device: torch.device | str = "cpu",
    calls: int = 1,
    warmup: int = 1,
) -> dict[str, list[float]]:
    """Seconds of one call of each contender, a list of ``rounds`` each.

    Every round runs all contenders, ``calls`` times each, in a shuffled
    order; ``warmup`` rounds come first and are not counted. The clock is
    :func:`seconds`.
    """
    order = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-warmup, rounds):
        for name in order.sample(list(contenders), len(contenders)):
            spent = seconds(contenders[name], device, calls)
            if turn >= 0:
                times[name].append(spent)
    return times


def seconds(
    run: Callable[[], object],
    device: torch.device | str = "cpu",
    calls: int = 1,
) -> float:
    """Cost of one call of ``run``, averaged over ``calls``.

    CPU: processor seconds of this process (all its threads), which other
    programs hardly change. CUDA: device events, which leave out what ran
    on the device before.
    """
    if torch.device(device).type == "cuda":
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        torch.cuda.synchronize(device)
        events[0].record()
        for _ in range(calls):
            run()
        events[1].record()
        torch.cuda.synchronize(device)
        return events[0].elapsed_time(events[1]) / 1000 / calls
    began = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - began) / calls


def ratio(times: Mapping[str, list[float]], name: str, base: str) -> dict:
    """How many times what ``base`` cost ``name`` cost.

    Returns ``ratio``, the ratio of the medians, and ``low`` and ``high``,
    the quartiles of the ratios within each round: the spread.
    """
    value = statistics.median(times[name]) / statistics.median(times[base])
    each = [a / b for a, b in zip(times[name], times[base], strict=True)]
    low, _, high = (
        statistics.quantiles(each, n=4, method="inclusive")
        if len(each) > 1
        else each * 3
    )
    return {
        "ratio": round(value, 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }


def table(times: Mapping[str, list[float]], base: str) -> dict:
    """For each contender the median seconds and :func:`ratio` to base."""
    return {
        name: {
            "seconds": round(statistics.median(spent), 6),
            **ratio(times, name, base),
        }
        for name, spent in times.items()
    }


def peer(module: str) -> Any | None:
    """An optional library, or ``None`` where it is not installed.

    The folder named by ``BENCH_PEERS`` is searched last, so that peers
    can live apart from the book's own environment.
    """
    _find_peers()
    name = module.partition(".")[0]
    if importlib.util.find_spec(name) is None:
        return None
    return importlib.import_module(module)


def _find_peers() -> None:
    """Search the folder named by ``BENCH_PEERS`` after all others."""
    folder = os.environ.get("BENCH_PEERS", "")
    if folder and folder not in sys.path:
        sys.path.append(folder)


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of those ``packages`` that are there."""
    from importlib.metadata import PackageNotFoundError, version

    _find_peers()
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def record(
    name: str,
    settings: dict,
    run: Callable[[dict], dict],
    *,
    smoke: bool = False,
) -> dict:
    """Run a benchmark and keep it as ``results/benchmarks/<name>.json``.

    ``run(settings)`` returns plain values. An equal record is read, not
    made again: delete the file to measure anew. ``smoke`` runs and keeps
    nothing. Returns the values.
    """
    os.environ["BOOK_RUN"] = "smoke" if smoke else "full"
    return results.load_or_run(f"benchmarks/{name}", settings, run).values


def one_thread() -> None:
    """One CPU thread: sharing small tensors out costs more than it gains."""
    torch.set_num_threads(1)
