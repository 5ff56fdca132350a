"""Mutation testing: change lib.attacks, lib.toy and lib.evaluation everywhere.

    python tools/mutants.py                # about six minutes on two cores
    python tools/mutants.py --json FILE    # and writes the totals by file

mutmut (settings in pyproject.toml) makes every small change it knows of, one
at a time, and runs the quick unit tests that reach it. A change that no test
notices survives. It is listed with the reason why it may, from
``tests_variants/survivors.json``; a survivor without a reason, or fewer than
``LEAST`` of all changes noticed, fails the command. ``make mutants`` hands
the totals to tools/counts.py.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "_build" / "mutants"
REASONS = ROOT / "tests_variants" / "survivors.json"
LEAST = 0.9
RESULT = re.compile(r"^\s*(?P<name>\S+__mutmut_\d+): (?P<state>.+?)\s*$")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args(arguments)
    _copy()
    subprocess.run([*_mutmut(), "run"], cwd=COPY, check=True)
    states = dict(results(_told("results", "--all", "true")))
    killed = sum(state == "killed" for state in states.values())
    share = killed / len(states)
    reasons = json.loads(REASONS.read_text("utf-8"))
    without = []
    for name in sorted(n for n, s in states.items() if s != "killed"):
        change = changed(_told("show", name))
        reason = explained(name, change, reasons)
        print(f"\n{name}: {states[name]}, {reason or 'NO REASON GIVEN'}")
        print("\n".join(f"    {line}" for line in change))
        if reason is None:
            without.append(name)
    print(
        f"\n{killed} of {len(states)} changes noticed ({share:.1%}); "
        f"{len(without)} others without a reason in {REASONS.name}"
    )
    if asked.json:
        run = {
            "on": f"{datetime.now(timezone.utc):%Y-%m-%d}",
            "commit": _git("describe", "--always", "--dirty", "--exclude=*"),
            "files": totals(states, set(without)),
        }
        asked.json.write_text(json.dumps(run, indent=1) + "\n", "utf-8")
    return int(bool(without) or share < LEAST)


def totals(
    states: dict[str, str], without: set[str]
) -> dict[str, dict[str, int]]:
    """By file: changes killed, those that survived, and how many of these
    are explained (all that are not in ``without``)."""
    found: dict[str, dict[str, int]] = {}
    for name, state in sorted(states.items()):
        file = name.rpartition(".")[0].replace(".", "/") + ".py"
        none = {"killed": 0, "survived": 0, "explained": 0}
        row = found.setdefault(file, none)
        row["killed" if state == "killed" else "survived"] += 1
        row["explained"] += state != "killed" and name not in without
    return found


def results(told: str) -> Iterator[tuple[str, str]]:
    """Name and state of each mutant, from what ``mutmut results`` prints."""
    for line in told.splitlines():
        if found := RESULT.match(line):
            yield found["name"], found["state"]


def changed(shown: str) -> list[str]:
    """The changed lines of a diff, as ``- old`` and ``+ new``."""
    return [
        f"{line[0]} {line[1:].strip()}"
        for line in shown.splitlines()
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]


def explained(
    name: str, change: list[str], reasons: dict[str, dict[str, list[str]]]
) -> str | None:
    """The reason under which a change of a function is listed, if any.

    ``reasons`` has for each reason the new lines by function, which is
    named as mutmut does, without ``lib.`` and the number.
    """
    function = name.removeprefix("lib.").rpartition("__mutmut_")[0]
    lines = {line[2:] for line in change if line.startswith("+")}
    for reason, known in reasons.items():
        if lines & set(known.get(function, ())):
            return reason
    return None


def _copy() -> None:
    """The files of the repository, tracked or new, without old mutants."""
    shutil.rmtree(COPY, ignore_errors=True)
    listed = _git("ls-files", "-z", "-co", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def _mutmut() -> list[str]:
    return [sys.executable, "-m", "mutmut"]


def _told(*arguments: str) -> str:
    return subprocess.run(
        [*_mutmut(), *arguments],
        cwd=COPY, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
