"""Copy what must be equal everywhere: the address, the first cell, kinds.

The repository's address is written once, in ``_config.yml``; the first cell
once, in ``tools/first_cell.py``; the kind of every exercise once, in the list
of ``book/teaching.md``. This script carries them to their copies, and gives
every chapter the badge that opens it on Colab.

    python tools/sync.py            write the copies
    python tools/sync.py --check    change nothing, exit 1 if a copy differs
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
FIRST_CELL = "tools/first_cell.py"
CELL_ID = "first-cell"
CELL_TAG = "hide-input"
TEACHING = "book/teaching.md"
# What an exercise begins with, by its kind in the list of all exercises.
KINDS = {"everyone": "For everyone", "idea": "Needs an idea", "open": "Open"}
_KIND_ROW = re.compile(
    r"^\| \{ref\}`(\S+)`: [^|]* \| [^|]* \| (\w+) \|", re.MULTILINE
)
_TASK = re.compile(
    r"(^:::+\{exercise(?:-start)?\}[^\n]*\n:label: (\S+)\n(?::::+\n)?\n)"
    rf"(?:\*(?:{'|'.join(KINDS.values())})\.\*[ \n])?",
    re.MULTILINE,
)
# The picture lies in the book, so that the page asks no other host for it.
_BADGE = "[![Open in Colab](_static/colab.svg)]"
# Text files that name the repository; the notebooks are added to these.
TEXTS = (
    "README.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE-TEXT",
)
# Of these, the ones that have to name it.
MUST_NAME = (FIRST_CELL, "README.md", "CITATION.cff", "LICENSE-TEXT")


def address(root: Path) -> str:
    """The repository's address in ``_config.yml``, without a final slash.

    Raises ``ValueError`` when it is not ``https://github.com/owner/name``,
    since the Colab button and the page links are derived from that form.
    """
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    url = str(config["repository"]["url"]).rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url):
        raise ValueError(
            f"_config.yml: repository.url is {url!r}; "
            "expected https://github.com/owner/name"
        )
    return url


def site(root: Path) -> str:
    """Where the built pages are on the web, with a final slash.

    ``html.baseurl`` of ``_config.yml``, or GitHub's pages of the repository.
    """
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    own = config.get("html", {}).get("baseurl") or _forms(address(root))[2]
    return f"{own.rstrip('/')}/"


def address_in_cell(cell: str) -> str:
    """The address that the first cell clones, which is the one in force."""
    found = re.search(r'"(https://github\.com/[^"\s]+)"', cell)
    if not found:
        raise ValueError(f"{FIRST_CELL} no longer names a repository")
    return found.group(1)


def readdress(text: str, old: str, new: str) -> str:
    """``text`` with every form of the address ``old`` turned into ``new``.

    The forms are the repository itself, its Colab link and its page site.
    The bare words OWNER/REPO, with no host, stay as they are.
    """
    for before, after in zip(_forms(old), _forms(new), strict=True):
        text = re.sub(re.escape(before) + r"(?![\w-])", after, text)
    return text


def _forms(url: str) -> tuple[str, str, str]:
    owner, name = url.removeprefix("https://github.com/").split("/")
    return (
        f"https://github.com/{owner}/{name}",
        f"https://colab.research.google.com/github/{owner}/{name}",
        f"https://{owner}.github.io/{name}",
    )


def with_first_cell(notebook: dict, cell: str) -> dict:
    """A copy of ``notebook`` whose second cell is the first *code* cell.

    Cell 1 is the title. An older copy of the first cell, known by its id or
    its first line, is replaced wherever it stands; outputs are left out.
    """
    fresh = {
        "cell_type": "code",
        "execution_count": None,
        "id": CELL_ID,
        "metadata": {"tags": [CELL_TAG]},
        "outputs": [],
        "source": cell.rstrip("\n").splitlines(keepends=True),
    }
    opening = cell.splitlines()[0]
    cells = [
        c
        for c in notebook["cells"]
        if c.get("id") != CELL_ID
        and not "".join(c["source"]).startswith(opening)
    ]
    return {**notebook, "cells": [*cells[:1], fresh, *cells[1:]]}


def with_badge(notebook: dict, link: str) -> dict:
    """A copy whose title cell ends in the badge that opens ``link``."""
    title, *others = notebook["cells"]
    text = "".join(title["source"])
    text = text.partition(f"\n\n{_BADGE}")[0] + f"\n\n{_BADGE}({link})"
    fresh = {**title, "source": text.splitlines(keepends=True)}
    return {**notebook, "cells": [fresh, *others]}


def kinds(teaching: str) -> dict[str, str]:
    """Label and kind of every exercise in the list for instructors.

    Raises ``ValueError`` for a kind that is not one of ``KINDS``.
    """
    found = dict(_KIND_ROW.findall(teaching))
    for label, kind in found.items():
        if kind not in KINDS:
            raise ValueError(
                f"{TEACHING}: the kind of {label} is {kind!r}; write one of "
                + ", ".join(KINDS)
            )
    return found


def with_kinds(notebook: dict, kinds: dict[str, str]) -> dict:
    """A copy whose exercises begin with their kind, where one is listed."""

    def marked(task: re.Match[str]) -> str:
        kind = kinds.get(task[2])
        return f"{task[1]}*{KINDS[kind]}.* " if kind else task[0]

    cells = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and _TASK.search(text):
            text = _TASK.sub(marked, text)
            cell = {**cell, "source": text.splitlines(keepends=True)}
        cells.append(cell)
    return {**notebook, "cells": cells}


def _notebook_text(notebook: dict) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def planned(root: Path) -> dict[Path, str]:
    """Every file that carries a copy, with the text it should have."""
    new = address(root)
    cell = (root / FIRST_CELL).read_text("utf-8")
    old = address_in_cell(cell)
    cell = readdress(cell, old, new)
    plan = {}
    texts = [root / name for name in TEXTS if (root / name).exists()]
    for path in (*texts, *sorted(root.glob("book/*.md"))):
        plan[path] = readdress(path.read_text("utf-8"), old, new)
    teaching = root / TEACHING
    listed = kinds(teaching.read_text("utf-8")) if teaching.exists() else {}
    for path in sorted(root.glob("book/*.ipynb")):
        text = readdress(path.read_text("utf-8"), old, new)
        notebook = with_first_cell(json.loads(text), cell)
        link = f"{_forms(new)[1]}/blob/main/book/{path.name}"
        notebook = with_kinds(with_badge(notebook, link), listed)
        plan[path] = _notebook_text(notebook)
    # Last, because it says what the copies hold: after an interruption a
    # second run still knows the old address.
    plan[root / FIRST_CELL] = cell
    return plan


def differences(root: Path) -> list[str]:
    """What ``--check`` complains about, one line each; empty when in step."""
    url = address(root)
    found = [f"{n}: is missing" for n in MUST_NAME if not (root / n).exists()]
    for path, text in planned(root).items():
        name = path.relative_to(root)
        now = path.read_text("utf-8")
        same = (
            _loaded(now) == _loaded(text)
            if path.suffix == ".ipynb"
            else now == text
        )
        if not same:
            found.append(f"{name}: differs, run `make sync`")
        elif str(name) in MUST_NAME and url not in now:
            found.append(f"{name}: does not name {url}")
    return found


def _loaded(notebook: str) -> dict:
    """A notebook with each cell's source joined: layout does not count."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"])
    return content


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--root", type=Path, default=ROOT)
    options = parser.parse_args()
    if options.check:
        found = differences(options.root)
        print("\n".join(found) or "All copies agree.")
        return 1 if found else 0
    changed = 0
    for path, text in planned(options.root).items():
        if path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(options.root)}")
            changed += 1
    print(f"{changed} file(s) brought in step." if changed else "In step.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
