"""Carry the digests of the code over to another way of taking them.

    python tools/redigest.py COMMIT

For whoever changes lib/freshness.py. COMMIT is the last one with the old
way. It says itself that all its records are fresh; then the digests that its
code has in the old way are paired with those that the very same code has
now. results/CODE.lock gets the pairs, by which a record that names old
digests is held against the code of today. Vouchers are written anew.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import stale

from lib import freshness

# Runs in COMMIT's tree: who is stale there, and what its functions rest on.
ASK = """
import json, sys
sys.path.insert(0, "tools")
import stale
from lib import freshness
states = stale.states()
print(json.dumps({
    "stale": [name for name, state in states.items() if state.changed],
    "rests_on": {
        place: freshness.digests(*place.split(":"))
        for place in {stale.EXPERIMENTS[s.family] for s in states.values()}
    },
}))
"""


def main(arguments: list[str], root: Path = stale.ROOT) -> int:
    (commit,) = arguments
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve()
        unpack(commit, root, tree)
        if stale.read_lock(root) != stale.read_lock(tree):
            sys.exit(f"results/{stale.LOCK} is not that of {commit}")
        lock = carried_over(tree)
        stale.write_lock(*lock, tree)
        states = stale.states(tree)
    if bad := [name for name, state in states.items() if state.changed]:
        sys.exit(f"stale by the new digests alone: {', '.join(bad)}")
    stale.write_lock(*lock, root)
    print(f"{len(states)} records, fresh before and after")
    return 0


def unpack(commit: str, root: Path, folder: Path) -> None:
    """The files of a commit, into ``folder``."""
    command = ["git", "archive", "--format=zip", commit]
    packed = subprocess.run(command, cwd=root, check=True, capture_output=True)
    with zipfile.ZipFile(io.BytesIO(packed.stdout)) as files:
        files.extractall(folder)


def carried_over(tree: Path) -> tuple[dict, stale.Renamed]:
    """Vouchers of ``tree`` in today's digests, and which is which.

    A file that a run reaches only by the new way counts as it is there; it
    is printed. Exits where a record is stale by the old digests.
    """
    asked = subprocess.run(
        [sys.executable, "-c", ASK], cwd=tree, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    told = json.loads(asked.stdout)
    if told["stale"]:
        sys.exit(f"stale before: {', '.join(told['stale'])}")
    vouched, renamed = stale.read_lock(tree), stale.read_renamed(tree)
    for place, before in sorted(told["rests_on"].items()):
        now = freshness.digests(*place.split(":"), tree)
        for file in sorted(before.keys() | now.keys()):
            old, new = before.get(file, ""), now.get(file, "")
            known = renamed.setdefault(place, {}).setdefault(file, {})
            known |= {e: new for e, then in known.items() if then == old}
            known[old] = new
            if not old:
                print(f"{place} reaches {file} as well")
    for family, voucher in vouched.items():
        if place := stale.EXPERIMENTS.get(family):
            now = stale.as_now(voucher["made_of"], place, renamed)
            voucher["made_of"] = now
    return vouched, renamed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
