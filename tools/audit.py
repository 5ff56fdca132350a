"""Compute a random sample of recorded points again and compare.

    python tools/audit.py --minutes 5                # any records
    python tools/audit.py --only 'toy-*' --seed 1    # some; the same sample
    python tools/audit.py --only 'toy-*' --vouch "One sentence that says why."
    python tools/audit.py --trusted                  # what nobody has seen

A point is computed again from its recorded settings. Where that takes too
long, a training is begun again, up to the first row of its recorded history,
or its network is loaded and evaluated. What differs is told
in units of the recorded spread: the standard error of a count or a mean,
and, for a network trained again, the deviation between seeds as well. The
exit status is 1 where a number differs by more than its kind allows, and
where there were records to draw from and none could be computed again.

With --vouch only stale records are drawn, and where all agree
results/CODE.lock notes that they hold for the code as it is now, what was
computed again and what was taken on trust; --trust is needed where a family
of records cannot be sampled at all (timings, data that are not here).
With --trusted only fresh records are drawn that were taken on trust so far;
those that agree are noted as computed again, and the reason stays.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints
from unittest.mock import patch

import stale
import torch

from lib import checkpoints, data, evaluation, protocols, results, training

WAYS = ("again", "begun", "loaded")
SHARE = 0.1  # of the time that one point may take, unless --dearest says
ATTACKED = 300  # images on which a loaded network is attacked again
NOT_NUMBERS = {  # times, and what was picked to be looked at
    "seconds", "cpu_seconds", "training_cpu_seconds", "yardsticks", "stages",
    "times_cheaper", "peer", "peers", "autoattack", "only_ours",
    "only_autoattack", "errors", "history", "shown", "walks", "passes",
    "forwards", "backwards",
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """How far numbers may lie apart, in units of the recorded spread.

    ``rel`` is the unit of a number without a recorded spread, relative to
    its size; None leaves such numbers out.
    """

    most: float
    rel: float | None
    why: str


KINDS = {
    "formula": Kind(0.5, 1e-4, "double precision: only rounding differs"),
    "measured": Kind(
        1.0, 0.02, "same networks, images and noise: rounding moves a few"
    ),
    "trained": Kind(
        4.0, None, "training amplifies rounding: as far as another seed"
    ),
    "curve": Kind(1.0, 0.1, "one run's curve: within a tenth"),
    "begun": Kind(
        1.0, 0.02, "first epochs trained again: rounding moves them little"
    ),
    "sampled": Kind(4.0, None, "the same network, attacked on fewer images"),
    "timing": Kind(0.0, None, "seconds of another day are not compared"),
}
KIND_OF = {
    "training-cost-mnist": "timing", "benchmarks/speed-*": "timing",
    "benchmarks/training-race": "curve", "benchmarks/training-*": "timing",
    "benchmarks/strength-*": "measured", "toy-pixels/planted": "trained",
    "toy-*": "formula", "gradients/*": "measured", "large/*": "measured",
    "aligned/networks/*": "trained", "aligned/*": "measured",
    "sizes-confusion": "measured", "sizes-*-mistakes": "measured",
    "*": "trained",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One point computed again: the largest difference, and where it is."""

    name: str
    how: str  # "again", "begun" or "loaded"
    kind: str
    worst: float
    where: str
    same_bits: bool
    seconds: float

    @property
    def agrees(self) -> bool:
        return self.worst <= KINDS[self.kind].most


def kind_of(name: str) -> str:
    """The kind of a record's numbers, by the first pattern that fits."""
    return next(k for p, k in KIND_OF.items() if fnmatchcase(name, p))


# --- comparing ------------------------------------------------------------


def differences(
    old: Any, new: Any, kind: Kind, spread: float = 0.0, at: str = ""
) -> Iterator[tuple[float, str]]:
    """Every number's difference in units of its spread, and its place.

    ``spread`` (a share) is added in quadrature to that of every count.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys():
            yield math.inf, f"{at}: other entries"
            return
        for key in old:
            if key in NOT_NUMBERS or key.endswith("error"):
                continue
            here = f"{at}.{key}" if at else key
            unit = _unit(old, key, spread)
            if unit is None:
                yield from differences(
                    old[key], new[key], kind, spread, here
                )
            else:
                told = f"{here} {old[key]} -> {new[key]}"
                yield abs(new[key] - old[key]) / unit, told
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield math.inf, f"{at}: other length"
        for row, (a, b) in enumerate(zip(old, new, strict=False)):
            yield from differences(a, b, kind, spread, f"{at}[{row}]")
    elif isinstance(old, (int, float)) and isinstance(new, (int, float)):
        if kind.rel is not None:
            unit = kind.rel * max(abs(old), abs(new), 0.01)
            yield abs(new - old) / unit, f"{at} {old} -> {new}"
    elif old != new and kind.rel is not None:
        yield math.inf, f"{at} {old} -> {new}"


def _unit(row: dict, key: str, spread: float) -> float | None:
    """The recorded spread of a row's number; None where there is none."""
    value, total = row[key], row.get("total")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # a whole number beyond the total counts something else
    if isinstance(total, int) and isinstance(value, int) and value <= total:
        if key == "total":
            return 1e-9  # has to be the same
        return total * math.hypot(_count_error(value, total), spread)
    alone = row.get("error") if key in ("mean", "share") else None
    error = row.get(f"{key}_error", alone)
    return max(error, 1e-9) if isinstance(error, float) else None


def _count_error(correct: int, total: int) -> float:
    """Standard error of a share, never 0 (as if of one more of each)."""
    share = (correct + 1) / (total + 2)
    return math.sqrt(share * (1 - share) / total)


def seed_spread(name: str, found: dict[str, stale.State]) -> float:
    """Deviation between seeds of the standard accuracy of one model."""
    stem = name.rpartition("-seed")[0]
    shares = [
        each["correct"] / each["total"]
        for other, state in found.items()
        if stem and other.rpartition("-seed")[0] == stem
        for each in [state.content["values"].get("standard", {})]
        if "correct" in each
    ]
    return statistics.stdev(shares) if len(shares) > 1 else 0.0


# --- computing again ------------------------------------------------------


def rebuild(hint: Any, plain: Any) -> Any:
    """Recorded settings as what the experiment takes."""
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{k: rebuild(hints[k], v) for k, v in plain.items()})
    return _tuples(plain)


def _tuples(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_tuples(each) for each in plain)
    if isinstance(plain, dict):
        return {key: _tuples(each) for key, each in plain.items()}
    return plain


def function(state: stale.State) -> Callable:
    """The experiment that made a record."""
    path, _, name = stale.EXPERIMENTS[state.family].partition(":")
    module = path.removesuffix(".py").replace("/", ".")
    if path.startswith("benchmarks/"):
        sys.path.append(str(stale.ROOT / "benchmarks"))
        module = Path(path).stem
    return getattr(importlib.import_module(module), name)


def takes(run: Callable) -> Any:
    """The type of an experiment's settings."""
    hints = get_type_hints(run)
    return next(hint for name, hint in hints.items() if name != "return")


def again(state: stale.State, folder: Path) -> tuple[dict, dict, bool]:
    """Recorded values, the same computed now, and whether every bit is."""
    run, plain = function(state), state.content["settings"]
    record = results.measure(state.name, _settings(run, plain), run)
    if record.settings != plain:
        raise ValueError(f"{state.name}: its settings mean something else now")
    known = results.load(state.name, folder)
    told = ("train", "test", "sha256")
    if [record.data.get(k) for k in told] != [known.data.get(k) for k in told]:
        raise ValueError(f"{state.name} was made with other data")
    same = _bits(record.values) == _bits(known.values) and all(
        torch.equal(value, record.arrays[key])
        for key, value in known.arrays.items()
    )
    return known.values, record.values, same


def _settings(run: Callable, plain: dict[str, Any]) -> Any:
    wanted = takes(run)
    return rebuild(wanted, plain) if is_dataclass(wanted) else plain


class _Enough(Exception):
    """The epoch that was wanted has been trained; holds its row."""


def begun(state: stale.State) -> tuple[dict, dict]:
    """The first recorded row of a training's history, and the same now.

    The experiment runs as it is, and is left after that epoch.
    """
    old = state.content["values"]["history"][0]
    epoch = training._epoch

    def counted(*given: Any) -> dict[str, Any]:
        row = epoch(*given)
        if row["epoch"] == old["epoch"]:
            raise _Enough(row)
        return row

    run = function(state)
    with patch.object(training, "_epoch", counted):
        try:
            run(_settings(run, state.content["settings"]))
        except _Enough as enough:
            (new,) = enough.args
            told = ("epoch", "loss", "accuracy", "eps")
            return {k: old[k] for k in told}, {k: new[k] for k in told}
    raise ValueError(f"{state.name}: trained without epoch {old['epoch']}")


def _begins(state: stale.State) -> float:
    """Seconds up to the first recorded row; infinite without a history."""
    values = state.content["values"]
    rows = values.get("history")
    if not isinstance(rows, list) or kind_of(state.name) != "trained":
        return math.inf
    spent = values.get("training_cpu_seconds")
    if spent is None:
        # records of the first days have seconds by the clock only
        spent = sum(row.get("cpu_seconds", row["seconds"]) for row in rows)
    return spent * rows[0]["epoch"] / values.get("epochs", len(rows))


def _bits(values: Any) -> Any:
    """Values without times, and without what peers have found."""
    if isinstance(values, dict):
        return {
            key: _bits(each) for key, each in values.items()
            if key not in NOT_NUMBERS or key in ("errors", "shown", "walks")
        }  # fmt: skip
    return [_bits(v) for v in values] if isinstance(values, list) else values


def loaded(state: stale.State, folder: Path) -> tuple[dict, dict, float]:
    """Recorded and new counts of a loaded network, and an attack's units.

    Standard accuracy on all test images, and the first recorded attack on
    the first few: the third value is its difference in standard errors.
    """
    model, record = checkpoints.load(state.name, folder=folder)
    point = record.settings
    found = data.load(point["dataset"], quiet=True).take(1, point["n_test"])
    x, y = found.x_test, found.y_test
    seen = evaluation.accuracy(model, x, y)
    units = 0.0
    for row in record.values["robust"][:1]:
        told, few = row["attack"], min(ATTACKED, len(x))
        now = evaluation.robust_accuracy(
            model, x[:few], y[:few], eps=told["eps"], norm=told["norm"],
            protocol=protocols.plain_pgd(*told["losses"], steps=told["steps"]),
            generator=torch.Generator().manual_seed(0),
        ).count  # fmt: skip
        share = row["correct"] / row["total"]
        error = _count_error(round(share * few), few)
        units = abs(now.value - share) / error
    new = {"correct": seen.correct, "total": seen.total}
    return record.values["standard"], new, units


def check(
    state: stale.State, way: str, spread: float, folder: Path
) -> Finding:
    """Compute one point again (or load it) and say how far it is off."""
    began = time.process_time()
    threads = state.content["environment"]["threads"]
    torch.set_num_threads(min(threads, os.cpu_count() or 1))
    kind = kind_of(state.name)
    if way == "again":
        old, new, same = again(state, folder)
        pairs = differences(old, new, KINDS[kind], spread)
        # numbers without a spread of their own may still be the same bits
        nothing = 0.0 if same else math.inf, "there is no number to compare"
        worst, where = max(pairs, default=nothing)
    elif way == "begun":
        kind = "begun"
        old, new = begun(state)
        same = old == new
        worst, where = max(differences(old, new, KINDS[kind]))
    else:
        old, new, units = loaded(state, folder)
        same = old == new
        measured = max(differences(old, new, KINDS["measured"]))
        # a loaded network answers as it did: in units of its own kind
        worst, where = max(
            (measured[0] * KINDS["sampled"].most, measured[1]),
            (units, f"{ATTACKED} images attacked"),
        )
        kind = "sampled"
    spent = time.process_time() - began
    return Finding(state.name, way, kind, worst, where, same, spent)


# --- the sample -----------------------------------------------------------


def way_of(state: stale.State, most: float) -> tuple[str, float]:
    """How to audit a point in ``most`` seconds, and what it may take.

    The way is "again", "begun", "loaded", or words that say why it is left
    out.
    """
    made = state.content["data"]
    if made and kind_of(state.name) != "timing" and not _here(made):
        return f"needs the full {made['name']} (BOOK_DATA)", 0.0
    return way_with_data(state, most)


def way_with_data(state: stale.State, most: float) -> tuple[str, float]:
    """As :func:`way_of` where all data are at hand."""
    if kind_of(state.name) == "timing":
        return "timings", 0.0
    cost = state.content["cost"]["cpu_seconds"]
    if cost <= most:
        return "again", cost
    if _begins(state) <= most:
        return "begun", _begins(state)
    recipe = state.content["settings"].get("recipe")
    if recipe and "attacks" in state.content["settings"]:
        trained = stale.EXPERIMENTS[state.family].endswith("train_and_attack")
        if trained and "arrays_sha256" in state.content:
            dear = recipe["model"] != "small_cnn"
            return "loaded", 60.0 if dear else 5.0
    return f"dearer than {most:.0f} s", 0.0


def _here(made: dict) -> bool:
    """Whether the data, or the very part of them, that a record used are."""
    name, sizes = made["name"], (made["train"], made["test"])
    return _complete(name) or _part(name, *sizes) == made["sha256"]


@cache
def _part(dataset: str, train: int, test: int) -> str:
    """Fingerprint of so many images; empty where there are fewer."""
    found = data.load(dataset, quiet=True)
    if train > len(found.y_train) or test > len(found.y_test):
        return ""
    return str(found.take(train, test).describe()["sha256"])


@cache
def _complete(dataset: str) -> bool:
    return data.load(dataset, quiet=True).complete


def in_turn(
    chosen: list[stale.State], rng: random.Random
) -> list[stale.State]:
    """One of each family at a time, in random order."""
    groups: dict[str, list] = {}
    for state in rng.sample(chosen, len(chosen)):
        groups.setdefault(state.family, []).append(state)
    rows = sorted(
        (rank, rng.random(), state)
        for group in groups.values() for rank, state in enumerate(group)
    )  # fmt: skip
    return [state for *_, state in rows]


def audit(
    chosen: list[stale.State], everything: dict, minutes: float, seed: int,
    dearest: float, root: Path = stale.ROOT,
) -> tuple[list[Finding], dict[str, int]]:  # fmt: skip
    """Findings, and how many points were left out for which reason."""
    left, slow = 60 * minutes, 1.0
    spent = promised = 0.0
    found: list[Finding] = []
    out: dict[str, int] = {}
    for state in in_turn(chosen, random.Random(seed)):
        way, cost = way_of(state, dearest / slow)
        if way in WAYS and cost * slow > left:
            way = "no time left"
        if way not in WAYS:
            out[way] = out.get(way, 0) + 1
            continue
        spread = seed_spread(state.name, everything)
        one = check(state, way, spread, root / "results")
        left -= one.seconds
        if cost > 2:  # a slower machine, by all points together
            spent, promised = spent + one.seconds, promised + cost
            slow = max(1.0, spent / promised)
        found.append(one)
        print(_row(one), flush=True)
    return found, out


def _row(one: Finding) -> str:
    verdict = "agrees" if one.agrees else f"DIFFERS: {one.where}"
    bits = "same bits" if one.same_bits else "rounding"
    return (
        f"{one.name:46} {one.how:6} {one.worst:8.2g} of "
        f"{KINDS[one.kind].most:3g}  {bits:9}  {one.seconds:5.1f} s  {verdict}"
    )


# --- vouching -------------------------------------------------------------


def vouch(
    family: str, everything: dict, findings: list[Finding], reason: str,
    root: Path,
) -> None:  # fmt: skip
    """Note in the lock that a family's records hold for the code of now."""
    members = [s for s in everything.values() if s.family == family]
    made_of: dict[str, str] = {}
    for state in members:
        made_of |= state.now
    lock = stale.read_lock(root)
    before = lock.get(family, {})
    audited = {
        one.name: {
            "how": one.how, "worst": float(f"{one.worst:.2g}"),
            "same_bits": one.same_bits,
        }
        for one in findings
    }  # fmt: skip
    if before.get("made_of") == made_of:  # records were added
        audited = before["audited"] | audited
    told = ("on", "why", "computed_again", "worst")
    earlier = before.get("earlier", [])
    if before and before.get("made_of") != made_of:
        earlier = [*earlier, {key: before[key] for key in told}]
    lock[family] = {
        "on": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "why": reason,
        "records": len(members),
        "computed_again": len(audited),
        "on_trust": sum(
            s.how != "made" and s.name not in audited for s in members
        ),
        "worst": max((a["worst"] for a in audited.values()), default=None),
        "audited": dict(sorted(audited.items())),
        "earlier": earlier,
        "records_of": sorted(
            {s.content["code"]["lib_sha256"] for s in members
             if s.how != "made"}
        ),
        "made_of": dict(sorted(made_of.items())),
    }  # fmt: skip
    stale.write_lock(lock, stale.read_renamed(root), root)


def _vouch_all(
    chosen: list[stale.State], everything: dict, found: list[Finding],
    reason: str, trust: bool, root: Path,
) -> int:  # fmt: skip
    """Vouch for each family that was sampled; how many were refused."""
    refused = 0
    for family in dict.fromkeys(state.family for state in chosen):
        names = {s.name for s in everything.values() if s.family == family}
        here = [one for one in found if one.name in names]
        if not here and not trust:
            refused += 1
            print(f"{family}: nothing computed again; not vouched for "
                  "(more --minutes, the data, or --trust)")  # fmt: skip
            continue
        vouch(family, everything, here, reason, root)
    return refused


def _note(everything: dict, found: list[Finding], root: Path) -> None:
    """Add what agrees to vouchers that hold; drop those nobody needs."""
    lock = stale.read_lock(root)
    for family in dict.fromkeys(everything[one.name].family for one in found):
        here = [one for one in found if everything[one.name].family == family]
        vouch(family, everything, here, lock[family]["why"], root)
    needed = {s.family for s in everything.values() if s.how != "made"}
    lock = stale.read_lock(root)
    kept = {name: lock[name] for name in lock if name in needed}
    stale.write_lock(kept, stale.read_renamed(root), root)


def on_trust(state: stale.State, lock: dict[str, dict]) -> bool:
    """Whether a record is fresh only because somebody said so."""
    known = lock.get(state.family, {}).get("audited", {})
    return state.how == "vouched" and state.name not in known


def _drawn_from(
    asked: argparse.Namespace, everything: dict, root: Path
) -> list[stale.State]:
    """The records that the options leave to be sampled."""
    lock = stale.read_lock(root)
    return [
        state for state in everything.values()
        if any(fnmatchcase(text, asked.only)
               for text in (state.name, state.family))
        and (state.changed or not asked.vouch)
        and (on_trust(state, lock) or not asked.trusted)
    ]  # fmt: skip


def main(arguments: list[str], root: Path = stale.ROOT) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--dearest", type=float, metavar="SECONDS")
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10_000)
    parser.add_argument("--trust", action="store_true")
    aim = parser.add_mutually_exclusive_group()  # stale or fresh records
    aim.add_argument("--vouch", metavar="REASON", default="")
    aim.add_argument("--trusted", action="store_true")
    asked = parser.parse_args(arguments)
    results.WORK = Path(tempfile.mkdtemp())  # take up no unfinished run
    everything = stale.states(root)
    chosen = _drawn_from(asked, everything, root)
    print(f"seed {asked.seed}, {asked.minutes:g} minutes of processor time")
    dearest = asked.dearest or SHARE * 60 * asked.minutes
    found, out = audit(
        chosen, everything, asked.minutes, asked.seed, dearest, root
    )
    red = [one for one in found if not one.agrees]
    for kind in sorted({one.kind for one in found}):
        rule = KINDS[kind]
        print(f"{kind}: up to {rule.most:g} units ({rule.why})")
    print(
        f"{len(found)} of {len(chosen)} points computed again, "
        f"{len(red)} differ; left out: "
        + (", ".join(f"{n} ({why})" for why, n in sorted(out.items())) or "0")
    )
    idle = bool(chosen) and not found
    if idle:
        print("Nothing was computed again: give more --minutes, or the data.")
    if asked.trusted:
        _note(everything, [one for one in found if one.agrees], root)
    if red:
        if asked.vouch:
            print("Not vouched for: see what differs above.")
        return 1
    if asked.vouch:
        refused = _vouch_all(
            chosen, everything, found, asked.vouch, asked.trust, root
        )
        return 1 if refused else 0
    return int(idle)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
