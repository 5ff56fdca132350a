"""Inject every fault of the list in tools/counts.py, and say what came of it.

    python tools/faults.py           # one line for each fault and test
    python tools/faults.py -n auto   # what follows is passed on to pytest

The exit status is 1 where a test failed, is missing, or was skipped: a fault
that was not injected has not been survived.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from counts import FAULTS, ROOT, functions


def outcomes(report: Path) -> dict[str, list[str]]:
    """The outcome of each case of a test, by ``file::name``.

    ``report`` is what ``pytest --junit-xml`` has written.
    """
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.attrib["classname"].rpartition(".")[2]
        name = case.attrib["name"].partition("[")[0]
        said = {child.tag for child in case}
        outcome = (
            "failed" if said & {"failure", "error"}
            else "skipped" if "skipped" in said else "passed"
        )  # fmt: skip
        found.setdefault(f"{file}.py::{name}", []).append(outcome)
    return found


def verdict(cases: list[str]) -> str:
    """One word for a test: as good as the worst of its cases."""
    for word in ("failed", "skipped"):
        if word in cases:
            return word
    return "passed" if cases else "missing"


def run(tests: list[str], options: list[str]) -> dict[str, list[str]]:
    """Outcomes of these tests in one run of pytest, offline."""
    own = {"BOOK_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    kept = {
        key: value for key, value in os.environ.items()
        if key not in ("BOOK_RUN", "BOOK_DATA")
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}",
             *options, *(f"tests/{name}" for name in tests)],
            cwd=ROOT, env=kept | own, text=True, capture_output=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            print(done.stdout[-20_000:] + done.stderr[-3000:])
        if not report.exists():
            sys.exit("pytest has written no report; see above")
        return outcomes(report)


def told(
    faults: Mapping[str, tuple[str, ...]], found: dict[str, list[str]]
) -> list[tuple[str, str, str]]:
    """Fault, test and verdict, in the order of the list."""
    return [
        (fault, name, verdict(found.get(name, [])))
        for fault, tests in faults.items() for name in tests
    ]  # fmt: skip


def main(options: list[str]) -> int:
    known = functions(ROOT / "tests")
    tests = [name for names in FAULTS.values() for name in names]
    found = run([name for name in tests if name in known], options)
    rows = told(FAULTS, found)
    for fault, name, word in rows:
        print(f"{fault:36} {word:8} {name}")
    bad = {fault for fault, _, word in rows if word != "passed"}
    print(f"{len(FAULTS) - len(bad)} of {len(FAULTS)} faults survived, by "
          f"{len(rows)} tests in {sum(map(len, found.values()))} cases")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
