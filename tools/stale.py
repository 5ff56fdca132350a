"""List the records that a change of the code may have made stale.

    python tools/stale.py            # all of them; fails if there are any
    python tools/stale.py 'toy-*'    # of some
    python tools/stale.py --note 'toy-*'  # these hold what they should

A record is fresh if it was made with the code as it is now, or if somebody
has vouched for it since: results/CODE.lock says who rests on which state of
the code, what was computed again and what was taken on trust. To vouch,
`make audit ONLY='toy-*' VOUCH='one sentence that says why'` computes a
sample again and writes the file; it refuses where a number differs.

A record also has to hold what it held when it was noted: results/RECORDS.lock
has a digest of each. A number that was changed by hand fails the command;
whoever has made a record anew says so with ``--note``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib import freshness

ROOT = Path(__file__).resolve().parent.parent
LOCK = "CODE.lock"  # JSON, but not a record
NOTED = "RECORDS.lock"  # likewise
# A function, a file that it reaches, an earlier digest: the one of today.
# Both may be "", for a file that only the other way reaches.
Renamed = dict[str, dict[str, dict[str, str]]]
COUNTS = "how-tested.json"  # no experiment: what `make counts` counts
# Which function made a record. The first pattern that fits counts.
EXPERIMENTS = {
    "training-mnist/*": "lib/experiments.py:train_and_attack",
    "training-cifar10/*": "lib/experiments.py:train_and_attack",
    "training-imagenette/*": "lib/experiments.py:train_and_attack",
    "judges/*": "lib/experiments.py:train_and_attack",
    "aligned/networks/*": "lib/experiments.py:train_and_attack",
    "training-cost-mnist": "lib/experiments.py:training_cost",
    "sizes-mnist/*": "lib/sizes.py:train_and_measure",
    "sizes-cifar10/*": "lib/sizes.py:train_and_measure",
    "sizes-mnist-mistakes": "lib/sizes.py:pictures",
    "sizes-cifar10-mistakes": "lib/sizes.py:pictures",
    "sizes-confusion": "lib/confusion.py:measure",
    "gradients/*": "lib/seeing.py:measure",
    "large/controls-*": "lib/large_controls.py:measure",
    "large/distances-*": "lib/perceptual.py:measure",
    "large/masking-*": "lib/masking.py:measure",
    "large/*": "lib/large.py:measure",
    "aligned/large/*": "lib/large.py:measure",
    "aligned/features-cifar10": "lib/aligned_features.py:measure",
    "aligned/*": "lib/aligned.py:measure",
    "toy-easy/weak-features": "lib/toy_experiments.py:weak_features",
    "toy-tradeoff/cloud": "lib/toy_experiments.py:cloud",
    "toy-tradeoff/frontier": "lib/toy_experiments.py:frontier",
    "toy-training/svm": "lib/toy_experiments.py:svm",
    "toy-training/adversarial": "lib/toy_experiments.py:adversarial",
    "toy-training/transfer": "lib/toy_experiments.py:transfer",
    "toy-training/noise": "lib/toy_experiments.py:noise",
    "toy-training/lemmas": "lib/toy_experiments.py:lemmas",
    "toy-pixels/linear": "lib/toy_pixels_experiments.py:linear_digits",
    "toy-pixels/choices": "lib/toy_pixels_experiments.py:choices",
    "toy-pixels/selection": "lib/toy_pixels_experiments.py:selected_pixels",
    "toy-pixels/transfer": "lib/toy_pixels_experiments.py:transfer",
    "toy-pixels/noise": "lib/toy_pixels_experiments.py:noise_pixels",
    "toy-pixels/planted": "lib/toy_planted.py:networks",
    "benchmarks/strength-*": "benchmarks/strength.py:measure",
    "benchmarks/disputed-*": "benchmarks/disputed.py:measure",
    "benchmarks/speed-growth": "benchmarks/speed.py:growth",
    "benchmarks/speed-*": "benchmarks/speed.py:attacks",
    "benchmarks/training-methods": "benchmarks/training.py:methods",
    "benchmarks/training-race": "benchmarks/training.py:race",
    "benchmarks/training-epoch": "benchmarks/training.py:epoch",
    "benchmarks/training-many": "benchmarks/training.py:many",
}


@dataclass(frozen=True)
class State:
    """One record: on what it rests now, and what has changed since.

    ``changed`` names files and networks; it is empty for a fresh record.
    ``how`` is ``"made"``, ``"vouched"`` or ``"stale"``.
    """

    name: str
    family: str  # the pattern in EXPERIMENTS
    content: dict
    now: dict[str, str]
    how: str
    changed: tuple[str, ...] = ()


def family_of(name: str) -> str:
    """The pattern of ``EXPERIMENTS`` for a record; exits where none fits."""
    for pattern in EXPERIMENTS:
        if fnmatchcase(name, pattern):
            return pattern
    sys.exit(
        f"results/{name}.json: nobody knows which function made it. Add its "
        "name to EXPERIMENTS in tools/stale.py."
    )


def read_lock(root: Path = ROOT) -> dict[str, dict]:
    """The vouchers of ``results/CODE.lock`` by family."""
    return _lock(root).get("vouched", {})


def read_renamed(root: Path = ROOT) -> Renamed:
    """What ``results/CODE.lock`` knows of digests taken in another way."""
    return _lock(root).get("renamed", {})


def _lock(root: Path) -> dict[str, dict]:
    return _read(root / "results" / LOCK)


def _read(file: Path) -> dict[str, dict]:
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def write_lock(vouched: dict, renamed: Renamed, root: Path = ROOT) -> None:
    about = (
        "Written by tools/audit.py --vouch and tools/redigest.py, read by "
        "tools/stale.py. Records whose code has one of the hashes records_of "
        "hold for the code made_of (digests of what a run reaches, see "
        "lib/freshness.py). worst is in units of the recorded spread. "
        "renamed: digests that records may carry from an earlier way of "
        "taking them, and those of the same code now."
    )
    text = {"about": about, "vouched": vouched, "renamed": renamed}
    _write(root / "results" / LOCK, text)


def _write(file: Path, text: dict) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, file)


def as_now(made_of: dict[str, str], place: str, renamed: Renamed) -> dict:
    """``made_of`` in today's digests, as far as they are known."""
    found = dict(made_of)
    for file, known in renamed.get(place, {}).items():
        digest = made_of.get(file, "")
        found[file] = known.get(digest, digest)
    return {name: digest for name, digest in found.items() if digest}


def states(root: Path = ROOT) -> dict[str, State]:
    """Every committed record under its name, fresh or stale."""
    lock = _lock(root)
    found = {
        name: _state(name, content, lock, root)
        for name, content in contents(root) if f"{name}.json" != COUNTS
    }  # fmt: skip
    return {name: _downstream(each, found) for name, each in found.items()}


def contents(root: Path = ROOT) -> Iterator[tuple[str, dict]]:
    """Name and content of every record; exits where one is damaged."""
    folder = root / "results"
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix().removesuffix(".json")
        try:
            yield name, json.loads(path.read_text("utf-8"))
        except ValueError as error:
            sys.exit(f"{path} is damaged ({error}); restore it with git")


def _state(name: str, content: dict, lock: dict, root: Path) -> State:
    family = family_of(name)
    place = EXPERIMENTS[family]
    networks = freshness.weights_of(content["settings"], root / "results")
    now = freshness.digests(*place.split(":"), root) | networks
    code = content["code"]
    voucher = lock.get("vouched", {}).get(family, {})
    then = code.get("made_of")
    if then is not None:
        then = as_now(then, place, lock.get("renamed", {}))
    if then == now:
        return State(name, family, content, now, "made")
    if code["lib_sha256"] in voucher.get("records_of", ()):
        then = voucher["made_of"]
    if then is None:
        unknown = ("the code that it was made with is not known here",)
        return State(name, family, content, now, "stale", unknown)
    changed = _changes(then, now)
    how = "stale" if changed else "vouched"
    return State(name, family, content, now, how, changed)


def _changes(then: dict, now: dict) -> tuple[str, ...]:
    """What a record rests on that is not what it was.

    A voucher names the networks of all its records, a record its own.
    """
    files = {name for name in then if name.endswith(".py")}
    return tuple(
        name for name in sorted(files | now.keys())
        if then.get(name) != now.get(name)
    )  # fmt: skip


def _downstream(each: State, found: dict[str, State]) -> State:
    """A record is stale too where a network that it rests on is."""
    bad = tuple(
        f"{name} (stale itself)" for name in each.now
        if name in found and found[name].changed
    )  # fmt: skip
    if not bad:
        return each
    return State(
        each.name, each.family, each.content, each.now, "stale",
        each.changed + bad,
    )  # fmt: skip


# --- what records held when they were noted -------------------------------


def digest(content: dict) -> str:
    """Sixteen digits that change with anything that a record says."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def changes(patterns: list[str], root: Path = ROOT) -> dict[str, str]:
    """Records that are not as they were noted, and in which way."""
    noted = _read(root / "results" / NOTED).get("records", {})
    found = {name: digest(content) for name, content in contents(root)}
    return {
        name: "new" if name not in noted
        else "gone" if name not in found else "changed"
        for name in sorted(noted.keys() | found.keys())
        if noted.get(name) != found.get(name) and _fits(name, patterns)
    }  # fmt: skip


def note(patterns: list[str], root: Path = ROOT) -> None:
    """From now on these records are to hold what they hold."""
    noted = _read(root / "results" / NOTED).get("records", {})
    for name, how in changes(patterns, root).items():
        print(f"noted: results/{name}.json ({how})")
    kept = {n: old for n, old in noted.items() if not _fits(n, patterns)}
    now = {
        name: digest(content) for name, content in contents(root)
        if _fits(name, patterns)
    }  # fmt: skip
    about = (
        "Written by tools/stale.py --note, read by tools/stale.py: the first "
        "digits of the SHA-256 of every record (its JSON with sorted keys)."
    )
    text = {"about": about, "records": dict(sorted((kept | now).items()))}
    _write(root / "results" / NOTED, text)


def _fits(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@cache
def _advice(family: str) -> str:
    return (
        f"  make audit ONLY='{family}' VOUCH='why no number changes'\n"
        "  or delete these records and make them again (CONTRIBUTING.md)"
    )


def main(arguments: list[str], root: Path = ROOT) -> int:
    if arguments[:1] == ["--note"]:
        if not arguments[1:]:
            sys.exit("Name records, or a pattern of them in quotes: "
                     "make note ONLY='toy-*'")  # fmt: skip
        note(arguments[1:], root)
        return 0
    patterns = arguments or ["*"]
    chosen = [
        each for each in states(root).values() if _fits(each.name, patterns)
    ]
    other = changes(patterns, root)
    for name, how in other.items():
        print(
            f"results/{name}.json is {how}: not what results/{NOTED} has\n"
            f"  git diff results/{name}.json shows what is not committed; "
            "restore it with git, or,\n  if it was made anew: "
            f"make note ONLY='{name}'"
        )
    groups: dict[tuple, list[str]] = {}
    for each in chosen:
        if each.changed:
            key = each.family, each.changed
            groups.setdefault(key, []).append(each.name)
    for (family, changed), names in groups.items():
        some = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        print(f"{len(names)} stale: {some}\n  changed: {', '.join(changed)}")
        print(_advice(family))
    count = {
        how: sum(each.how == how for each in chosen)
        for how in ("made", "vouched", "stale")
    }
    print(
        f"{len(chosen)} records: {count['made']} made with this code, "
        f"{count['vouched']} vouched for, {count['stale']} stale; "
        f"{len(other)} not as they were noted"
    )
    return 1 if count["stale"] or other else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
